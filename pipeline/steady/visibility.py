"""Which surface points of this frame were seen in the frame before.

The stage and some renderers write the exact answer as the `visible` pass; otherwise it follows from geometry:
under the warp the ids agree and the depths agree, and the point lay on the frame.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array, UInt8Array, UInt32Array
from pipeline.steady.warp import BoolArray, in_frame, warp

VISIBLE_NEXT = 1  # bit 0 of the visible pass: seen in t+1
VISIBLE_PREVIOUS = 2  # bit 1: seen in t-1
DEPTH_TOLERANCE = 0.05  # share of the depth; a walk towards the lens changes it by up to 3 % a frame
ERODE_PIXELS = 1  # edge pixels are mixtures of two surfaces and follow neither
SOFT_SIGMA = 0.7  # pixels; the mask falls over about two pixels, so that no seam shows


def visible_backward(
    *,
    ids_now: UInt32Array,
    ids_previous: UInt32Array,
    depth_now: Float32Array,
    depth_previous: Float32Array,
    backward_flow: Float32Array,
    visible: UInt8Array | None = None,
) -> Float32Array:
    """How far each pixel may be taken from the frame before: float32 [H, W] in [0, 1], 0 = not seen there.

    `ids_*`: uint32 [H, W]; `depth_*`: float32 [H, W] in metres, inf = nothing; `backward_flow`: float32
    [H, W, 2] in pixels, t -> t-1; `visible`: the exact pass, uint8 [H, W], used instead of ids and depth
    where a shot has it. The edges are eroded by a pixel and softened. ValueError if sizes differ.
    """
    if visible is not None:
        seen = in_frame(backward_flow) & (visible & VISIBLE_PREVIOUS > 0)
    else:
        seen = seen_before(
            ids_now=ids_now,
            ids_previous=ids_previous,
            depth_now=depth_now,
            depth_previous=depth_previous,
            backward_flow=backward_flow,
        )
    return soften(seen)


def seen_before(
    *,
    ids_now: UInt32Array,
    ids_previous: UInt32Array,
    depth_now: Float32Array,
    depth_previous: Float32Array,
    backward_flow: Float32Array,
) -> BoolArray:
    """The hard mask by geometry, bool [H, W]: same id under the warp, |z_warped - z| < eps z, in frame.

    Where nothing was hit (inf) both depths have to be inf. Depth is compared with the range of the 3 x 3
    pixels round the source point, so that a sub-pixel shift on a slanted surface is not taken for occlusion.
    """
    _check_sizes(ids_now, ids_previous, depth_now, depth_previous, backward_flow)
    same_id = warp(ids_previous, backward_flow, sampling="nearest") == ids_now
    lowest, highest = _depth_range(depth_previous, backward_flow)
    tolerance = DEPTH_TOLERANCE * np.where(np.isfinite(depth_now), depth_now, np.float32(0.0))
    same_depth = (depth_now >= lowest - tolerance) & (depth_now <= highest + tolerance)
    seen: BoolArray = in_frame(backward_flow) & same_id & same_depth
    return seen


def soften(seen: BoolArray) -> Float32Array:
    """A mask eroded by a pixel and softened inwards: float32 [H, W] in [0, 1], 0 wherever `seen` is False."""
    size = 2 * ERODE_PIXELS + 1
    # the frame's own edge is no occlusion: outside counts as seen
    eroded = cv2.erode(seen.astype(np.float32), np.ones((size, size), np.uint8), borderValue=1.0)
    soft = cv2.GaussianBlur(eroded, (0, 0), SOFT_SIGMA, borderType=cv2.BORDER_REPLICATE)
    inward: Float32Array = np.where(seen, soft, np.float32(0.0))
    return inward


def _depth_range(depth: Float32Array, flow: Float32Array) -> tuple[Float32Array, Float32Array]:
    """The least and greatest depth of the 3 x 3 pixels round the source point, each float32 [H, W]."""
    kernel = np.ones((3, 3), np.uint8)
    finite = np.where(np.isfinite(depth), depth, np.float32(np.finfo(np.float32).max))
    lowest = warp(cv2.erode(finite, kernel, borderType=cv2.BORDER_REPLICATE), flow, sampling="nearest")
    highest = warp(cv2.dilate(finite, kernel, borderType=cv2.BORDER_REPLICATE), flow, sampling="nearest")
    far = np.float32(np.finfo(np.float32).max)
    return lowest, np.where(highest == far, np.float32(np.inf), highest)


def _check_sizes(*arrays: NDArray[np.generic]) -> None:
    sizes = {array.shape[:2] for array in arrays}
    if len(sizes) != 1:
        raise ValueError(f"sizes differ: {sorted(sizes)}; ids, depth and flow must be of one frame size")
