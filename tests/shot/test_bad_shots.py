"""Each way a shot can be wrong: one line that names the place and what was expected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_shot import H, T, W

from pipeline.errors import ShotError
from pipeline.image import write_png
from pipeline.shot import open_shot, read_frames, read_motion, read_pass
from pipeline.shot.sequence import list_numbers

NAN = float("nan")
SMALL = np.zeros((H, W - 2, 3), np.uint8)


def cut(path: Path, kept: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def change_joints(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def mutate(root: Path) -> None:
        record = json.loads((root / "joints.json").read_text(encoding="utf-8"))
        change(record)
        (root / "joints.json").write_text(json.dumps(record), encoding="utf-8")

    return mutate


def remove(*numbers: int, name: str = "rgb", suffix: str = "png") -> Callable[[Path], None]:
    return lambda root: [(root / name / f"{name}.{n:04d}.{suffix}").unlink() for n in numbers] and None


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no rgb": (
        lambda root: shutil.rmtree(root / "rgb"),
        r"holds depth/, .* but no frames; expected rgb/",
    ),
    "empty rgb": (remove(*range(7, 13)), r"rgb: holds no \.png or .* files"),
    "gaps": (remove(8, 10, 11), r"rgb: 3 of frames 7-12 missing: 8, 10-11"),
    "short pass": (remove(12, name="depth", suffix="exr"), r"depth: 5 frames for 6 of rgb; missing 12"),
    "gap in a pass": (remove(9, name="ids"), r"ids: 1 of frames 7-12 missing: 9"),
    "two sequences": (lambda root: write_png(root / "rgb/b.0007.png", SMALL), r"rgb: holds two sequences"),
    "a frame twice": (lambda root: write_png(root / "rgb/rgb.00007.png", SMALL), r"frame 7 is there twice"),
    "no number": (lambda root: write_png(root / "rgb/thumb.png", SMALL), r"thumb\.png: no frame number"),
    "frame of another size": (
        lambda root: write_png(root / "rgb/rgb.0009.png", SMALL),
        r"rgb\.0009\.png: 38 x 24 pixels; expected 40 x 24 as rgb\.0007\.png",
    ),
    "pass of another size": (
        lambda root: write_png(root / "ids/ids.0009.png", SMALL[..., 0]),
        r"ids\.0009\.png: 38 x 24",
    ),
    "cut frame": (lambda root: cut(root / "rgb/rgb.0010.png"), r"rgb\.0010\.png: the file is cut short"),
    "empty frame": (lambda root: cut(root / "rgb/rgb.0010.png", 0), r"rgb\.0010\.png: the file is empty"),
    "cut depth": (
        lambda root: cut(root / "depth/depth.0010.exr"),
        r"depth\.0010\.exr: .* is cut short",
    ),
    "cut EXR header": (lambda root: cut(root / "depth/depth.0010.exr", 0.05), r"header is cut short"),
    "not an EXR": (lambda root: (root / "depth/depth.0010.exr").write_text("hello EXR"), r"not an OpenEXR"),
    "no joints JSON": (lambda root: cut(root / "joints.json"), r"joints\.json:\d+: not valid JSON"),
    "joints of another kind": (
        change_joints(lambda record: record.update(joints="openpose25")),
        r"joints = 'openpose25'; expected 'coco18'",
    ),
    "joints lack frames": (change_joints(lambda record: record["frames"].pop(2)), r"no joints for frames 9;"),
    "a frame's joints twice": (
        change_joints(lambda record: record["frames"].append(record["frames"][0])),
        r"frames\[6\]: frame 7 is there twice",
    ),
    "a picture of no kind": (
        change_joints(lambda record: record["frames"][1].update(rendered=1)),
        r"frames\[1\] \(frame 8\): 'rendered' is int; expected text",
    ),
    "17 joints": (
        change_joints(lambda record: record["frames"][1]["figures"][0]["points"].pop()),
        r"frames\[1\] \(frame 8\): figures\[0\] \(iris\): points: 17 rows; expected 18",
    ),
    "a joint that is no number": (
        change_joints(lambda record: record["frames"][1]["figures"][0]["points"][3].__setitem__(0, "x")),
        r"points\[3\]: \['x', .*\]; expected three finite numbers",
    ),
    "a joint that is nan": (
        change_joints(
            lambda record: record["frames"][1]["figures"][0]["points"][3].__setitem__(0, float("nan"))
        ),
        r"expected three finite numbers",
    ),
    "v of 3": (
        change_joints(lambda record: record["frames"][0]["figures"][0]["points"][0].__setitem__(2, 3)),
        r"v is not 0, 1 or 2",
    ),
    "a figure of id 0": (
        change_joints(lambda record: record["frames"][0]["figures"][0].update(id=0)),
        r"id = 0; expected the figure's number",
    ),
    "no fps": (lambda root: (root / "shot.toml").write_text('name = "walk"'), r"shot\.toml: no fps"),
    "unknown key": (
        lambda root: edit(root / "shot.toml", "name", "nam"),
        r"unknown key 'nam'; did you mean 'name'",
    ),
    "a name that climbs": (
        lambda root: edit(root / "shot.toml", '"walk"', '"../walk"'),
        r"cannot name an output",
    ),
    "no TOML": (lambda root: edit(root / "shot.toml", "name =", "name"), r"shot\.toml: not valid TOML"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_it(shot_root: Path, case: str) -> None:
    change, expected = CASES[case]
    open_shot(shot_root)  # it was fine before
    change(shot_root)
    with pytest.raises(ShotError, match=expected) as caught:
        open_shot(shot_root)
    assert str(caught.value).startswith(str(shot_root)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("fps", ['"0"', '"24/0"', '"film"', '"-24"', "1e6", "nan", "true", "[24]"])
def test_nonsense_frame_rates(shot_root: Path, fps: str) -> None:
    edit(shot_root / "shot.toml", '"24000/1001"', fps)
    with pytest.raises(ShotError, match=r"shot\.toml:fps: .* is not a frame rate; expected one like"):
        open_shot(shot_root)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [('"25"', Fraction(25)), ("30", Fraction(30)), ("23.976", Fraction(2997, 125)), ('"24 / 1"', None)],
)
def test_frame_rates_are_taken_as_written(shot_root: Path, fps: str, expected: Fraction | None) -> None:
    edit(shot_root / "shot.toml", '"24000/1001"', fps)
    if expected is None:  # Python's Fraction refuses inner spaces, and so do we
        with pytest.raises(ShotError):
            open_shot(shot_root)
    else:
        assert open_shot(shot_root).fps == expected


def test_missing_empty_and_foreign_paths(tmp_path: Path) -> None:
    for path, expected in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path, "the folder is empty"),
    ):
        with pytest.raises(ShotError, match=expected):
            open_shot(path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ShotError, match=r"holds notes\.txt but no frames"):
        open_shot(tmp_path)
    with pytest.raises(ShotError, match="not a shot; expected a folder or a video"):
        open_shot(tmp_path / "notes.txt")


def test_damage_that_only_decoding_finds(shot_root: Path) -> None:
    """A flipped byte inside the pixels passes the header checks; reading names the file."""
    shot = open_shot(shot_root)
    for name, suffix in (("rgb", "png"), ("depth", "exr")):
        path = shot_root / name / f"{name}.0009.{suffix}"
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 40] = bytes(40)
        path.write_bytes(data)
        with pytest.raises(ShotError, match=rf"{name}\.0009\.{suffix}: .*corrupt"):
            read_pass(shot, name, 0, T)
        assert read_pass(shot, name, 0, 2).shape[0] == 2  # the frames before it are fine


def test_a_pass_that_is_not_there_and_one_of_another_kind(shot_root: Path) -> None:
    shutil.rmtree(shot_root / "depth")
    with pytest.raises(ShotError, match=r"walk: no depth pass \(it has rgb, normal"):
        read_pass(open_shot(shot_root), "depth", 0, 1)
    shutil.copytree(shot_root / "normal", shot_root / "depth")  # X Y Z in place of Z alone is still a depth
    for path in (shot_root / "motion").iterdir():
        shutil.copyfile(shot_root / "normal" / path.name.replace("motion", "normal"), path)
    with pytest.raises(ShotError, match=r"motion\.0007\.exr: holds the channels X, Y, Z; expected"):
        read_motion(open_shot(shot_root), 0, 1)


def test_ranges_outside_the_shot_are_the_callers_mistake(shot_root: Path) -> None:
    shot = open_shot(shot_root)
    for start, stop in ((-1, 2), (3, 3), (0, T + 1)):
        with pytest.raises(ValueError, match="inside the shot"):
            read_frames(shot, start, stop)


def test_stray_digits_do_not_list_a_million_gaps(tmp_path: Path) -> None:
    for number in (1, 99_999_999):
        write_png(tmp_path / f"shot.{number}.png", SMALL)
    with pytest.raises(ShotError, match="2 files numbered from 1 to 99999999") as caught:
        open_shot(tmp_path)
    assert len(str(caught.value)) < 300


def test_ranges_in_words() -> None:
    assert list_numbers([9, 5, 7, 8]) == "5, 7-9"
    assert list_numbers(range(0, 40, 2)) == "0, 2, 4, 6, 8, 10, 12, 14 and 12 more ranges"
