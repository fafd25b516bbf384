"""Cameras: pinhole, and the framings and moves of the stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FRAMINGS = ("closeup", "medium", "full")
# framing -> height of the picture at the subject and of its middle above the floor; metres, a body of 1.75 m
_FRAMED = {"closeup": (0.52, 1.57), "medium": (0.98, 1.36), "full": (2.05, 0.93)}
_NEAREST = 0.35  # metres: a dolly stops before it enters the subject


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: `rotation` rows are right, up, forward in the world; `focal` in pixels."""

    position: FloatArray  # [3]
    rotation: FloatArray  # [3, 3]
    focal: float
    width: int
    height: int

    @property
    def centre(self) -> tuple[float, float]:
        """The optical axis in pixels, x then y."""
        return (self.width - 1) / 2.0, (self.height - 1) / 2.0

    def project(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """World points [N, 3] -> pixels [N, 2] (x right, y down) and depth [N] in metres."""
        local = (points - self.position) @ self.rotation.T
        depth = local[:, 2]
        safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        cx, cy = self.centre
        x, y = cx + self.focal * local[:, 0] / safe, cy - self.focal * local[:, 1] / safe
        return np.stack([x, y], 1), depth

    def as_json(self) -> dict[str, Any]:
        """The camera as `joints.json` holds it, with the convention said in words."""
        return {
            "position": [round(float(v), 6) for v in self.position],
            "rotation": [[round(float(v), 8) for v in row] for row in self.rotation],
            "focal": float(self.focal),
            "width": self.width,
            "height": self.height,
            "space": "world metres, y up; rotation rows are right, up, forward; pixel centres at integers",
        }


def look_at(eye: FloatArray, target: FloatArray, *, focal: float, size: tuple[int, int]) -> Camera:
    """A level camera at `eye` [3] that looks at `target` [3]; `focal` in pixels, `size` = (width, height)."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, np.array([0.0, 1.0, 0.0]))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    return Camera(eye, np.stack([right, up, forward]), focal, size[0], size[1])


@dataclass(frozen=True)
class Move:
    """How the camera looks at the stage: `framing` of a subject seen from `azimuth` (radians, 0 = from +z).

    `elevation` is the rise per metre of distance. `kind` "static" stays, "dolly" pushes in by `amount`
    metres over the shot, "orbit" turns by `amount` radians.
    """

    framing: str
    azimuth: float
    elevation: float = 0.06
    kind: str = "static"
    amount: float = 0.0
    lens: float = 1.6  # focal length in units of the frame's height
    side: float = 0.0  # shifts the aim sideways, metres
    lift: float = 0.0  # shifts the aim upward, metres

    def camera(self, u: float, subject: FloatArray, height: float, size: tuple[int, int]) -> Camera:
        """The camera at u in [0, 1] for a subject standing at `subject` [3] of body `height` in metres."""
        seen, aim = _FRAMED[self.framing]
        scale = height / 1.75
        distance = seen * scale * self.lens
        azimuth = self.azimuth + (self.amount * (u - 0.5) if self.kind == "orbit" else 0.0)
        if self.kind == "dolly":
            distance = max(distance - self.amount * (u - 0.5), _NEAREST)
        direction = np.array([math.sin(azimuth), self.elevation, math.cos(azimuth)])
        right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
        target = subject + np.array([0.0, aim * scale + self.lift, 0.0]) + right * self.side
        return look_at(target + direction * distance, target, focal=self.lens * size[1], size=size)
