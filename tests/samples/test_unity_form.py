"""What samples/unity/LookdevExporter.cs writes, by files made by hand to its source: lookdev reads them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.controls import pose_map
from pipeline.image import write_png
from pipeline.preset import face_angle
from pipeline.shot import JOINT_NAMES, open_shot, probe_motion, read_joints, read_motion, read_pass
from pipeline.shot.exr import write_channels

UNITY = Path(__file__).resolve().parents[2] / "samples" / "unity"
SHOTS = UNITY.parent / "shots"
SIZE = 128  # of the sample shots


def test_the_example_is_what_the_source_writes() -> None:
    """Keys of the source's literals stand in the example in the same order, and the joints in theirs."""
    source = (UNITY / "LookdevExporter.cs").read_text(encoding="utf-8")
    written = re.findall(r'\\"(\w+)\\":', source)
    example = (UNITY / "joints.example.json").read_text(encoding="utf-8")
    keys = list(dict.fromkeys(re.findall(r'"(\w+)":', example)))
    top = ["joints", "frames", "frame", "figures", "name", "id", "points", "world", "camera"]
    assert keys == [*top, "position", "rotation", "focal", "width", "height", "space"]
    assert set(written) == set(keys)
    bones = re.search(r"HumanBodyBones\[\] Bones =\s*\{(.*?)\};", source, re.DOTALL)
    assert bones is not None
    listed = re.findall(r"HumanBodyBones\.(\w+)", bones[1])
    part = {
        "UpperArm": "shoulder",
        "LowerArm": "elbow",
        "Hand": "wrist",
        "UpperLeg": "hip",
        "LowerLeg": "knee",
    }
    part["Foot"] = "ankle"
    for bone, joint in zip(listed, JOINT_NAMES, strict=True):
        limb = re.fullmatch(r"(Left|Right)(\w+)", bone)
        if limb is not None:
            assert joint == f"{limb[1][0].lower()}-{part[limb[2]]}"
        else:
            assert (bone == "Neck") == (joint == "neck")


def test_a_shot_in_its_form_is_read(tmp_path: Path) -> None:
    """Twenty frames of a sample shot as EncodeToEXR writes them: always four channels, blue 0 and alpha 1."""
    root, source = tmp_path / "shot", open_shot(SHOTS / "corridor_walk")
    motion = read_motion(source, 0, 20)
    for t in range(20):
        number = f"{t + 1:04d}"
        (root / "rgb").mkdir(parents=True, exist_ok=True)
        shutil.copy(source.passes["rgb"].files[t], root / "rgb" / f"rgb.{number}.png")
        metres = read_pass(source, "depth", t, t + 1)[0].copy()
        metres[:4] = 1e10
        write_channels(root / "depth" / f"depth.{number}.exr", dict.fromkeys("RGB", metres))
        stored = -np.nan_to_num(motion.backward[t]) / SIZE * np.float32((1, -1))
        nothing = np.zeros((SIZE, SIZE), np.float32)
        planes = {"R": stored[..., 0], "G": stored[..., 1], "B": nothing, "A": nothing + 1}
        write_channels(root / "motion" / f"motion.{number}.exr", planes)
    (root / "shot.toml").write_text('fps = "24/1"\n')
    shot = open_shot(root)
    depth = read_pass(shot, "depth", 0, 1)[0]
    assert (depth[:4] >= 1e9).all() and (depth[4:] < 20).all()
    found = probe_motion(shot, one_frame=True)  # without joints a shutter cannot be ruled out on grey renders
    assert found.encoding is not None, found.reason
    assert (found.encoding.name, found.encoding.forward) == ("unity", None)
    flow = read_motion(replace(shot, motion=found.encoding), 10, 11)
    np.testing.assert_allclose(flow.backward[0], motion.backward[10], atol=0.01)


def test_its_joints_are_read_and_drawn(tmp_path: Path) -> None:
    root = tmp_path / "shot"
    for number in (1, 2):
        write_png(root / "rgb" / f"rgb.{number:04d}.png", np.zeros((180, 320, 3), np.uint8))
    shutil.copy(UNITY / "joints.example.json", root / "joints.json")
    (root / "shot.toml").write_text('fps = "24/1"\n')
    frames = read_joints(open_shot(root), 0, 2)
    (figure,) = frames[0].figures
    assert (figure.name, figure.id) == ('Guard "A"', 1) and figure.world is not None
    camera = frames[0].camera
    seen = (figure.world - np.array(camera["position"])) @ np.array(camera["rotation"]).T
    pixels = np.stack([seen[:, 0], -seen[:, 1]], axis=1) * camera["focal"] / seen[:, 2:] + (159.5, 89.5)
    np.testing.assert_allclose(pixels, figure.points[:, :2], atol=1e-3)
    angle = face_angle(figure.points, figure.world, camera["position"])
    assert angle is not None and angle < 1.0  # it looks into the camera
    assert pose_map(frames, 180, 320).any(axis=(1, 2, 3)).all()
