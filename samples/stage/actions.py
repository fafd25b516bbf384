"""Short actions: time in seconds -> pose. Smooth, so that motion between frames is small and honest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from samples.stage.skeleton import Pose

# A pose function returns the joints' angles (radians), the way walked (metres) and the turn (radians).
Angles = dict[str, tuple[float, float, float]]

ACTIONS = ("standing", "walking", "turning", "gesturing", "looking round")


def _ease(u: float) -> float:
    u = min(max(u, 0.0), 1.0)
    return u * u * (3.0 - 2.0 * u)


def _rest(breath: float) -> Angles:
    return {
        "chest": (0.02 * breath, 0.0, 0.0),
        "l_shoulder": (0.03, 0.0, 0.10), "r_shoulder": (0.03, 0.0, -0.10),
        "l_elbow": (-0.22, 0.0, 0.0), "r_elbow": (-0.22, 0.0, 0.0),
    }  # fmt: skip


def _standing(t: float, u: float, amount: float) -> tuple[Angles, float, float]:
    angles = _rest(math.sin(1.7 * t))
    angles["head"] = (0.04 * math.sin(0.9 * t), 0.10 * amount * math.sin(0.7 * t), 0.0)
    return angles, 0.0, 0.0


def _walking(t: float, u: float, amount: float) -> tuple[Angles, float, float]:
    phase = 2.0 * math.pi * 0.9 * t
    swing = 0.42 * amount
    angles = _rest(math.sin(1.7 * t))
    for side, sign in (("l", 1.0), ("r", -1.0)):
        step = phase if sign > 0 else phase + math.pi
        s = math.sin(step)
        angles[f"{side}_hip"] = (-swing * s, 0.0, 0.0)
        angles[f"{side}_knee"] = (0.08 + 0.55 * amount * max(0.0, math.cos(step)), 0.0, 0.0)
        angles[f"{side}_shoulder"] = (0.40 * amount * s, 0.0, 0.10 * sign)
        angles[f"{side}_elbow"] = (-0.35 - 0.15 * s, 0.0, 0.0)
    angles["chest"] = (0.03, 0.06 * math.sin(phase), 0.0)
    angles["head"] = (0.0, -0.05 * math.sin(phase), 0.0)
    return angles, 0.85 * amount * t, 0.0


def _turning(t: float, u: float, amount: float) -> tuple[Angles, float, float]:
    turn = 0.5 * math.pi * amount * _ease((u - 0.1) / 0.8)
    angles = _rest(math.sin(1.7 * t))
    lead = 0.35 * math.sin(math.pi * _ease((u - 0.1) / 0.8)) * amount
    angles["head"] = (0.0, lead, 0.0)
    angles["chest"] = (0.0, 0.4 * lead, 0.0)
    return angles, 0.0, turn


def _gesturing(t: float, u: float, amount: float) -> tuple[Angles, float, float]:
    angles = _rest(math.sin(1.7 * t))
    lift = 0.5 - 0.5 * math.cos(2.0 * math.pi * min(u * 1.2, 1.0))
    angles["r_shoulder"] = (-0.55 * lift * amount, 0.0, -0.10 - 0.35 * lift * amount)
    angles["r_elbow"] = (-0.22 - 1.35 * lift * amount, 0.0, 0.25 * math.sin(4.0 * t) * lift)
    angles["head"] = (0.0, -0.12 * lift, 0.05 * lift)
    return angles, 0.0, 0.0


def _looking(t: float, u: float, amount: float) -> tuple[Angles, float, float]:
    angles = _rest(math.sin(1.7 * t))
    look = math.sin(2.0 * math.pi * u) * amount
    angles["head"] = (0.05 * math.cos(2.0 * math.pi * u), 0.55 * look, 0.0)
    angles["neck"] = (0.0, 0.20 * look, 0.0)
    angles["chest"] = (0.0, 0.15 * look, 0.0)
    return angles, 0.0, 0.0


_TABLE: Mapping[str, Callable[[float, float, float], tuple[Angles, float, float]]] = {
    "standing": _standing, "walking": _walking, "turning": _turning, "gesturing": _gesturing,
    "looking round": _looking,
}  # fmt: skip


@dataclass(frozen=True)
class Performance:
    """One figure's action: where it stands, which way it faces (yaw, radians), how strongly it acts."""

    action: str
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    amount: float = 1.0
    phase: float = 0.0  # seconds
    tempo: float = 1.0  # times as fast; what a shot lasts stays

    def pose(self, t: float, u: float) -> Pose:
        """The pose at t seconds, u in [0, 1] of the shot."""
        angles, forward, turn = _TABLE[self.action](self.tempo * t + self.phase, u, self.amount)
        forward -= _TABLE[self.action](self.phase, 0.0, self.amount)[1]
        x, y, z = self.position
        heading = self.yaw
        return Pose(
            angles,
            (x + forward * math.sin(heading), y, z + forward * math.cos(heading)),
            self.yaw + turn,
        )
