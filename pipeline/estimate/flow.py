"""Motion from pictures alone, and what is hidden: OpenCV's DIS, or RAFT where its weights are here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.estimate.hidden import seen_by_pictures
from pipeline.estimate.values import loading
from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.metrics import Step
from pipeline.steady.warp import BoolArray, warp

GREY_TOLERANCE = 32.0  # levels of 255: light changes less than this from frame to frame
# Variational refinement: OpenCV's 20 and 5 let vectors slip on plain walls. On stage renders at 320 px the
# mean error falls from 1.16 to 0.91 px, on a textured render it rises from 0.12 to 0.13 (docs/log.md).
SMOOTHNESS, REFINEMENTS = 60.0, 25
RAFT_MULTIPLE = 8  # torchvision: RAFT works at an eighth of the size ...
RAFT_SMALLEST = 128  # ... and its coarsest correlations need this many pixels a side
RAFT_UPDATES = 12  # as torchvision's reference

# Two pictures uint8 RGB [H, W, 3] -> flow float32 [H, W, 2] from the first to the second, pixels, x right.
Flow = Callable[[UInt8Array, UInt8Array], Float32Array]
# (index of a pair of pictures, flow onward, flow back) -> what of each is seen in the other, bool [H, W]
Seen = Callable[[int, Float32Array, Float32Array], tuple[BoolArray, BoolArray]]


def dis_flow() -> Flow:
    """OpenCV's DIS (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search"), medium preset with
    more and smoother refinement."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setVariationalRefinementAlpha(SMOOTHNESS)
    estimator.setVariationalRefinementIterations(REFINEMENTS)

    def flow(here: UInt8Array, there: UInt8Array) -> Float32Array:
        found: Float32Array = estimator.calc(_grey(here), _grey(there), None)
        return found

    return flow


def raft_flow(weights: Path, device: str) -> Flow:
    """torchvision's RAFT large (Teed & Deng 2020) with weights from a file. Raises ModelError."""
    import torch
    from torchvision.models.optical_flow import raft_large

    from pipeline.image import to_tensor

    model = raft_large(weights=None)
    with loading(weights):
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    model = model.to(device).eval()

    def flow(here: UInt8Array, there: UInt8Array) -> Float32Array:
        height, width = here.shape[:2]
        below, right = (max(-side % RAFT_MULTIPLE, RAFT_SMALLEST - side) for side in (height, width))
        pair = [np.pad(each, ((0, below), (0, right), (0, 0)), mode="edge")[None] for each in (here, there)]
        with torch.inference_mode():
            first, second = (to_tensor(each, device=device) for each in pair)  # [1, 3, H, W] in [-1, 1]
            found = model(first, second, num_flow_updates=RAFT_UPDATES)[-1][0]
        cut: Float32Array = np.ascontiguousarray(found.movedim(0, -1).float().cpu().numpy()[:height, :width])
        return cut

    return flow


def ways_between(
    pictures: Iterable[UInt8Array], flow: Flow, *, seen: Seen | None = None
) -> Iterator[tuple[Step, Step]]:
    """The pairs of steps t -> t + 1 and t + 1 -> t between pictures uint8 RGB [H, W, 3]; two are held.

    `seen` tells what is hidden, absent: the pictures themselves. Besides, the grey has to stay about the
    same, as over a cut it does not.
    """
    for index, (earlier, later) in enumerate(itertools.pairwise(pictures)):
        forward, backward = flow(earlier, later), flow(later, earlier)
        if seen is None:
            onward = seen_by_pictures(earlier, later, forward, backward)
            back = seen_by_pictures(later, earlier, backward, forward)
        else:
            onward, back = seen(index, forward, backward)
        yield (
            Step(forward, onward & alike(earlier, later, forward)),
            Step(backward, back & alike(later, earlier, backward)),
        )


def alike(here: UInt8Array, there: UInt8Array, flow: Float32Array) -> BoolArray:
    """Where the flow leads from `here` to about the same grey of `there`, bool [H, W]."""
    difference = np.abs(warp(_grey(there), flow).astype(np.float32) - _grey(here))
    same: BoolArray = difference <= GREY_TOLERANCE
    return same


def _grey(picture: UInt8Array) -> UInt8Array:
    grey: UInt8Array = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return grey
