"""The way from each frame of a shot to the next: exact from its passes, else estimated from its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import cv2
import numpy as np

from pipeline.conform import nearest
from pipeline.image import Float32Array, UInt8Array, resize
from pipeline.shot import Shot, iterate_frames, read_motion, read_pass
from pipeline.steady.metrics import Step
from pipeline.steady.visibility import VISIBLE_NEXT, seen_before
from pipeline.steady.warp import BoolArray, in_frame, warp

Origin = Literal["motion pass", "estimated (DIS)"]
WINDOW = 8  # frames read at a time
ROUND_TRIP = 1.0  # pixels: there and back again must end this near, where no pass tells what is seen
NO_DEPTH = np.float32(np.inf)


def motion_origin(shot: Shot) -> Origin:
    """Where `iterate_steps` takes this shot's motion from."""
    return "motion pass" if "motion" in shot.passes else "estimated (DIS)"


def iterate_steps(shot: Shot, *, width: int, height: int) -> Iterator[Step]:
    """The T - 1 steps t -> t + 1 at the given size, one at a time.

    With a motion pass the flow is exact. What is seen in both frames then comes from the `visible` pass, else
    from ids and depth, else from going there and back. Without one, flow is OpenCV's DIS (Kroeger et al.
    2016) on the shot's own pictures, seen where there and back agree. Raises ShotError for a damaged pass.
    """
    if motion_origin(shot) == "motion pass":
        for t in range(shot.num_frames - 1):
            yield _exact(shot, t, width, height)
    else:
        yield from _estimated(shot, width, height)


def _exact(shot: Shot, t: int, width: int, height: int) -> Step:
    motion = read_motion(shot, t, t + 2)
    scale = np.array([width / shot.width, height / shot.height], np.float32)
    forward, backward = (
        nearest(flow, width=width, height=height) * scale for flow in (motion.forward[0], motion.backward[1])
    )
    if "visible" in shot.passes:
        (visible,) = _picked(shot, "visible", t, t + 1, width, height)
        return Step(forward, in_frame(forward) & (visible & VISIBLE_NEXT > 0))
    if not {"ids", "depth"} & set(shot.passes):
        return Step(forward, round_trip(forward, backward))
    blank = np.zeros((2, height, width), np.uint32)
    ids = _picked(shot, "ids", t, t + 2, width, height) if "ids" in shot.passes else blank
    far = np.full((2, height, width), NO_DEPTH, np.float32)
    depth = _picked(shot, "depth", t, t + 2, width, height) if "depth" in shot.passes else far
    seen = seen_before(
        ids_now=ids[0],
        ids_previous=ids[1],
        depth_now=depth[0],
        depth_previous=depth[1],
        backward_flow=forward,
    )
    return Step(forward, seen)


def _picked(shot: Shot, name: str, start: int, stop: int, width: int, height: int) -> Any:
    values = read_pass(shot, name, start, stop)
    return np.stack([nearest(each, width=width, height=height) for each in values])


def _estimated(shot: Shot, width: int, height: int) -> Iterator[Step]:
    earlier: UInt8Array | None = None
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for window in iterate_frames(shot, WINDOW):
        for frame in resize(window, height=height, width=width):
            later = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            if earlier is not None:
                forward = estimator.calc(earlier, later, None)
                yield Step(forward, round_trip(forward, estimator.calc(later, earlier, None)))
            earlier = later


def round_trip(forward: Float32Array, backward: Float32Array) -> BoolArray:
    """Where going along `forward` and back along `backward` ends within a pixel of the start: bool [H, W].

    Both float32 [H, W, 2] in pixels; false where either has no vector or the way leaves the frame.
    """
    unknown = np.logical_not(np.isfinite(backward).all(axis=2))
    back = warp(np.where(unknown[..., None], np.float32(0.0), backward), forward)
    lost = warp(unknown.astype(np.float32), forward) > 0.0
    off = np.linalg.norm(np.nan_to_num(forward, nan=0.0, posinf=0.0, neginf=0.0) + back, axis=2)
    agreed: BoolArray = in_frame(forward) & ~lost & (off <= ROUND_TRIP)
    return agreed
