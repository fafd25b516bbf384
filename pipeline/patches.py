"""Parts of frames styled by themselves, as crops with their surroundings for context."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.diffuse import KnownPixels
from pipeline.image import Float32Array
from pipeline.preset import Look
from pipeline.shot import Shot
from pipeline.steady.blend import to_uint8
from pipeline.steady.cover import Patch
from pipeline.steady.warp import BoolArray
from pipeline.styling import Inputs, Stylist, read_inputs, settings_of

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

CONTEXT = 1.0 / 16.0  # of the frame: what a crop shows around a hole at least
GROW = 2  # pixels: the rim of a hole is styled too, so that both agree
FEATHER = 0.8  # pixels: sigma of a patch's own rim


@dataclass(frozen=True)
class Job:
    """A part of a frame to style, as the crop `box`.

    `pixels`: float32 [H, W, 3], what is known of the frame; `hole`: bool [H, W], where it is not.
    """

    frame: int
    box: Box
    pixels: Float32Array
    hole: BoolArray

    @property
    def share(self) -> float:
        """The crop's share of the frame."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top) / self.hole.size


def box_of(patch: Patch, stylist: Stylist) -> Box:
    """The crop in which a patch is styled: legal for the model, at least half its own size if that fits."""
    plan, family = stylist.plan, stylist.model.family

    def span(low: float, high: float, full: int) -> tuple[int, int]:
        wanted = max((high - low + 2.0 * CONTEXT) * full, family.default_size / 2.0)
        side = min(full, -(-int(wanted) // family.size_multiple) * family.size_multiple)
        start = min(max(0, round((low + high) / 2.0 * full) - side // 2), full - side)
        return start, start + side

    (left, right), (top, bottom) = (
        span(patch.left, patch.right, plan.width),
        span(patch.top, patch.bottom, plan.height),
    )
    return left, top, right, bottom


def box_around(part: BoolArray, stylist: Stylist) -> Box:
    """The crop for a part of a frame, bool [H, W] with anything in it."""
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    height, width = part.shape
    shares = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return box_of(Patch(0, *(float(share) for share in shares)), stylist)


def paint(shot: Shot, stylist: Stylist, jobs: Sequence[Job]) -> list[tuple[Float32Array, Float32Array]]:
    """Style the holes of some frames: for each job the frame with its hole filled, float32 [H, W, 3], and how
    far each pixel is the patch's, float32 [H, W].

    What is known around a hole is held at every step. Crops of one size and one setting share a batch.
    """
    groups: dict[tuple[int, int, Look], list[int]] = defaultdict(list)
    for n, job in enumerate(jobs):
        left, top, right, bottom = job.box
        groups[right - left, bottom - top, settings_of(stylist.plan.looks[job.frame])].append(n)
    crops: dict[int, Float32Array] = {}
    for members in groups.values():
        inputs = [
            read_inputs(shot, stylist.plan, jobs[n].frame, jobs[n].frame + 1).box(*jobs[n].box)
            for n in members
        ]
        known = [_known(jobs[n]) for n in members]
        styled = stylist.style(
            [jobs[n].frame for n in members],
            Inputs.joined(inputs),
            known=KnownPixels(np.stack([p for p, _ in known]), np.stack([m for _, m in known])),
        )
        crops |= dict(zip(members, styled.astype(np.float32), strict=True))
    return [_pasted(job, crops[n]) for n, job in enumerate(jobs)]


def _known(job: Job) -> tuple[np.ndarray, Float32Array]:
    left, top, right, bottom = job.box
    mask = 1.0 - _grown(job.hole)
    return to_uint8(job.pixels[top:bottom, left:right]), np.ascontiguousarray(mask[top:bottom, left:right])


def _grown(hole: BoolArray) -> Float32Array:
    size = 2 * GROW + 1
    grown: Float32Array = cv2.dilate(hole.astype(np.float32), np.ones((size, size), np.uint8))
    return grown


def _pasted(job: Job, crop: Float32Array) -> tuple[Float32Array, Float32Array]:
    left, top, right, bottom = job.box
    inside = np.zeros(job.hole.shape, np.float32)
    inside[top:bottom, left:right] = _grown(job.hole)[top:bottom, left:right]
    alpha: Float32Array = cv2.GaussianBlur(inside, (0, 0), FEATHER) * inside
    pixels = job.pixels.copy()
    part = alpha[top:bottom, left:right, None]
    pixels[top:bottom, left:right] += part * (crop - pixels[top:bottom, left:right])
    return pixels, alpha
