"""Frames that someone styled one by one, steadied along exact motion without any diffusion.

Every frame is put together from its neighbours' views of the same surfaces, in two bands. Stains and colour
that flicker are wide and slow: the low band averages many frames, in small. Texture that flickers is averaged
over few frames, each sampled once along composed motion (Lanczos). What the average lost, because resampling
softens edges or because something moves that no vector knows, is told from noise by its local energy and put
back from the frame itself (Wiener's gain, local in space).

All of it streams: 2 `COLOUR_REACH` + 1 frames are held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.blend import light_ratio
from pipeline.steady.metrics import Step, chain
from pipeline.steady.visibility import soften
from pipeline.steady.warp import BoolArray, warp

COLOUR_REACH = 12  # frames either way for the low band: half a second at 24 fps
DETAIL_REACH = 4  # for the high band: resampling and light's change soften it with distance
BAND_SIGMA = 3.0 / 96.0  # of the frame's height: between the two bands
SMALL_HEIGHT = 64  # the low band is averaged at a whole fraction of the frame, at least this high
LARGEST_FACTOR = 8
OUTLIER = 3.0  # times the median difference: a colour that differs by more is not the same surface
OUTLIER_FLOOR = 8.0  # levels of 255 added to it, so that a clean film is not judged by its rounding
RESIDUAL_SIGMA = 2.0  # pixels: finer differences from the average may be lost detail
ENERGY_SIGMA = 0.7  # pixels over which their energy is taken
NOISE_MARGIN = 1.5  # an energy below this times the noise's is noise


@dataclass(frozen=True)
class Seen:
    """One frame to steady: the styled picture, the source render's, and the ways to the frames beside it.

    `styled`, `source`: uint8 RGB [H, W, 3]; `onward`: the step to the next frame, `back`: to the one before;
    None at the film's ends.
    """

    styled: UInt8Array
    source: UInt8Array | None
    onward: Step | None
    back: Step | None


def fuse(frames: Iterable[Seen], *, skip: int = 0) -> Iterator[UInt8Array]:
    """The steadied frames, uint8 RGB [H, W, 3], in their order, without the first `skip`.

    A frame depends on those within `COLOUR_REACH` of it only: begun that many frames earlier and told to skip
    them, it goes on to the same bytes.
    """
    held: deque[_Held] = deque()
    now = 0  # the place in `held` of the next frame to finish
    for frame in frames:
        held.append(_Held.of(frame))
        if len(held) > now + COLOUR_REACH:
            if skip == 0:
                yield _fused(held, now)
            now, skip = now + 1, max(0, skip - 1)
            if now > COLOUR_REACH:
                held.popleft()
                now -= 1
    while now < len(held):
        if skip == 0:
            yield _fused(held, now)
        now, skip = now + 1, max(0, skip - 1)


@dataclass(frozen=True)
class _Held:
    """A frame with its small copy, on which the low band is averaged."""

    full: Seen
    small: Seen

    @classmethod
    def of(cls, frame: Seen) -> _Held:
        factor = int(np.clip(frame.styled.shape[0] // SMALL_HEIGHT, 1, LARGEST_FACTOR))
        if factor == 1:
            return cls(frame, frame)
        small = Seen(
            _shrink(frame.styled, factor),
            None if frame.source is None else _shrink(frame.source, factor),
            None if frame.onward is None else _small_step(frame.onward, factor),
            None if frame.back is None else _small_step(frame.back, factor),
        )
        return cls(frame, small)


def _fused(held: deque[_Held], now: int) -> UInt8Array:
    frame = held[now].full
    height, width = frame.styled.shape[:2]
    detail = _detail(held, now)
    small_detail = _resized(detail, held[now].small.styled.shape)
    change = _colour(held, now) - small_detail
    sigma = BAND_SIGMA * len(small_detail)
    smooth = cv2.GaussianBlur(change, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    average = detail + cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    return _to_uint8(average + lost_detail(frame.styled.astype(np.float32) - average))


def lost_detail(residual: Float32Array) -> Float32Array:
    """What of a frame's difference from its average is detail and not noise: float32 [H, W, 3].

    The fine part of `residual`, times max(0, 1 - k N / E): E its local energy, N the noise's, which is the
    median of E over the frame (Wiener's gain with the local variance, Lee 1980).
    """
    fine = residual - cv2.GaussianBlur(residual, (0, 0), RESIDUAL_SIGMA)
    energy = cv2.GaussianBlur(np.square(fine).mean(axis=2), (0, 0), ENERGY_SIGMA)
    noise = float(np.median(energy))
    gain = np.clip(1.0 - NOISE_MARGIN * noise / np.maximum(energy, 1e-6), 0.0, 1.0)
    kept: Float32Array = fine * gain[..., None]
    return kept


def _detail(held: deque[_Held], now: int) -> Float32Array:
    """The mean of the frame and what its near neighbours show of the same surfaces, [H, W, 3]."""
    fresh = held[now].full.styled.astype(np.float32)
    total, weight = fresh.copy(), np.ones(fresh.shape[:2], np.float32)
    for other, way in _ways([each.full for each in held], now, DETAIL_REACH):
        if not way.seen.any():
            continue
        fetched = warp(other.styled.astype(np.float32), way.flow, sampling="lanczos")
        change = cv2.GaussianBlur(fetched - fresh, (0, 0), RESIDUAL_SIGMA)
        mask = soften(way.seen) * _trust(change, way.seen)
        total += mask[..., None] * fetched
        weight += mask
    mean: Float32Array = total / weight[..., None]
    return mean


def _colour(held: deque[_Held], now: int) -> Float32Array:
    """The same in small and over many frames, in the light of now, without what differs too much."""
    here = held[now].small
    fresh = here.styled.astype(np.float32)
    total, weight = fresh.copy(), np.ones(fresh.shape[:2], np.float32)
    for other, way in _ways([each.small for each in held], now, COLOUR_REACH):
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
    """exp(-(d / limit)^2), [H, W] in (0, 1]: about 1 for the flicker of the whole frame, 0 for a stranger."""
    distance = np.abs(change).max(axis=2)
    limit = OUTLIER * float(np.median(distance[seen])) + OUTLIER_FLOOR
    trust: Float32Array = np.exp(-np.square(distance / limit))
    return trust


def _ways(frames: list[Seen], now: int, reach: int) -> Iterator[tuple[Seen, Step]]:
    """The frames within reach and the way to each, composed from single steps; it ends at a cut."""
    total: Step | None = None
    for index in range(now + 1, min(now + reach + 1, len(frames))):
        step = frames[index - 1].onward
        if step is None:
            break
        total = step if total is None else chain(total, step)
        yield frames[index], total
    total = None
    for index in range(now - 1, max(now - reach - 1, -1), -1):
        step = frames[index + 1].back
        if step is None:
            break
        total = step if total is None else chain(total, step)
        yield frames[index], total


def _small_step(step: Step, factor: int) -> Step:
    """A step between frames made smaller: the middle pixel's vector; seen where the whole block is."""
    height, width = (size // factor * factor for size in step.seen.shape)
    blocks = step.seen[:height, :width].reshape(height // factor, factor, width // factor, factor)
    flow = step.flow[factor // 2 : height : factor, factor // 2 : width : factor] / np.float32(factor)
    seen: BoolArray = np.all(blocks, axis=(1, 3))
    return Step(flow, seen)


def _shrink(picture: UInt8Array, factor: int) -> UInt8Array:
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    cropped = picture[: height * factor, : width * factor]
    return np.asarray(cv2.resize(cropped, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _resized(values: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    if values.shape[:2] == shape[:2]:
        return values
    resized: Float32Array = cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return resized


def _to_uint8(values: Float32Array) -> UInt8Array:
    rounded: UInt8Array = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded
