"""What people do today to frames that were styled one by one: smooth along estimated flow, or deflicker."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.estimate import dis_flow, ways_between
from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.metrics import Step, chain
from pipeline.steady.warp import warp

FLOW_REACH = 4  # frames either way, the best of 1, 2, 4 for PSNR on the tuning shots
FLICKER_REACH = 8  # of 2, 4, 8
FLICKER_SIGMA = 1.0 / 16.0  # of the height, of 1/16, 1/8, 1/4


def smooth_along_flow(frames: UInt8Array, *, reach: int = FLOW_REACH) -> UInt8Array:
    """The mean of the frames around along DIS flow of the frames themselves, uint8 [T, H, W, 3].

    What does not come back to its start, there and back, is left out; weights fall as a Gaussian of the
    distance in time.
    """
    pairs = list(ways_between(frames, dis_flow()))
    out = []
    for t in range(len(frames)):
        total = frames[t].astype(np.float32)
        weight = np.ones((*total.shape[:2], 1), np.float32)
        for direction in (1, -1):
            way: Step | None = None
            for distance in range(1, reach + 1):
                other = t + direction * distance
                if not 0 <= other < len(frames):
                    break
                step = pairs[other - 1][0] if direction > 0 else pairs[other][1]
                way = step if way is None else chain(way, step)
                mask = way.seen[..., None] * np.float32(np.exp(-0.5 * (2.0 * distance / (reach + 1)) ** 2))
                total += mask * warp(frames[other].astype(np.float32), way.flow)
                weight += mask
        out.append(np.rint(total / weight))
    smoothed: UInt8Array = np.stack(out).astype(np.uint8)
    return smoothed


def deflicker(frames: UInt8Array, *, reach: int = FLICKER_REACH, sigma: float = FLICKER_SIGMA) -> UInt8Array:
    """Each frame with its wide colours those of the frames around, no motion: uint8 [T, H, W, 3]."""
    blur = sigma * frames.shape[1]
    wide = np.stack([cv2.GaussianBlur(frame.astype(np.float32), (0, 0), blur) for frame in frames])
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (2.0 * offsets / (reach + 1)) ** 2).astype(np.float32)
    out = []
    for t, frame in enumerate(frames):
        near = [(w, wide[t + o]) for o, w in zip(offsets, weights, strict=True) if 0 <= t + o < len(frames)]
        mean: Float32Array = sum(w * each for w, each in near) / sum(w for w, _ in near)
        out.append(np.rint(frame.astype(np.float32) + mean - wide[t]))
    steadied: UInt8Array = np.stack(out).clip(0, 255).astype(np.uint8)
    return steadied
