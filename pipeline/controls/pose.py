"""Joints -> OpenPose's coloured sticks, drawn by controlnet-aux's own function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.controls.annotators import annotator_module

NUM_JOINTS = 18
_IS_FACE = np.isin(np.arange(NUM_JOINTS), (0, 14, 15, 16, 17))  # nose, eyes, ears
# controlnet-aux's sticks are 8 px wide whatever the canvas; pose ControlNets know them on pictures of about
# 512 px. On a 128 px frame they would hide the figure, so small frames are drawn larger (3x at 128) and
# averaged down.
_CANVAS_SIDE = 384


class FigurePoints(Protocol):
    """One figure: only its points are read."""

    @property
    def points(self) -> npt.NDArray[np.float32]:  # [18, 3] x, y in pixels, visibility
        ...


class FramePoints(Protocol):
    """What is read of `pipeline.shot`'s FrameJoints; siblings do not import each other."""

    @property
    def figures(self) -> Sequence[FigurePoints]: ...


def pose_map(
    joints: Sequence[FramePoints],
    height: int,
    width: int,
) -> npt.NDArray[np.uint8]:
    """Draw every frame's figures, black behind them.

    `joints` holds one FrameJoints per frame (what `pipeline.shot.read_joints` returns); `height` and `width`
    are the frame's, in pixels. Returns uint8 RGB [T, H, W, 3]. See `pose_map_points` for what is drawn.
    """
    out = np.zeros((len(joints), height, width, 3), np.uint8)
    for picture, frame in zip(out, joints, strict=True):
        points = np.array([figure.points for figure in frame.figures], np.float32).reshape(-1, NUM_JOINTS, 3)
        picture[:] = pose_map_points(points, height, width)
    return out


def pose_map_points(
    points: npt.NDArray[np.float32],  # [P, 18, 3]
    height: int,
    width: int,
) -> npt.NDArray[np.uint8]:
    """Draw one frame's figures.

    `points` is float [P, 18, 3]: x right, y down in pixels of the frame (pixel centres at integers), v = 2
    seen, 1 hidden, 0 absent, in COCO-18 order. Absent joints and their sticks are left out; hidden ones are
    drawn, as a detector would guess them, but for the face's five points: no detector sees them through a
    head, and their absence is what tells a back from a front. Later figures are drawn over earlier ones.
    Returns uint8 RGB [H, W, 3].
    Raises ValueError for a wrong shape or a joint with v > 0 that is not finite.
    """
    if points.ndim != 3 or points.shape[1:] != (NUM_JOINTS, 3):
        raise ValueError(f"pose_map_points: points must be [P, {NUM_JOINTS}, 3], got shape {points.shape}")
    if not np.isfinite(points[points[..., 2] > 0]).all():
        raise ValueError("pose_map_points: a joint with v > 0 is not finite")
    import cv2

    scale = max(1, round(_CANVAS_SIDE / min(height, width)))
    canvas = np.zeros((height * scale, width * scale, 3), np.uint8)
    draw, keypoint = _drawing().draw, _drawing().keypoint
    size = np.array([width, height], np.float64)
    for figure in points:
        # a pixel's centre lies half a pixel from its edge
        unit = (figure[:, :2].astype(np.float64) + 0.5) / size
        drawn = np.where(_IS_FACE, figure[:, 2] > 1, figure[:, 2] > 0)
        draw(canvas, [keypoint(x, y) if seen else None for (x, y), seen in zip(unit, drawn, strict=True)])
    if scale == 1:
        return canvas
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


class _Drawing(NamedTuple):
    draw: Callable[[npt.NDArray[np.uint8], list[Any]], object]  # draws into the canvas
    keypoint: Callable[[float, float], Any]


@cache
def _drawing() -> _Drawing:
    """controlnet-aux's own `draw_bodypose`."""
    util = annotator_module("open_pose.util")
    return _Drawing(draw=util.draw_bodypose, keypoint=util.Keypoint)
