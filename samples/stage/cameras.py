"""Cameras: pinhole, and the framings and moves of the stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FRAMINGS = ("closeup", "medium", "full")
_ASPECT_LINE = {
    "closeup": (0.52, 1.57),
    "medium": (0.98, 1.36),
    "full": (2.05, 0.93),
}  # height seen, aim height (m)


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
        return (self.width - 1) / 2.0, (self.height - 1) / 2.0

    def project(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """World points [N, 3] -> pixels [N, 2] (x right, y down) and depth [N] in metres."""
        local = (points - self.position) @ self.rotation.T
        depth = local[:, 2]
        safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        cx, cy = self.centre
        return np.stack(
            [cx + self.focal * local[:, 0] / safe, cy - self.focal * local[:, 1] / safe], 1
        ), depth

    def as_json(self) -> dict[str, Any]:
        return {
            "position": [round(float(v), 6) for v in self.position],
            "rotation": [[round(float(v), 8) for v in row] for row in self.rotation],
            "focal": float(self.focal),
            "width": self.width,
            "height": self.height,
            "space": "world metres, y up; rotation rows are right, up, forward; pixel centres at integers",
        }


def look_at(eye: FloatArray, target: FloatArray, *, focal: float, size: tuple[int, int]) -> Camera:
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, np.array([0.0, 1.0, 0.0]))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    return Camera(eye, np.stack([right, up, forward]), focal, size[0], size[1])


@dataclass(frozen=True)
class Move:
    """How the camera looks at the stage: `framing` of a subject seen from `azimuth` (radians, 0 = from +z).

    `kind` "static" stays, "dolly" pushes in by `amount` metres over the shot, "orbit" turns by `amount` radians.
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
        seen, aim = _ASPECT_LINE[self.framing]
        scale = height / 1.75
        distance = seen * scale * self.lens
        azimuth = self.azimuth + (self.amount * (u - 0.5) if self.kind == "orbit" else 0.0)
        if self.kind == "dolly":
            distance = max(distance - self.amount * (u - 0.5), 0.35)
        direction = np.array([math.sin(azimuth), self.elevation, math.cos(azimuth)])
        right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
        target = subject + np.array([0.0, aim * scale + self.lift, 0.0]) + right * self.side
        return look_at(target + direction * distance, target, focal=self.lens * size[1], size=size)
