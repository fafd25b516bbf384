"""Unity Perception's SOLO datasets: the JSON's file names are believed, not the pattern of the names."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ShotError
from pipeline.image import write_png
from pipeline.shot import open_shot, read_frames, read_pass
from pipeline.shot.exr import write_channels

H, W = 6, 8
SOLO = "type.unity.com/unity.solo."


def write_step(
    folder: Path, step: int, *, cameras: tuple[str, ...] = ("camera",), milliseconds: float = 40
) -> None:
    captures: list[dict[str, Any]] = []
    for level, camera in enumerate(cameras, start=step):
        # names that say nothing, and would sort wrongly
        names = {what: f"{what}_{camera}_{99 - step}" for what in ("rgb", "depth", "mask")}
        write_png(folder / f"{names['rgb']}.png", np.full((H, W, 3), level, np.uint8))
        write_channels(folder / f"{names['depth']}.exr", {"R": np.full((H, W), 2.0 + step, np.float32)})
        write_png(folder / f"{names['mask']}.png", np.full((H, W, 3), (1, 2, 3), np.uint8))
        annotations = [
            {"@type": SOLO + "BoundingBox2DAnnotation", "id": "boxes", "values": []},
            {"@type": SOLO + "DepthAnnotation", "id": "Depth", "filename": f"{names['depth']}.exr"},
            {"@type": SOLO + "InstanceSegmentationAnnotation", "filename": f"{names['mask']}.png"},
        ]
        captures.append(
            {
                "@type": SOLO + "RGBCamera",
                "id": camera,
                "filename": f"{names['rgb']}.png",
                "annotations": annotations,
            }
        )
    record = {
        "frame": step,
        "sequence": 0,
        "step": step,
        "timestamp": step * milliseconds,
        "captures": captures,
    }
    (folder / f"step{step}.frame_data.json").write_text(json.dumps(record))


def make_sequence(root: Path, number: int = 0, **kwargs: Any) -> Path:
    folder = root / f"sequence.{number}"
    folder.mkdir(parents=True)
    for step in range(12):  # 10 and 11 sort before 2 as text
        write_step(folder, step, **kwargs)
    return folder


def test_a_dataset_of_one_sequence(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path)
    for path in (tmp_path, folder):
        shot = open_shot(path)
        assert shot.fps == 25 and shot.num_frames == 12 and set(shot.passes) == {"rgb", "depth", "ids"}
        assert read_frames(shot, 0, 12)[:, 0, 0, 0].tolist() == list(range(12))
        assert read_pass(shot, "depth", 11, 12)[0, 0, 0] == 13.0
        assert (read_pass(shot, "ids", 0, 1) == 0x010203).all()


def test_seconds_and_odd_rates(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path, milliseconds=np.float32(1001 / 24000).item())
    assert abs(float(open_shot(folder).fps) - 23.976) < 1e-3
    (folder / "shot.toml").write_text('fps = "24000/1001"')
    assert open_shot(folder).fps == Fraction(24000, 1001)


def test_several_sequences_and_cameras(tmp_path: Path) -> None:
    first = make_sequence(tmp_path, 0, cameras=("front", "side"))
    make_sequence(tmp_path, 1)
    with pytest.raises(ShotError, match=r"holds 2 sequences \(sequence\.0, sequence\.1 .*give one of them"):
        open_shot(tmp_path)
    shot = open_shot(first)
    assert read_frames(shot, 0, 1)[0, 0, 0, 0] == 0 and "sensors front, side, front is read" in shot.notes[0]
    (first / "shot.toml").write_text('fps = 25\nview = "side"')
    assert read_frames(open_shot(first), 0, 1)[0, 0, 0, 0] == 1


def test_bad_json_is_one_line(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path)
    path = folder / "step3.frame_data.json"
    record = json.loads(path.read_text())
    for text, expected in (
        ("{", "not valid JSON"),
        ("[]", "not an object"),
        (json.dumps({**record, "captures": []}), "no capture with a filename"),
        (path.read_text().replace("rgb_camera_96", "gone"), r"names 'gone\.png', which is not there"),
    ):
        path.write_text(text)
        with pytest.raises(ShotError, match=rf"step3\.frame_data\.json: {expected}"):
            open_shot(folder)
