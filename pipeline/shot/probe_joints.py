"""What a shot's joints say of its vectors: where it has any, they move as the surface before them does.

Light does not reach them, so they settle what a grey render cannot: whether vectors are over one frame, and
which way in time they point. A joint lies inside the body, and where the body turns the surface before it
moves more: lengths are known to a third, no better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array
from pipeline.shot.arrow import Arrow
from pipeline.shot.encoding import VectorEncoding, decode
from pipeline.shot.hypotheses import LEAST_ERROR, signed_ranks
from pipeline.shot.probe_frames import MOST_TIMED, read_vectors
from pipeline.shot.read import read_joints
from pipeline.shot.values import FrameJoints, PassSource, Shot

# Nose, wrists, eyes: thin or at the front, so that what is seen there moves as they do. Before elbows, hips
# and shoulders other limbs cross: vectors there are up to 1.6 times off.
USED = np.array([0, 4, 7, 14, 15])
FEWEST_JOINTS = 24  # of all frames together
SHORTEST_STEP = 0.3  # pixels a frame; what moves less says nothing of lengths
LONGEST_OFF = 0.7  # of the step, median: beyond, the joints are not of these pictures
ONE_FRAME = (0.62, 1.1)  # a joint's step over the surface's before it: 0.66 to 1.01 on 19 shots
ROBUST_PIXELS = 0.5  # a miss beyond this weighs by its length, not its square (Huber 1964)
LEAST_SLOPE_ERROR = 0.1
SEEN = 2
RENDERED = ("json", "solo")  # joints of other origin are estimates, which follow no surface


@dataclass(frozen=True)
class JointSteps:
    """N visible joints that move: frame index [N], stored vectors [N, 2] at their pixel, and their steps.

    `past` and `future` float32 [N, 2]: where the joint is in t-1 and t+1, less where it is in t, in pixels.
    """

    frames: NDArray[np.intp]
    stored: Float32Array
    past: Float32Array
    future: Float32Array
    size: tuple[int, int]

    @property
    def even(self) -> Float32Array:
        """The step to t-1 at even speed [N, 2]."""
        return ((self.past - self.future) / 2).astype(np.float32, copy=False)

    def flow(self, reading: VectorEncoding | None, channels: tuple[str, str]) -> Float32Array:
        """The stored vectors under a reading, to t-1 in pixels, 0 where there are none: [N, 2]."""
        if reading is None:
            return np.zeros_like(self.stored)
        stored = self.stored if reading.channels == channels else self.stored[:, ::-1]
        decoded = decode(np.ascontiguousarray(stored[None]), reading, size=self.size)[0]
        flow: Float32Array = np.nan_to_num(decoded, posinf=0.0, neginf=0.0)
        return flow


def joint_steps(shot: Shot, source: PassSource, pair: tuple[str, str]) -> JointSteps | None:
    """The steps of the shot's visible joints, at most 48 frames of them; None where too few move."""
    if "joints" not in shot.passes or shot.passes["joints"].origin not in RENDERED:
        return None
    inner = np.arange(1, shot.num_frames - 1)
    rows = []
    for t in inner[np.unique(np.linspace(0, len(inner) - 1, MOST_TIMED).astype(int))]:
        before, now, after = (_points(frame) for frame in read_joints(shot, int(t) - 1, int(t) + 2))
        stored = None
        for key in now.keys() & before.keys() & after.keys():
            points = now[key]
            x, y = np.rint(points[:, 0]), np.rint(points[:, 1])
            usable = (points[:, 2] == SEEN) & (before[key][:, 2] > 0) & (after[key][:, 2] > 0)
            usable &= (x >= 0) & (x < shot.width) & (y >= 0) & (y < shot.height)
            if usable.any():
                stored = read_vectors(shot, source, int(t), pair) if stored is None else stored
                vectors = stored[y[usable].astype(int), x[usable].astype(int)]
                steps = [(each[key] - points)[usable, :2] for each in (before, after)]
                rows.append(np.hstack([np.full((len(vectors), 1), t), vectors, *steps]))
    table = np.concatenate(rows) if rows else np.zeros((0, 7))
    moving = np.linalg.norm(table[:, 3:5] - table[:, 5:7], axis=1) / 2 > SHORTEST_STEP
    table = table[moving & np.isfinite(table).all(axis=1)].astype(np.float32)
    if len(table) < FEWEST_JOINTS:
        return None
    size = (shot.width, shot.height)
    return JointSteps(table[:, 0].astype(np.intp), table[:, 1:3], table[:, 3:5], table[:, 5:7], size)


def _points(frame: FrameJoints) -> dict[int, Float32Array]:
    return {figure.id: figure.points[USED] for figure in frame.figures}


def length_ratio(steps: JointSteps, reading: VectorEncoding, channels: tuple[str, str]) -> float | None:
    """The joints' steps over the vectors' under a reading, the median; None where they do not go together."""
    flow, even = steps.flow(reading, channels), steps.even
    ratio = float(np.median((flow * even).sum(axis=1) / np.maximum(np.square(flow).sum(axis=1), 1e-6)))
    off = np.linalg.norm(ratio * flow - even, axis=1) / np.linalg.norm(even, axis=1)
    return ratio if ratio > 0 and float(np.median(off)) < LONGEST_OFF else None


def compare_joints(
    steps: JointSteps, best: VectorEncoding, other: VectorEncoding | None, channels: tuple[str, str]
) -> tuple[float, float]:
    """How much farther from the joints' steps `other` is: ratio of the misses, and how surely, in sigmas."""
    own, others = (_missed(steps, reading, channels) for reading in (best, other))
    by_frame = [np.bincount(steps.frames, each) for each in (own, others)]
    difference = np.asarray(by_frame[1] - by_frame[0], np.float64)[np.bincount(steps.frames) > 0]
    return float((others.sum() + LEAST_ERROR) / (own.sum() + LEAST_ERROR)), signed_ranks(difference)


def _missed(
    steps: JointSteps, reading: VectorEncoding | None, channels: tuple[str, str]
) -> NDArray[np.float64]:
    """How far each joint's step is from the vector before it, in pixels, at most three steps: [N]."""
    off = np.linalg.norm(steps.flow(reading, channels) - steps.even, axis=1)
    missed: NDArray[np.float64] = np.minimum(off, 3 * np.linalg.norm(steps.even, axis=1)).astype(np.float64)
    return missed


def joint_arrow(steps: JointSteps, reading: VectorEncoding, channels: tuple[str, str]) -> Arrow:
    """Which way in time the vectors point: where a joint speeds up by A, they are off even speed by +A or -A.

    The slope of that line by least squares, Huber's weights, its error from the spread between frames.
    """
    off = steps.flow(reading, channels) - steps.even
    speeding = (steps.past + steps.future) / 2
    weight = np.minimum(1.0, ROBUST_PIXELS / np.maximum(np.linalg.norm(off, axis=1), 1e-6))
    shared = np.bincount(steps.frames, weight * (speeding * off).sum(axis=1))
    known = np.bincount(steps.frames, weight * np.square(speeding).sum(axis=1))
    total = max(float(known.sum()), 1e-9)
    slope = float(shared.sum()) / total
    error = max(float(np.sqrt(np.square(shared - slope * known).sum())) / total, LEAST_SLOPE_ERROR)
    step = float(np.quantile(np.linalg.norm(speeding, axis=1), 0.99))
    return Arrow(slope, error, step, slope)
