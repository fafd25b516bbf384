"""Unity Perception's SOLO datasets: the JSON's file names are believed, not the pattern of the names."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.controls import pose_map
from pipeline.errors import ShotError
from pipeline.image import write_png
from pipeline.shot import Area, open_shot, read_area, read_frames, read_joints, read_pass
from pipeline.shot.exr import write_channels
from pipeline.shot.solo_joints import joint_of
from pipeline.shot.values import JOINT_NAMES

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


LABELS = ["nose", "left_shoulder", "right_shoulder", "LeftElbow", "RightElbow", "wrist_l", "wrist_r",
          "left_hip", "right_hip", "tail"]  # fmt: skip


def add_people(folder: Path, *, definitions: bool = True) -> None:
    """A person (instance 7) whose nose walks to the right, and colours of instances."""
    for step in range(12):
        path = folder / f"step{step}.frame_data.json"
        record = json.loads(path.read_text())
        points = [
            {
                "index": i,
                "location": [1.5 + 0.25 * step + i / 8, 2.5],
                "state": 2 if i else 1,
                "orientation": [],
            }
            for i in range(len(LABELS))
        ]
        person = {"instanceId": 7, "labelId": 1, "pose": "unset", "keypoints": points}
        annotations = record["captures"][0]["annotations"]
        annotations.append({"@type": SOLO + "KeypointAnnotation", "templateId": "x", "values": [person]})
        annotations[2]["instances"] = [{"instanceId": 7, "labelName": "person", "color": [1, 2, 3, 255]}]
        path.write_text(json.dumps(record))
    if definitions:
        template = {"keypoints": [{"label": label, "index": i} for i, label in enumerate(LABELS)]}
        table = {"annotationDefinitions": [{"@type": SOLO + "KeypointAnnotation", "template": template}]}
        (folder.parent / "annotation_definitions.json").write_text(json.dumps(table))


def test_keypoints_are_joints_and_instances_are_figures(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path)
    add_people(folder)
    shot = open_shot(tmp_path)
    (frame,) = read_joints(shot, 4, 5)
    (figure,) = frame.figures
    assert (figure.name, figure.id, frame.frame) == ("figure7", 7, 4)
    joints = dict(zip(JOINT_NAMES, figure.points.tolist(), strict=True))
    assert joints["nose"] == [2.0, 2.0, 1.0]  # half a pixel less than Unity's
    assert joints["r-elbow"] == [2.5, 2.0, 2.0] and joints["l-wrist"] == [2.625, 2.0, 2.0]
    assert joints["neck"] == [2.1875, 2.0, 2.0]  # between the shoulders
    assert joints["l-knee"][2] == 0
    assert (read_pass(shot, "ids", 0, 1) == 256 * 7).all()
    assert read_area(shot, Area(figures=(7,)), 0, 1)[0].min() == 1.0
    assert pose_map(read_joints(shot, 0, 2), H, W).any()


def test_keypoints_of_unknown_parts_are_passed_over_with_a_note(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path)
    add_people(folder, definitions=False)
    shot = open_shot(tmp_path)
    assert "joints" not in shot.passes and any("annotation_definitions.json" in note for note in shot.notes)


def test_depth_along_rays_is_passed_over_with_a_note(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path)
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace('"id": "Depth"', '"measurementStrategy": "Range"'))
    shot = open_shot(tmp_path)
    assert "depth" not in shot.passes and any("along each ray" in note for note in shot.notes)


def test_a_keypoint_without_its_place_is_one_line(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path)
    add_people(folder)
    path = folder / "step3.frame_data.json"
    path.write_text(path.read_text().replace('"location"', '"place"'))
    with pytest.raises(ShotError, match=r"step3\.frame_data\.json: a keypoint annotation lacks 'location'"):
        read_joints(open_shot(tmp_path), 0, 12)


@pytest.mark.parametrize(
    ("label", "joint"),
    [("left_eye", "l-eye"), ("RightKnee", "r-knee"), ("ankle_r", "r-ankle"), ("neck", "neck"), ("tail", None),
     ("Head", "nose"), ("LeftHand", "l-wrist"), ("shoulder", None)],
)  # fmt: skip
def test_labels_by_their_words(label: str, joint: str | None) -> None:
    assert joint_of(label) == joint
