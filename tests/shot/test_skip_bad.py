"""Bad files: one line that names the file and exit code 2; with --skip-bad the shot goes on and says so."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from full_shot import H, T, W, make_passes

from pipeline import cli
from pipeline.errors import ShotError
from pipeline.image import read_image, write_png
from pipeline.shot import open_shot, read_as, read_frames, read_joints, read_motion, read_pass, write_shot
from pipeline.shot.exr import read_channels, write_channels

PASSES = make_passes()  # frames 7-12
NAN = np.float32(np.nan)
NOBODY = 65534


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def wipe(path: Path) -> None:
    """Damage inside that keeps the file's length."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)


def resize(path: Path) -> None:
    write_png(path, np.zeros((H, W - 2, 3), np.uint8))


def shrink_to_one(path: Path) -> None:
    write_png(path, np.zeros((1, 1, 3), np.uint8))


def with_nan(path: Path) -> None:
    (plane,) = read_channels(path, ["Z"])
    plane[2, 3] = NAN
    write_channels(path, {"Z": plane})


PICTURES: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "damaged inside": wipe,
    "another size": resize,
    "one pixel": shrink_to_one,
    "no image": lambda path: path.write_text("hello"),
}


@pytest.mark.parametrize("case", PICTURES)
def test_a_bad_picture_is_the_frame_before(shot_root: Path, case: str) -> None:
    bad = shot_root / "rgb" / "rgb.0010.png"
    PICTURES[case](bad)
    with pytest.raises(ShotError, match=r"rgb\.0010\.png: ") as caught:
        read_frames(open_shot(shot_root), 0, T)
    assert "\n" not in str(caught.value)
    shot = open_shot(shot_root, skip_bad=True)
    assert shot.num_frames == T and shot.frame_numbers == tuple(range(7, 13)) and shot.held == {3: 2}
    frames = read_frames(shot, 0, T)
    np.testing.assert_array_equal(frames[3], PASSES.rgb[2])
    np.testing.assert_array_equal(np.delete(frames, 3, 0), np.delete(PASSES.rgb, 3, 0))
    assert PASSES.depth is not None and PASSES.motion is not None
    np.testing.assert_array_equal(read_pass(shot, "depth", 3, 4)[0], PASSES.depth[2])
    joints = read_joints(shot, 2, 4)
    assert (
        joints[1].frame == 10 and joints[1].figures[0].points.tolist() == joints[0].figures[0].points.tolist()
    )
    motion = read_motion(shot, 0, T)
    assert np.isnan(motion.forward[2:5]).all() and np.isnan(motion.backward[2:5]).all()
    np.testing.assert_array_equal(motion.forward[1], PASSES.motion.forward[1])
    assert len(shot.notes) == 1
    assert (
        "rgb: frame 10 skipped: " in shot.notes[0] and "frame 9 stands in, with its passes" in shot.notes[0]
    )


def test_the_first_frame_is_the_one_after(shot_root: Path) -> None:
    cut(shot_root / "rgb" / "rgb.0007.png")
    shot = open_shot(shot_root, skip_bad=True)
    np.testing.assert_array_equal(read_frames(shot, 0, 1)[0], PASSES.rgb[1])


@pytest.mark.parametrize("spoil", [cut, wipe, with_nan, lambda path: path.write_bytes(b""), Path.unlink])
def test_a_bad_depth_alone_is_the_depth_before(shot_root: Path, spoil: Callable[[Path], object]) -> None:
    spoil(shot_root / "depth" / "depth.0010.exr")
    with pytest.raises(ShotError, match=r"depth\.0010\.exr: |depth: 1 of frames 7-12 missing: 10"):
        read_pass(open_shot(shot_root), "depth", 0, T)
    shot = open_shot(shot_root, skip_bad=True)
    assert PASSES.depth is not None and shot.held == {} and shot.without_motion == frozenset()
    np.testing.assert_array_equal(read_frames(shot, 0, T), PASSES.rgb)
    np.testing.assert_array_equal(read_pass(shot, "depth", 3, 4)[0], PASSES.depth[2])
    assert len(shot.notes) == 1 and shot.notes[0].startswith("depth: frame")


def test_bad_motion_is_none(shot_root: Path) -> None:
    cut(shot_root / "motion" / "motion.0010.exr")
    shot = open_shot(shot_root, skip_bad=True)
    motion = read_motion(shot, 0, T)
    assert np.isnan(motion.forward[3]).all() and not np.isnan(motion.forward[2]).any()
    assert "taken as without motion" in shot.notes[0]
    assert "none in [3]" in read_as(shot, ["motion"])["motion"]


def test_motion_that_was_not_probed_is_no_damage(shot_root: Path) -> None:
    """Vectors under another renderer's channel names are whole, whatever they mean."""
    for path in (shot_root / "motion").iterdir():
        write_channels(path, dict.fromkeys("RG", np.zeros((H, W), np.float32)))
    assert open_shot(shot_root, skip_bad=True).notes == ()


def test_a_pass_of_which_nothing_is_left_is_an_error(shot_root: Path) -> None:
    for path in (shot_root / "depth").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ShotError, match=r"depth\.0007\.exr: the file is empty"):
        open_shot(shot_root, skip_bad=True)


def test_gaps_are_filled_on_request(shot_root: Path) -> None:
    for name, number in (("rgb", 9), ("rgb", 10), ("ids", 12)):
        (shot_root / name / f"{name}.{number:04d}.png").unlink()
    with pytest.raises(ShotError, match=r"2 of frames 7-12 missing: 9-10; .* take --fill-gaps"):
        open_shot(shot_root)
    shot = open_shot(shot_root, fill_gaps=True)
    assert shot.num_frames == T and shot.held == {2: 1, 3: 1}
    assert shot.notes == (
        "rgb: frames 9-10 are missing; the frame before stands in, with its passes and without motion",
        "ids: frame 12 is missing; the one before stands in",
    )
    cut(shot_root / "rgb" / "rgb.0011.png")
    with pytest.raises(ShotError, match="cut short"):  # damage is not a gap
        open_shot(shot_root, fill_gaps=True)


def test_paths_with_spaces_quotes_and_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / 'it\'s a "shot" — ünïcode 雪'
    write_shot(root, [PASSES], fps=Fraction(24), first_number=7)
    assert read_frames(open_shot(root), 0, 1).shape == (1, H, W, 3)
    cut(root / "rgb" / "rgb.0008.png")
    assert cli.main(["shot", "inspect", str(root)]) == 2
    with pytest.raises(ShotError, match=r"雪/rgb/rgb\.0008\.png: the file is cut short"):
        open_shot(root)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root, who may read everything, is somebody else meanwhile; others stay who they are."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_files_that_may_not_be_read(shot_root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may be entered by its owner only
        Path(folder).chmod(0o755)
        root = Path(folder) / "shot"
        shutil.copytree(shot_root, root)
        (root / "rgb" / "rgb.0009.png").chmod(0)
        with nobody():
            with pytest.raises(ShotError, match=r"rgb\.0009\.png: cannot be read \(Permission denied\)"):
                open_shot(root)
            assert "Permission denied" in open_shot(root, skip_bad=True).notes[0]
            assert cli.main(["shot", "inspect", str(root)]) == 2


def test_the_record_lists_what_was_skipped(shot_root: Path) -> None:
    """The notes of a shot are a plan's first notes, which the record keeps."""
    from pipeline.plan import make_plan
    from pipeline.preset import load_preset

    cut(shot_root / "rgb" / "rgb.0010.png")
    preset = load_preset("mini_video")
    plan = make_plan(open_shot(shot_root, skip_bad=True), preset)
    assert plan.notes[0].startswith("rgb: frame 10 skipped: ")


def test_the_command_names_it(shot_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(shot_root / "rgb" / "rgb.0010.png")
    assert cli.main(["render", str(shot_root)]) == 2
    assert "rgb.0010.png: the file is cut short" in capsys.readouterr().err


def test_held_frames_are_written_once_in_the_inputs(shot_root: Path) -> None:
    cut(shot_root / "rgb" / "rgb.0010.png")
    files = open_shot(shot_root, skip_bad=True).passes["rgb"].files
    assert files[3] == files[2] and read_image(files[3]).shape == (H, W, 3)
