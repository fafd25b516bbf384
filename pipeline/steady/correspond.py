"""Where a surface point of one frame is in any other frame, and how far that view of it is to be trusted.

Motion vectors are composed in float32 and the picture is sampled once at the end. Where the renderer gives
depth and cameras, points of what stands still are found in any frame by their place in the world too, so a
wall that was hidden for a while is known again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array, UInt32Array
from pipeline.steady.metrics import Step
from pipeline.steady.picture import depth_edges
from pipeline.steady.visibility import DEPTH_TOLERANCE, soften
from pipeline.steady.warp import BoolArray, in_frame, largest, warp

FloatArray = NDArray[np.float64]

RIM_REACH = 3.0 / 128.0  # of the frame's height: a styled outline bleeds this far over what is behind it
RIM_TRUST = 0.02  # of what was painted so near an outline that has moved away since
MOST_STRETCH = 3.0  # beyond e^-3 a view is as good as none, and better than a hole
STILL = 0.25  # pixels: a vector this near to the camera's own is of something that stands still
LEAST_FACING = 0.1  # cosine: surfaces seen more edge-on than this count as this


@dataclass(frozen=True)
class Pinhole:
    """A camera at the rendered size.

    `position` float64 [3] in the world; `rotation` [3, 3], rows right, up, forward; `focal` and `centre`
    x and y in pixels, pixel centres at integers.
    """

    position: FloatArray
    rotation: FloatArray
    focal: tuple[float, float]
    centre: tuple[float, float]


@dataclass(frozen=True)
class Surfaces:
    """What a frame's passes know of its surfaces; None where the shot has no such pass.

    `depth` float32 [H, W] metres; `ids` uint32 [H, W]; `rim` float32 [H, W], 1 = beside an outline, where a
    styled picture shows both surfaces; `facing` float32 [H, W], 1 = seen squarely; `still` bool [H, W], what
    moves as the camera alone makes it.
    """

    depth: Float32Array | None
    ids: UInt32Array | None
    camera: Pinhole | None
    rim: Float32Array
    facing: Float32Array
    still: BoolArray | None


def read_camera(record: Mapping[str, Any], *, width: int, height: int) -> Pinhole | None:
    """A frame's camera from joints.json, at another size; None where it is not all there.

    Keys as docs/architecture.md lists them: position, rotation (rows right, up, forward), focal in pixels,
    width and height.
    """
    try:
        sx, sy = width / float(record["width"]), height / float(record["height"])
        position = np.asarray(record["position"], np.float64)
        rotation = np.asarray(record["rotation"], np.float64)
        focal = float(record["focal"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if position.shape != (3,) or rotation.shape != (3, 3) or not focal > 0.0:
        return None
    return Pinhole(position, rotation, (focal * sx, focal * sy), ((width - 1) / 2.0, (height - 1) / 2.0))


def camera_flow(depth: Float32Array, here: Pinhole, there: Pinhole) -> tuple[Float32Array, Float32Array]:
    """Where points that stand still are seen by another camera.

    `depth` float32 [H, W] in metres along the axis. Returns the flow, float32 [H, W, 2] in pixels, nan where
    nothing was hit or the point is behind the other camera, and the point's depth there, [H, W].
    """
    height, width = depth.shape
    x = (np.arange(width, dtype=np.float32) - here.centre[0]) / here.focal[0]
    y = (here.centre[1] - np.arange(height, dtype=np.float32)) / here.focal[1]
    turn = (here.rotation @ there.rotation.T).astype(np.float32)  # local here -> local there
    shift = ((here.position - there.position) @ there.rotation.T).astype(np.float32)
    known = np.isfinite(depth)
    z = np.where(known, depth, np.float32(1.0))
    right, up, ahead = (
        z * (x[None, :] * turn[0, i] + y[:, None] * turn[1, i] + turn[2, i]) + shift[i] for i in range(3)
    )
    known &= ahead > 1e-3
    ahead = np.where(known, ahead, np.float32(1.0))
    flow = np.empty((height, width, 2), np.float32)
    flow[..., 0] = there.centre[0] + there.focal[0] * right / ahead - np.arange(width)[None, :]
    flow[..., 1] = there.centre[1] - there.focal[1] * up / ahead - np.arange(height)[:, None]
    flow[~known] = np.nan
    return flow, ahead


def still_points(depth: Float32Array, here: Pinhole, there: Pinhole, flow: Float32Array) -> BoolArray:
    """Which points move as the camera alone makes them: bool [H, W]; `flow` is the vectors to `there`."""
    own, _ = camera_flow(depth, here, there)
    with np.errstate(invalid="ignore"):
        off = largest(own - flow)
        still: BoolArray = off < STILL
    return still


def by_world(link: Step, here: Surfaces, there: Surfaces) -> Step:
    """The link with points that stand still looked up by their place in the world.

    `link`: the composed way from `here` to `there`. Such a point is seen there if the depth found at its
    place is its own and that stands still too. Without depth, cameras or lost still points: the link itself.
    """
    if (
        here.depth is None or there.depth is None or here.camera is None or there.camera is None
        or here.still is None or there.still is None or not (here.still & ~link.seen).any()
    ):  # fmt: skip
        return link
    flow, ahead = camera_flow(here.depth, here.camera, there.camera)
    found = warp(there.depth, flow, sampling="nearest")
    still = warp(there.still.astype(np.uint8), flow, sampling="nearest") > 0
    with np.errstate(invalid="ignore"):
        seen = here.still & still & in_frame(flow) & (np.abs(found - ahead) < DEPTH_TOLERANCE * ahead)
    if here.ids is not None and there.ids is not None:
        seen &= warp(there.ids, flow, sampling="nearest") == here.ids
    return Step(np.where(seen[..., None], flow, link.flow), link.seen | seen)


def rim(depth: Float32Array | None, ids: UInt32Array | None, flow: Float32Array | None) -> Float32Array:
    """How near each pixel is to an outline: float32 [H, W], 1 at it, 0 from `RIM_REACH` on.

    Outlines are jumps of `depth`; without it borders of `ids`; without both, jumps of `flow` by more than a
    pixel, float32 [H, W, 2].
    """
    if depth is not None:
        edges = depth_edges(depth)
    elif ids is not None:
        edges = _borders(ids)
    else:
        assert flow is not None, "an outline needs depth, ids or motion"
        edges = _jumps(np.nan_to_num(flow, nan=0.0, posinf=0.0, neginf=0.0))
    if not edges.any():
        return np.zeros(edges.shape, np.float32)
    reach = RIM_REACH * edges.shape[0]
    distance = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, 3)
    near: Float32Array = np.clip(2.0 - 2.0 * distance / reach, 0.0, 1.0).astype(np.float32)
    return near


def trust(link: Step, here: Surfaces, *, rim_there: Float32Array, facing_there: Float32Array) -> Float32Array:
    """How far another frame's view stands for this frame's surfaces: float32 [H, W] in [0, 1].

    `link`: the way there; `rim_there`, `facing_there`: the other frame's, sampled along it. Visibility x
    exp(-stretch) x facing, and next to nothing where the other view is beside an outline that is not beside
    this pixel here: what a styled outline has bled there belongs to what has moved away.
    """
    bled = rim_there * (1.0 - here.rim)
    squarely = np.minimum(facing_there / here.facing, 1.0)
    trusted: Float32Array = (
        soften(link.seen) * np.exp(-stretch(link.flow)) * (1.0 - (1.0 - RIM_TRUST) * bled) * squarely
    )
    return trusted


def facing(normals: Float32Array | None, shape: tuple[int, int]) -> Float32Array:
    """How squarely each surface is seen, float32 [H, W] from `LEAST_FACING` to 1; 1 without normals."""
    if normals is None:
        return np.ones(shape, np.float32)
    toward = np.nan_to_num(normals[..., 2], nan=1.0)  # a renderer's sky has none
    squarely: Float32Array = np.maximum(toward, np.float32(LEAST_FACING))
    return squarely


def stretch(flow: Float32Array) -> Float32Array:
    """How much the way changes a pixel's shape: |log s1| + |log s2|, singular values of its Jacobian, [H, W].

    At most `MOST_STRETCH`; s1 s2 is the determinant, s1^2 + s2^2 the squared norm.
    """
    smooth = cv2.blur(np.nan_to_num(flow, nan=0.0, posinf=0.0, neginf=0.0), (3, 3))
    x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)  # [H, W, 2], d/dx
    y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    a, b, c, d = 1.0 + x[..., 0], y[..., 0], x[..., 1], 1.0 + y[..., 1]
    determinant = np.abs(a * d - b * c)
    norm = a * a + b * b + c * c + d * d
    spread = np.sqrt(np.maximum(norm * norm - 4.0 * determinant * determinant, 0.0))
    large, small = 0.5 * (norm + spread), 0.5 * (norm - spread)  # the squares of the singular values
    logs = np.abs(np.log(np.maximum(large, 1e-6))) + np.abs(np.log(np.maximum(small, 1e-6)))
    result: Float32Array = np.minimum(0.5 * logs, MOST_STRETCH)
    return result


def _borders(ids: UInt32Array) -> BoolArray:
    edges = np.zeros(ids.shape, bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _jumps(flow: Float32Array) -> BoolArray:
    spread = cv2.dilate(flow, np.ones((3, 3), np.uint8)) - cv2.erode(flow, np.ones((3, 3), np.uint8))
    jumps: BoolArray = spread.max(axis=2) > 1.0
    return jumps
