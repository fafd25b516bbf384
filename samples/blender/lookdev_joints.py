"""The joints of Blender armatures as OpenPose's 18 points, by the names of bones that rigs use.

A joint is where its bone begins, in the armature's pose. Names are compared without case, spaces, marks and a
prefix such as "mixamorig:", so "upper_arm.L", "LeftArm" and "Bip01 L UpperArm" are found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ORDER = (
    "nose", "neck", "r-shoulder", "r-elbow", "r-wrist", "l-shoulder", "l-elbow", "l-wrist", "r-hip",
    "r-knee", "r-ankle", "l-hip", "l-knee", "l-ankle", "r-eye", "l-eye", "r-ear", "l-ear",
)  # fmt: skip
# Bones at whose head a joint is, without their side: Rigify and Blender, Mixamo, 3ds Max's Biped, VRM.
LIMBS: Mapping[str, tuple[str, ...]] = {
    "shoulder": ("upperarm", "arm", "upperarmfk", "uparm"),
    "elbow": ("forearm", "lowerarm", "forearmfk"),
    "wrist": ("hand", "handfk", "wrist"),
    "hip": ("thigh", "upleg", "upperleg", "thighfk"),
    "knee": ("shin", "leg", "calf", "lowerleg", "shinfk"),
    "ankle": ("foot", "footfk", "ankle"),
}
NECKS, HEADS = ("neck", "neck01", "neck1", "spine004"), ("head", "spine006")
# Where these sit on a head, in lengths of the head bone (neck's end to crown): to its left, up, forward. From
# an adult's 0.23 m, ears 145 mm and pupils 63 mm apart, as pipeline/preset/views.py has them.
FACE = {
    "nose": (0.0, 0.40, 0.44),
    "r-eye": (-0.14, 0.52, 0.35),
    "l-eye": (0.14, 0.52, 0.35),
    "r-ear": (-0.32, 0.45, 0.0),
    "l-ear": (0.32, 0.45, 0.0),
}


def plain_name(bone: str) -> tuple[str, str]:
    """A bone's name as (side, rest): "mixamorig:LeftForeArm" -> ("l", "forearm"); side "" where none."""
    name = bone.rsplit(":", 1)[-1]
    name = re.sub(r"^(DEF|ORG|Bip\d+|J_Bip|CC_Base)[-_ ]", "", name)
    words = [word for word in re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", name) if word]
    lower = [word.lower() for word in words]
    sides = [word[0] for word in lower if word in ("l", "r", "left", "right")]
    rest = "".join(word for word in lower if word not in ("l", "r", "left", "right"))
    return (sides[0] if sides else "", rest)


def bones_of(names: list[str], own: Mapping[str, str]) -> dict[str, str]:
    """Joint (and "head") -> bone for an armature's bone names; `own` is said by the user and goes first."""
    by_name = {plain_name(name): name for name in reversed(names)}
    found = {}
    for side in ("r", "l"):
        for joint, bones in LIMBS.items():
            found[f"{side}-{joint}"] = next((by_name[side, b] for b in bones if (side, b) in by_name), "")
    found["neck"] = next((by_name["", bone] for bone in NECKS if ("", bone) in by_name), "")
    found["head"] = next((by_name["", bone] for bone in HEADS if ("", bone) in by_name), "")
    return {joint: bone for joint, bone in (found | dict(own)).items() if bone}


def face_at_rest(
    heads: Mapping[str, np.ndarray[Any, Any]], head_end: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """Face point -> [3] in the rest pose, from where bones begin there and the head bone's other end.

    In the rest pose a head looks where the body does: across the line from shoulder to shoulder. Empty
    without shoulders.
    """
    if not {"r-shoulder", "l-shoulder", "head"} <= heads.keys():
        return {}
    up, left = head_end - heads["head"], heads["l-shoulder"] - heads["r-shoulder"]
    length = float(np.linalg.norm(up))
    left = left - up * (left @ up) / max(length**2, 1e-12)
    if length == 0.0 or not left.any():
        return {}
    side, rise = left / np.linalg.norm(left), up / length
    axes = np.stack([side, rise, np.cross(side, rise)])  # left x up = forward, in a right-handed space
    return {name: heads["head"] + length * (np.array(place) @ axes) for name, place in FACE.items()}


def write_joints(path: Path, frames: list[dict[str, Any]]) -> None:
    """joints.json of lookdev: one line a frame."""
    lines = ",\n".join(json.dumps(frame, allow_nan=False) for frame in frames)
    path.write_text(f'{{"joints": "coco18", "frames": [\n{lines}\n]}}\n', encoding="utf-8")
