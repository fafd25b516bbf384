"""Bring a shot's frames and passes to the size that is rendered.

Pictures are resampled with antialiasing; numbers that must not be averaged across edges (depth, ids,
vectors) are picked from the nearest pixel. Vectors are rescaled to the new pixels, joints too, so that
poses are drawn crisp at the new size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.controls import (
    HIGH_THRESHOLD,
    LOW_THRESHOLD,
    canny_map,
    depth_map,
    lineart_map,
    lines_map,
    normal_map,
    pose_map,
    softedge_map,
)
from pipeline.image import Float32Array, UInt8Array, resize
from pipeline.shot import Area, Figure, Shot, read_area, read_frames, read_joints, read_pass

DEFAULT_THRESHOLDS = (float(LOW_THRESHOLD), float(HIGH_THRESHOLD))  # canny's low and high


@dataclass(frozen=True)
class Outline:
    """A region's area, and by how much it grows and how wide its edge is, as shares of the frame's height."""

    area: Area
    grow: float
    soft: float


def frames_at(shot: Shot, start: int, stop: int, *, width: int, height: int) -> UInt8Array:
    """The shot's pictures, uint8 RGB [T, height, width, 3]."""
    frames: UInt8Array = resize(read_frames(shot, start, stop), height=height, width=width)
    return frames


def controls_at(
    shot: Shot,
    kinds: Sequence[str],
    *,
    start: int,
    stop: int,
    width: int,
    height: int,
    thresholds: tuple[float, float] = DEFAULT_THRESHOLDS,
) -> dict[str, UInt8Array]:
    """Control images by kind, uint8 RGB [T, height, width, 3] each; `thresholds` are canny's low and high."""
    window = _Window(shot, start, stop, width, height, thresholds)
    return {kind: DRAW[kind](window) for kind in kinds}


@dataclass(frozen=True)
class _Window:
    """Frames start..stop of a shot, the size to draw at in pixels, canny's low and high."""

    shot: Shot
    start: int
    stop: int
    width: int
    height: int
    thresholds: tuple[float, float]

    def frames(self) -> UInt8Array:
        return frames_at(self.shot, self.start, self.stop, width=self.width, height=self.height)

    def picked(self, name: str) -> Any:
        """A pass at the size to draw at, each value the nearest one; None where the shot has no such pass."""
        if name not in self.shot.passes:
            return None
        values = read_pass(self.shot, name, self.start, self.stop)
        return np.stack([nearest(frame, width=self.width, height=self.height) for frame in values])


def masks_at(
    shot: Shot, outlines: Sequence[Outline], *, start: int, stop: int, width: int, height: int
) -> Float32Array:
    """Each region's share of each pixel, float32 [R, T, height, width] in [0, 1]; they add up to 1 at most.

    Where areas overlap, the later lies over the earlier. An area grows over what belongs to no other, then
    its edge is softened.
    """
    shape = (stop - start, height, width)
    if not outlines:
        return np.zeros((0, *shape), np.float32)
    own = np.stack([_resized(read_area(shot, o.area, start, stop), width, height) for o in outlines])
    for over in range(len(own) - 1, 0, -1):
        own[:over] *= 1.0 - own[over]
    free = np.clip(1.0 - own.sum(0), 0.0, 1.0)  # [T, H, W]
    shares = np.empty_like(own)
    for mask, outline, share in zip(own, outlines, shares, strict=True):
        for t in range(len(mask)):
            share[t] = _softened(_grown(mask[t], free[t], outline.grow * height), outline.soft * height)
    fitted: Float32Array = shares / np.maximum(shares.sum(0), 1.0)
    return fitted


def _resized(masks: Sequence[Float32Array], width: int, height: int) -> Float32Array:
    resized = [resize(mask, height=height, width=width) for mask in masks]
    clipped: Float32Array = np.clip(np.stack(resized), 0.0, 1.0)  # Lanczos overshoots
    return clipped


def _grown(mask: Float32Array, free: Float32Array, radius: float) -> Float32Array:
    """The mask widened by `radius` pixels where `free`, nothing else's, lets it."""
    reach = round(radius)
    if reach == 0 or not mask.any():
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    grown: Float32Array = np.maximum(mask, np.minimum(cv2.dilate(mask, disc), mask + free))
    return grown


def _softened(mask: Float32Array, width: float) -> Float32Array:
    """The mask with its edges blurred over about `width` pixels, two standard deviations of a Gaussian."""
    if width < 1.0 or not mask.any():
        return mask
    reach = math.ceil(width)
    size = (2 * reach + 1, 2 * reach + 1)
    soft: Float32Array = cv2.GaussianBlur(mask, size, width / 2.0, borderType=cv2.BORDER_REPLICATE)
    return soft


def nearest(values: NDArray[Any], *, width: int, height: int) -> NDArray[Any]:
    """[H, W, ...] -> [height, width, ...], each value the one at the nearest pixel centre."""
    if values.shape[:2] == (height, width):
        return values
    rows = _centres(values.shape[0], height)
    columns = _centres(values.shape[1], width)
    return values[rows[:, None], columns[None, :]]


def _centres(old: int, new: int) -> NDArray[np.intp]:
    return np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)


def _draw_pass(window: _Window, name: str, draw: Callable[..., UInt8Array]) -> UInt8Array:
    """A pass drawn at its own size and then resized; errors name its files."""
    files = [str(file) for file in window.shot.passes[name].files[window.start : window.stop]]
    picture = draw(read_pass(window.shot, name, window.start, window.stop), names=files)
    resized: UInt8Array = resize(picture, height=window.height, width=window.width)
    return resized


def _draw_depth(window: _Window) -> UInt8Array:
    return _draw_pass(window, "depth", depth_map)


def _draw_pose(window: _Window) -> UInt8Array:
    shot = window.shot
    scale = np.array([window.width / shot.width, window.height / shot.height], np.float32)
    frames = [
        replace(joints, figures=tuple(_scaled(figure, scale) for figure in joints.figures))
        for joints in read_joints(shot, window.start, window.stop)
    ]
    return pose_map(frames, window.height, window.width)


def _scaled(figure: Figure, scale: Float32Array) -> Figure:
    points = figure.points.copy()  # [18, 3]
    # pixel centres are at integers, so the scaling is about the corner at -0.5
    points[:, :2] = (points[:, :2] + 0.5) * scale - 0.5
    return replace(figure, points=points)


def _draw_normal(window: _Window) -> UInt8Array:
    return _draw_pass(window, "normal", normal_map)


def _draw_canny(window: _Window) -> UInt8Array:
    low, high = window.thresholds
    return canny_map(window.frames(), low=low, high=high)


def _draw_softedge(window: _Window) -> UInt8Array:
    return softedge_map(
        window.frames(),
        depth=window.picked("depth"),
        normals=window.picked("normal"),
        ids=window.picked("ids"),
    )


def _draw_lineart(window: _Window) -> UInt8Array:
    """The shot's own lines or a detector's, where there are any; else those of the other passes."""
    shot = window.shot
    if "lineart" in shot.passes:
        lines = lines_map(read_pass(shot, "lineart", window.start, window.stop))
        resized: UInt8Array = resize(lines, height=window.height, width=window.width)
        return resized
    return lineart_map(
        window.frames(),
        depth=window.picked("depth"),
        normals=window.picked("normal"),
        ids=window.picked("ids"),
    )


DRAW: dict[str, Callable[[_Window], UInt8Array]] = {
    "depth": _draw_depth,
    "pose": _draw_pose,
    "normal": _draw_normal,
    "canny": _draw_canny,
    "softedge": _draw_softedge,
    "lineart": _draw_lineart,
}
