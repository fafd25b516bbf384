"""How steady a film is along known motion (docs/measures.md, "Steadiness").

All of these stream: a frame and a step at a time, so memory does not grow with the shot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.warp import BoolArray, compose, finite, in_frame, warp

LONG_RANGE = 8  # frames; a third of a second at 24 fps


@dataclass(frozen=True)
class Step:
    """The way from one frame to a later one, along exact or estimated motion.

    `flow`: float32 [H, W, 2] in pixels, from the earlier frame's pixels; `seen`: bool [H, W], the earlier
    frame's surface point is visible in the later frame.
    """

    flow: Float32Array
    seen: BoolArray


def pair_error(earlier: UInt8Array, later: UInt8Array, step: Step) -> float | None:
    """Lai et al. 2018, eq. 11 for one pair: sum M (V - I)^2 / sum M, V(p) = later(p + flow(p)).

    Frames are uint8 RGB [H, W, 3], taken in [0, 1]; the square is averaged over the channels. Bilinear
    sampling. None where nothing is seen in both (a cut).
    """
    mask = step.seen & in_frame(step.flow)
    if not mask.any():
        return None
    fetched = warp(later.astype(np.float32), step.flow)
    squares = np.square((fetched - earlier.astype(np.float32)) / 255.0).mean(axis=2)
    return float(squares[mask].mean(dtype=np.float64))


def e_warp(frames: Iterable[UInt8Array], steps: Iterable[Step], *, span: int = 1) -> float:
    """E_warp: the mean of `pair_error` over all pairs (t, t + span) that share anything.

    `frames`: T frames uint8 RGB [H, W, 3]; `steps`: the T - 1 steps t -> t + 1, which are composed for a
    longer span, so that every frame is sampled once. Report it beside the source's own (the floor) and the
    sharpness: blur lowers it. Raises ValueError for lengths that do not fit or a shot without one
    comparable pair.
    """
    errors = [
        error
        for earlier, later, step in _pairs(frames, steps, span=span)
        if (error := pair_error(earlier, later, step)) is not None
    ]
    if not errors:
        raise ValueError(f"no two frames {span} apart share a visible surface; E_warp is not defined")
    return float(np.mean(errors))


def drift(frames: Iterable[UInt8Array], steps: Iterable[Step]) -> list[float | None]:
    """`pair_error` between the first frame and each later one along the composed motion; T - 1 values."""
    iterator = iter(frames)
    first = next(iterator)
    errors: list[float | None] = []
    total: Step | None = None
    for frame, step in zip(iterator, steps, strict=True):
        total = step if total is None else chain(total, step)
        errors.append(pair_error(first, frame, total))
    return errors


def chain(first: Step, second: Step) -> Step:
    """Two steps as one; a point is seen at the end if it was seen at both."""
    onward = warp(second.seen.view(np.uint8), first.flow, sampling="nearest").view(bool)
    flow = compose(first.flow, second.flow)
    # a pixel beside a hole may look at a point that is seen; what left the frame has no vector
    return Step(flow, first.seen & onward & finite(flow))


def luma_deviation(frame: UInt8Array, later: Sequence[tuple[UInt8Array, Step]]) -> float | None:
    """Mean over the pixels of the standard deviation of the luma along their trajectories, in [0, 1].

    `frame`: uint8 RGB [H, W, 3]; `later`: frames and the steps from `frame` to each. Only points that are
    seen all the way count; None where there are none.
    """
    mask = np.ones(frame.shape[:2], bool)
    values = [luma(frame)]
    for other, step in later:
        mask &= step.seen & in_frame(step.flow)
        values.append(warp(luma(other), step.flow))
    if not mask.any():
        return None
    return float(np.std(np.stack(values), axis=0)[mask].mean(dtype=np.float64))


def laplacian_energy(frame: UInt8Array) -> float:
    """Mean square of the 4-neighbour Laplacian of the luma in [0, 1], without the frame's rim."""
    laplacian = cv2.Laplacian(luma(frame), cv2.CV_32F, ksize=1)
    return float(np.square(laplacian[1:-1, 1:-1]).mean(dtype=np.float64))


def sharpness_ratio(frames: Iterable[UInt8Array], reference: Iterable[UInt8Array]) -> float:
    """Laplacian energy of `frames` over that of `reference`, both uint8 [H, W, 3]; 1 = as sharp, 0 = flat.

    Raises ValueError for lengths that differ or a reference without any detail.
    """
    total, expected = 0.0, 0.0
    for frame, other in zip(frames, reference, strict=True):
        total += laplacian_energy(frame)
        expected += laplacian_energy(other)
    if expected == 0.0:
        raise ValueError("the reference frames are flat; a sharpness ratio is not defined")
    return total / expected


def luma(frame: UInt8Array) -> Float32Array:
    """Rec. 601 luma of uint8 RGB [H, W, 3]: float32 [H, W] in [0, 1]."""
    weighted: Float32Array = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return weighted / np.float32(255.0)


def _pairs(
    frames: Iterable[UInt8Array], steps: Iterable[Step], *, span: int
) -> Iterator[tuple[UInt8Array, UInt8Array, Step]]:
    """Every (frame t, frame t + span, the step between them); holds `span` frames and steps."""
    iterator = iter(frames)
    held_frames = deque([next(iterator)], maxlen=span)
    held_steps: deque[Step] = deque(maxlen=span)
    for frame, step in zip(iterator, steps, strict=True):
        held_steps.append(step)
        if len(held_steps) == span:
            total = held_steps[0]
            for onward in list(held_steps)[1:]:
                total = chain(total, onward)
            yield held_frames[0], frame, total
        held_frames.append(frame)
