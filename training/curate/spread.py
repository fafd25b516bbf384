"""Frames that differ most from one another: farthest-point selection over what the audit looks at.

Gonzalez 1985: take the point farthest from those taken, again and again. Light, background, framing and view
count the same, each measured against its own spread in the film.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.shot import FrameJoints
from training.curate.film import Candidate
from training.curate.measure import SAME_ABOVE, same_picture
from training.curate.views import angle_of, main_figure

FloatArray = NDArray[np.float64]


def choose_spread(
    candidates: Sequence[Candidate], count: int, joints: Mapping[int, FrameJoints] | None = None
) -> list[Candidate]:
    """Up to `count` candidates, the sharpest first and then each farthest from those before; no two alike.

    `joints` by frame index, where they are known. Fewer come back where the rest are near copies. The same
    candidates give the same choice; of equals the earlier one wins.
    """
    if not candidates or count < 1:
        return []
    points = features(candidates, joints or {})
    chosen = [int(np.argmax([each.measures.sharpness for each in candidates]))]
    nearest = np.full(len(candidates), np.inf)
    while len(chosen) < count:
        newest = candidates[chosen[-1]]
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        alike = [same_picture(newest.measures, each.measures) > SAME_ABOVE for each in candidates]
        nearest[np.asarray(alike)] = -1.0
        farthest = int(np.argmax(nearest))
        if nearest[farthest] < 0.0:
            break
        chosen.append(farthest)
    return [candidates[index] for index in chosen]


def features(candidates: Sequence[Candidate], joints: Mapping[int, FrameJoints]) -> FloatArray:
    """Candidates as points [N, D]; each of the blocks light, background, framing and view spreads by 1."""
    light = np.stack([[each.measures.lightness, *each.measures.tint] for each in candidates])
    border = np.stack([each.measures.border for each in candidates])
    layout = np.stack([each.layout for each in candidates])
    blocks = [light, border, layout]
    if joints:
        blocks += [np.stack([_pose(joints.get(each.index)) for each in candidates])]
    return np.concatenate([_even(block) for block in blocks], axis=1)


def _even(block: FloatArray) -> FloatArray:
    """A block [N, D] about its mean, scaled so that its points lie 1 from it on the average."""
    centred = block - block.mean(axis=0)
    spread = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return np.asarray(centred / max(spread, 1e-9), np.float64)


def _pose(joints: FrameJoints | None) -> FloatArray:
    """How the largest figure is seen: the face's direction, and the size of its head as a doubling each."""
    figure = main_figure(joints) if joints is not None else None
    if joints is None or figure is None:
        return np.zeros(3)
    angle = angle_of(figure, joints.camera)
    across, ahead = (0.0, 0.0) if angle is None else (math.sin(angle), math.cos(angle))
    seen = figure.points[figure.points[:, 2] > 0, 1]
    tall = float(np.ptp(seen)) if len(seen) else 0.0
    return np.asarray([across, ahead, math.log2(1.0 + tall) / 4.0])
