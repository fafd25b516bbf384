"""Bones of rigs that people have become OpenPose's joints; a head without eyes gets a face."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.shot import JOINT_NAMES
from samples.blender import lookdev_joints
from samples.blender.lookdev_joints import bones_of, face_at_rest, plain_name

RIGIFY = ["spine", "spine.004", "spine.006", "shoulder.L", "upper_arm.L", "forearm.L", "hand.L", "thigh.L"]
RIGIFY += ["shin.L", "foot.L", "toe.L", "upper_arm.R", "forearm.R", "hand.R", "thigh.R", "shin.R", "foot.R"]
MIXAMO = [
    "Hips",
    "Spine",
    "Neck",
    "Head",
    "HeadTop_End",
    "LeftShoulder",
    "LeftArm",
    "LeftForeArm",
    "LeftHand",
]
MIXAMO += ["LeftUpLeg", "LeftLeg", "LeftFoot", "RightArm", "RightForeArm", "RightHand", "RightUpLeg"]
MIXAMO += ["RightLeg", "RightFoot"]
BIPED = ["Bip01 Neck", "Bip01 Head", "Bip01 L UpperArm", "Bip01 L Forearm", "Bip01 L Hand", "Bip01 L Thigh"]
BIPED += ["Bip01 L Calf", "Bip01 L Foot", "Bip01 R UpperArm", "Bip01 R Forearm", "Bip01 R Hand"]
BIPED += ["Bip01 R Thigh", "Bip01 R Calf", "Bip01 R Foot"]


def test_the_order_is_the_shots() -> None:
    assert lookdev_joints.ORDER == JOINT_NAMES


@pytest.mark.parametrize(
    ("names", "elbow", "head"),
    [
        (RIGIFY, "forearm.L", "spine.006"),
        ([f"mixamorig:{name}" for name in MIXAMO], "mixamorig:LeftForeArm", "mixamorig:Head"),
        (BIPED, "Bip01 L Forearm", "Bip01 Head"),
    ],
)
def test_every_limb_of_a_rig_is_found(names: list[str], elbow: str, head: str) -> None:
    bones = bones_of(names, {})
    limbs = {name for name in JOINT_NAMES if not name.endswith(("eye", "ear", "nose"))}
    assert bones.keys() == limbs | {"head"}
    assert (bones["l-elbow"], bones["head"]) == (elbow, head)
    assert bones["r-elbow"] != elbow and len(set(bones.values())) == len(bones)


def test_the_users_own_names_go_first() -> None:
    bones = bones_of(RIGIFY, {"nose": "nose_tip", "l-elbow": "extra"})
    assert (bones["nose"], bones["l-elbow"]) == ("nose_tip", "extra")
    assert plain_name("DEF-upper_arm.L.001") == ("l", "upperarm001")  # a twist bone is no shoulder


def test_a_face_sits_on_the_head_and_looks_ahead() -> None:
    """A figure that looks along -y, its left at +x; heights as a measured head's."""
    shoulders = {"r-shoulder": np.array((-0.2, 0.0, 1.4)), "l-shoulder": np.array((0.2, 0.0, 1.4))}
    heads = {**shoulders, "head": np.array((0.0, 0.0, 1.5))}
    face = face_at_rest(heads, np.array((0.0, 0.0, 1.73)))
    assert face["nose"][1] < face["l-eye"][1] < face["l-ear"][1] == 0.0
    assert face["l-ear"][0] - face["r-ear"][0] == pytest.approx(0.147, abs=0.003)  # 145 mm apart
    assert face["l-eye"][0] - face["r-eye"][0] == pytest.approx(0.063, abs=0.003)
    assert face_at_rest({"head": heads["head"]}, np.zeros(3)) == {}
    assert face_at_rest(heads, heads["head"]) == {}
