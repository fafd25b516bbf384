"""The figure's skeleton: 17 posable bones, forward kinematics, and OpenPose's 18 points on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

BONES = (
    "pelvis", "spine", "chest", "neck", "head",
    "l_shoulder", "l_elbow", "l_wrist", "r_shoulder", "r_elbow", "r_wrist",
    "l_hip", "l_knee", "l_ankle", "r_hip", "r_knee", "r_ankle",
)  # fmt: skip
BONE = {name: index for index, name in enumerate(BONES)}

_PARENT = {
    "spine": "pelvis", "chest": "spine", "neck": "chest", "head": "neck",
    "l_shoulder": "chest", "l_elbow": "l_shoulder", "l_wrist": "l_elbow",
    "r_shoulder": "chest", "r_elbow": "r_shoulder", "r_wrist": "r_elbow",
    "l_hip": "pelvis", "l_knee": "l_hip", "l_ankle": "l_knee",
    "r_hip": "pelvis", "r_knee": "r_hip", "r_ankle": "r_knee",
}  # fmt: skip

# Rest offsets from the parent in metres, for a body 1.75 m tall.
_OFFSET = {
    "pelvis": (0.0, 0.95, 0.0), "spine": (0.0, 0.10, 0.0), "chest": (0.0, 0.19, 0.0),
    "neck": (0.0, 0.21, 0.0), "head": (0.0, 0.10, 0.01),
    "l_shoulder": (0.172, 0.14, 0.0), "l_elbow": (0.0, -0.28, 0.0), "l_wrist": (0.0, -0.25, 0.0),
    "r_shoulder": (-0.172, 0.14, 0.0), "r_elbow": (0.0, -0.28, 0.0), "r_wrist": (0.0, -0.25, 0.0),
    "l_hip": (0.095, -0.03, 0.0), "l_knee": (0.0, -0.43, 0.0), "l_ankle": (0.0, -0.42, 0.0),
    "r_hip": (-0.095, -0.03, 0.0), "r_knee": (0.0, -0.43, 0.0), "r_ankle": (0.0, -0.42, 0.0),
}  # fmt: skip

# OpenPose COCO-18: (bone, offset in the bone's axes, metres)
OPENPOSE = (
    ("head", (0.0, 0.075, 0.135)), ("neck", (0.0, -0.03, 0.0)),
    ("r_shoulder", (0.0, 0.0, 0.0)), ("r_elbow", (0.0, 0.0, 0.0)), ("r_wrist", (0.0, 0.0, 0.0)),
    ("l_shoulder", (0.0, 0.0, 0.0)), ("l_elbow", (0.0, 0.0, 0.0)), ("l_wrist", (0.0, 0.0, 0.0)),
    ("r_hip", (0.0, 0.0, 0.0)), ("r_knee", (0.0, 0.0, 0.0)), ("r_ankle", (0.0, 0.0, 0.0)),
    ("l_hip", (0.0, 0.0, 0.0)), ("l_knee", (0.0, 0.0, 0.0)), ("l_ankle", (0.0, 0.0, 0.0)),
    ("head", (-0.042, 0.105, 0.112)), ("head", (0.042, 0.105, 0.112)),
    ("head", (-0.112, 0.085, -0.005)), ("head", (0.112, 0.085, -0.005)),
)  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """Joint angles in radians (x, y, z per bone, applied y then x then z), and where the pelvis stands."""

    angles: Mapping[str, tuple[float, float, float]]
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0


@dataclass(frozen=True)
class Skeleton:
    """Bone frames in the world: `origins` [17, 3] metres, `axes` [17, 3, 3] with local axes as rows."""

    origins: FloatArray
    axes: FloatArray

    def at(self, bone: str, local: tuple[float, float, float]) -> FloatArray:
        """World point [3] of a place in a bone's axes, both in metres."""
        index = BONE[bone]
        point: FloatArray = self.origins[index] + np.asarray(local) @ self.axes[index]
        return point


def _rotation(x: float, y: float, z: float) -> FloatArray:
    cx, sx, cy, sy, cz, sz = math.cos(x), math.sin(x), math.cos(y), math.sin(y), math.cos(z), math.sin(z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    product: FloatArray = about_y @ about_x @ about_z
    return product


def solve(pose: Pose, scale: float) -> Skeleton:
    """Forward kinematics; `scale` multiplies every bone length (1 = 1.75 m)."""
    origins = np.zeros((len(BONES), 3))
    turn = np.zeros((len(BONES), 3, 3))  # columns are the local axes
    for index, name in enumerate(BONES):
        own = _rotation(*pose.angles.get(name, (0.0, 0.0, 0.0)))
        offset = scale * np.asarray(_OFFSET[name])
        if name == "pelvis":
            turn[index] = _rotation(0.0, pose.yaw, 0.0) @ own
            origins[index] = np.asarray(pose.position) + offset
        else:
            parent = BONE[_PARENT[name]]
            turn[index] = turn[parent] @ own
            origins[index] = origins[parent] + turn[parent] @ offset
    return Skeleton(origins, np.ascontiguousarray(turn.transpose(0, 2, 1)))


def openpose_points(skeleton: Skeleton, scale: float) -> FloatArray:
    """World points [18, 3] in OpenPose's order."""
    return np.stack([skeleton.at(bone, (scale * x, scale * y, scale * z)) for bone, (x, y, z) in OPENPOSE])
