"""Frames that someone styled one by one, steadied along exact motion without any diffusion.

Every frame is put together from its neighbours' views of the same surfaces, in two bands. Stains and colour
that flicker are wide and slow: the low band averages many frames, in small. Texture that flickers is averaged
over few frames, each sampled once along composed motion (Lanczos). What the average lost, because resampling
softens edges or because something moves that no vector knows, is told from noise by its local energy and put
back from the frame itself (Wiener's gain, local in space).

All of it streams: the small copies of 2 `COLOUR_REACH` + 1 frames are held, and the frames themselves from
`DETAIL_REACH` before the one that is finished.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.blend import light_ratio, to_uint8
from pipeline.steady.metrics import Step, chain
from pipeline.steady.visibility import soften
from pipeline.steady.warp import BoolArray, largest, warp

Method = Literal["keys", "blend"]
COLOUR_REACH = 12  # frames either way for the low band: half a second at 24 fps
DETAIL_REACH = 4  # for the high band: resampling and light's change soften it with distance
BAND_SIGMA = 3.0 / 96.0  # of the frame's height: between the two bands
SMALL_HEIGHT = 64  # the low band is averaged at a whole fraction of the frame, at least this high
LARGEST_FACTOR = 8
OUTLIER = 3.0  # times the median difference: a colour that differs by more is hardly the same surface
OUTLIER_FLOOR = 8.0  # levels of 255 added to it, so that a clean film is not judged by its rounding
OUTLIER_MOST = 80.0  # levels: where a whole frame is another, the median is no measure
RESIDUAL_SIGMA = 2.0  # pixels: finer differences from the average may be lost detail
ENERGY_SIGMA = 0.7  # pixels over which their energy is taken
NOISE_MARGIN = 1.5  # an energy below this times the noise's is noise


@dataclass(frozen=True)
class Seen:
    """One frame to steady: the styled picture, the source render's, and the ways to the frames beside it.

    `styled`, `source`: uint8 RGB [H, W, 3]; `forward`: the step to the next frame, `backward`: to the one
    before; None at the film's ends and at a cut.
    """

    styled: UInt8Array
    source: UInt8Array | None
    forward: Step | None
    backward: Step | None


def fuse(frames: Iterable[Seen], *, skip: int = 0, method: Method = "keys") -> Iterator[UInt8Array]:
    """The steadied frames, uint8 RGB [H, W, 3], in their order, without the first `skip`.

    "keys" is all of the above; "blend" the plain mean over `DETAIL_REACH` frames either way. A frame depends
    on those within `COLOUR_REACH` of it only: begun that many frames earlier and told to skip them, it goes
    on to the same bytes.
    """
    finish = _fused if method == "keys" else _blended
    held: deque[_Held] = deque()
    now = 0  # the place in `held` of the next frame to finish
    for frame in frames:
        held.append(_Held.of(frame))
        if len(held) > now + COLOUR_REACH:
            if skip == 0:
                yield finish(held, now)
            now, skip = _passed(held, now), max(0, skip - 1)
    while now < len(held):
        if skip == 0:
            yield finish(held, now)
        now, skip = _passed(held, now), max(0, skip - 1)


@dataclass(frozen=True)
class _Held:
    """A frame with its small copy, on which the low band is averaged; `full` goes when no detail needs it."""

    full: Seen | None
    small: Seen

    @classmethod
    def of(cls, frame: Seen) -> _Held:
        factor = int(np.clip(frame.styled.shape[0] // SMALL_HEIGHT, 1, LARGEST_FACTOR))
        if factor == 1:
            return cls(frame, frame)
        small = Seen(
            to_uint8(_shrink(frame.styled, factor)),
            None if frame.source is None else to_uint8(_shrink(frame.source, factor)),
            None if frame.forward is None else _small_step(frame.forward, factor),
            None if frame.backward is None else _small_step(frame.backward, factor),
        )
        return cls(replace(frame, source=None), small)


def _passed(held: deque[_Held], now: int) -> int:
    """Let go of what no later frame needs; returns the place of the next frame."""
    if now >= DETAIL_REACH:
        held[now - DETAIL_REACH] = replace(held[now - DETAIL_REACH], full=None)
    if now == COLOUR_REACH:
        held.popleft()
        return now
    return now + 1


def _fused(held: deque[_Held], now: int) -> UInt8Array:
    frame, small = held[now].full, held[now].small
    assert frame is not None
    height, width = frame.styled.shape[:2]
    detail, weight = _detail([each.full for each in held], now)
    factor = -(-height // len(small.styled))
    change = _colour([each.small for each in held], now) - _shrink(detail, factor)
    sigma = BAND_SIGMA * len(change)
    smooth = cv2.GaussianBlur(change, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    padded = (factor * smooth.shape[1], factor * smooth.shape[0])
    average = detail + cv2.resize(smooth, padded, interpolation=cv2.INTER_LINEAR)[:height, :width]
    fresh = frame.styled.astype(np.float32)
    clipped = ((frame.styled == 0) | (frame.styled == 255)).all(axis=2)
    return to_uint8(average + lost_detail(fresh - average, averaged=(weight > 1.0) & ~clipped))


def _blended(held: deque[_Held], now: int) -> UInt8Array:
    """The mean of the frame and what those around it show of the same surfaces, all weights equal."""
    frames = [each.full for each in held]
    here = frames[now]
    assert here is not None
    total, weight = here.styled.astype(np.float32), np.ones(here.styled.shape[:2], np.float32)
    for other, way in _ways(frames, now, DETAIL_REACH):
        mask = soften(way.seen)
        total += mask[..., None] * warp(other.styled.astype(np.float32), way.flow)
        weight += mask
    return to_uint8(total / weight[..., None])


def lost_detail(residual: Float32Array, *, averaged: BoolArray) -> Float32Array:
    """What of a frame's difference from its average is detail and not noise: float32 [H, W, 3].

    The fine part of `residual`, times max(0, 1 - k N / E): E its local energy, N the noise's (Wiener's gain
    with the local variance, Lee 1980). N is the median of E over `averaged`, bool [H, W]: the pixels that
    were averaged at all and are not clipped; the others show no noise.
    """
    fine = residual - cv2.GaussianBlur(residual, (0, 0), RESIDUAL_SIGMA)
    energy = cv2.GaussianBlur(np.square(fine).mean(axis=2), (0, 0), ENERGY_SIGMA)
    noise = float(np.median(energy[averaged])) if averaged.any() else 0.0
    gain = np.clip(1.0 - NOISE_MARGIN * noise / np.maximum(energy, 1e-6), 0.0, 1.0)
    kept: Float32Array = fine * gain[..., None]
    return kept


def _detail(frames: Sequence[Seen | None], now: int) -> tuple[Float32Array, Float32Array]:
    """The mean of the frame and what its near neighbours show of the same surfaces, [H, W, 3]; the weights
    that it is made of, [H, W], 1 = the frame alone.
    """
    here = frames[now]
    assert here is not None
    fresh = here.styled.astype(np.float32)
    total, weight = fresh.copy(), np.ones(fresh.shape[:2], np.float32)
    for other, way in _ways(frames, now, DETAIL_REACH):
        if not way.seen.any():
            continue
        fetched = warp(other.styled.astype(np.float32), way.flow, sampling="lanczos")
        change = cv2.GaussianBlur(fetched - fresh, (0, 0), RESIDUAL_SIGMA)
        mask = soften(way.seen) * _trust(change, way.seen)
        total += mask[..., None] * fetched
        weight += mask
    return total / weight[..., None], weight


def _colour(frames: Sequence[Seen], now: int) -> Float32Array:
    """The same in small and over many frames, in the light of now, without what differs too much."""
    here = frames[now]
    fresh = here.styled.astype(np.float32)
    total, weight = fresh.copy(), np.ones(fresh.shape[:2], np.float32)
    for other, way in _ways(frames, now, COLOUR_REACH):
        if not way.seen.any():
            continue
        mask = soften(way.seen)
        fetched = warp(other.styled.astype(np.float32), way.flow)
        if here.source is not None and other.source is not None:
            then = warp(other.source.astype(np.float32), way.flow)
            fetched *= light_ratio(here.source.astype(np.float32), then, mask=mask)[..., None]
        mask = mask * _trust(fetched - fresh, way.seen)
        total += mask[..., None] * fetched
        weight += mask
    mean: Float32Array = total / weight[..., None]
    return mean


def _trust(change: Float32Array, seen: BoolArray) -> Float32Array:
    """exp(-(d / limit)^2), [H, W] in (0, 1]: near 1 for the flicker of the whole frame, 0 for a stranger."""
    distance = largest(change)
    limit = min(OUTLIER * float(np.median(distance[seen])) + OUTLIER_FLOOR, OUTLIER_MOST)
    trust: Float32Array = np.exp(-np.square(distance / limit))
    return trust


def _ways(frames: Sequence[Seen | None], now: int, reach: int) -> Iterator[tuple[Seen, Step]]:
    """The frames within reach and the way to each, composed from single steps; it ends at a cut."""
    after = list(frames[now : now + reach + 1])
    before = list(frames[max(0, now - reach) : now + 1])[::-1]
    for line, name in ((after, "forward"), (before, "backward")):
        total: Step | None = None
        for here, there in itertools.pairwise(line):
            step: Step | None = getattr(here, name)
            if step is None or there is None:
                break
            total = step if total is None else chain(total, step)
            yield there, total


def _small_step(step: Step, factor: int) -> Step:
    """A step between frames made smaller: the middle pixel's vector; seen where the whole block is."""
    middle = _padded(step.flow, factor)[factor // 2 :: factor, factor // 2 :: factor]
    flow = np.asarray(middle / factor, np.float32)
    whole = _padded(step.seen.astype(np.uint8), factor)
    blocks = whole.reshape(whole.shape[0] // factor, factor, whole.shape[1] // factor, factor)
    seen: BoolArray = np.all(blocks > 0, axis=(1, 3))
    return Step(flow, seen & np.isfinite(flow).all(axis=2))


def _shrink(picture: UInt8Array | Float32Array, factor: int) -> Float32Array:
    """[H, W, 3] averaged over blocks, float32; what the frame lacks of whole blocks repeats its edge."""
    whole = _padded(picture.astype(np.float32), factor)
    size = (whole.shape[1] // factor, whole.shape[0] // factor)
    shrunk: Float32Array = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _padded(values: NDArray[Any], factor: int) -> NDArray[Any]:
    height, width = values.shape[:2]
    padding = ((0, -height % factor), (0, -width % factor), (0, 0))[: values.ndim]
    return np.pad(values, padding, mode="edge")
