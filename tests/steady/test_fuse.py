"""Flicker goes, detail stays, and what no vector knows is not smeared."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import cv2
import moving
import numpy as np
import pytest

from pipeline.steady import fuse as fusing
from pipeline.steady.fuse import COLOUR_REACH, Seen, fuse, lost_detail
from pipeline.steady.metrics import Step, sharpness_ratio
from pipeline.steady.picture import psnr
from pipeline.steady.warp import in_frame

NUM = 20
TRUTH = np.stack([(moving.frame(t) * 255 + 0.5).astype(np.uint8) for t in range(NUM)])


def steps() -> tuple[list[Step], list[Step]]:
    """t -> t + 1 and t + 1 -> t."""
    onward, back = [], []
    for t in range(NUM - 1):
        for ways, flow in ((onward, moving.flow(t, t + 1)), (back, moving.flow(t + 1, t))):
            ways.append(Step(flow.astype(np.float32), in_frame(flow.astype(np.float32))))
    return onward, back


ONWARD, BACK = steps()


def seen(frames: np.ndarray, *, cut: int = 0) -> Iterator[Seen]:
    for t, frame in enumerate(frames):
        onward = None if t == NUM - 1 or t + 1 == cut else ONWARD[t]
        yield Seen(frame, None, onward, None if t in (0, cut) else BACK[t - 1])


def flickering(seed: int = 3) -> np.ndarray:
    """Every frame with a colour, a stain and texture noise of its own."""
    rng = np.random.default_rng(seed)
    out = []
    for t, frame in enumerate(TRUTH.astype(np.float32) / 255):
        stain = moving.noise(100 + seed + t, sigma=12, strength=0.05)
        texture = moving.noise(500 + seed + t, sigma=0.8, strength=0.03)
        out.append(np.clip(frame * (1 + 0.06 * rng.standard_normal(3)) + stain + texture, 0, 1))
    return (np.stack(out) * 255 + 0.5).astype(np.uint8)


def mean_psnr(frames: np.ndarray) -> float:
    return float(np.mean([psnr(a, b) for a, b in zip(frames, TRUTH, strict=True)]))


def test_flicker_goes_and_sharpness_stays() -> None:
    noisy = flickering()
    steady = np.stack(list(fuse(seen(noisy))))
    assert steady.shape == noisy.shape and steady.dtype == np.uint8
    assert mean_psnr(steady) > mean_psnr(noisy) + 7.0
    assert sharpness_ratio(steady, TRUTH) == pytest.approx(1.0, abs=0.25)


def test_a_clean_film_stays_as_it_is() -> None:
    steady = np.stack(list(fuse(seen(TRUTH))))
    assert mean_psnr(steady) > 38.0
    assert sharpness_ratio(steady, TRUTH) == pytest.approx(1.0, abs=0.1)


def test_nothing_crosses_a_cut() -> None:
    frames = flickering()
    other = frames.copy()
    other[:8] = 255 - other[:8]
    whole, changed = (list(fuse(seen(each, cut=8))) for each in (frames, other))
    assert all(np.array_equal(a, b) for a, b in zip(whole[8:], changed[8:], strict=True))
    assert not np.array_equal(whole[7], changed[7])


def test_what_no_vector_knows_is_not_smeared() -> None:
    """A bright spot that runs over the surface against its motion stays a spot."""
    frames = TRUTH.copy()
    for t in range(NUM):
        cv2.circle(frames[t], (20 + 3 * t, 48), 4, (255, 255, 255), -1)
    steady = np.stack(list(fuse(seen(frames))))
    for t in (8, 12):
        spot = (slice(46, 51), slice(18 + 3 * t, 23 + 3 * t))
        assert steady[t][spot].mean() > 235
        behind = (slice(46, 51), slice(18 + 3 * (t - 4), 23 + 3 * (t - 4)))
        trail = steady[t][behind].astype(float) - TRUTH[t][behind]
        assert abs(trail.mean()) < 12


@pytest.mark.parametrize("skip", [1, 7, 18])
def test_a_later_start_goes_on_to_the_same_bytes(skip: int) -> None:
    frames = flickering()
    whole = list(fuse(seen(frames)))
    start = max(0, skip - COLOUR_REACH)
    late = list(fuse(list(seen(frames))[start:], skip=skip - start))
    assert len(late) == NUM - skip
    assert all(np.array_equal(a, b) for a, b in zip(whole[skip:], late, strict=True))


def test_it_streams() -> None:
    """A frame comes out when those within reach are read; what no later frame needs is let go."""
    pictures: list[weakref.ref[np.ndarray]] = []
    most = 0

    def counted() -> Iterator[Seen]:
        nonlocal most
        for t in range(60):
            picture = TRUTH[t % 2].copy()
            pictures.append(weakref.ref(picture))
            still = Step(np.zeros((*picture.shape[:2], 2), np.float32), np.ones(picture.shape[:2], bool))
            yield Seen(picture, None, still, still)
            del picture
            most = max(most, sum(each() is not None for each in pictures))

    frames = fuse(counted())
    next(frames)
    assert len(pictures) == COLOUR_REACH + 1
    assert sum(1 for _ in frames) == 59
    assert most <= 2 * COLOUR_REACH + 2


def test_a_large_frame_averages_its_colours_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = flickering()
    monkeypatch.setattr(fusing, "SMALL_HEIGHT", 48)  # of 96: half
    steady = np.stack(list(fuse(seen(noisy))))
    assert mean_psnr(steady) > mean_psnr(noisy) + 6.0


@pytest.mark.parametrize("columns", [96, 32])
def test_noise_alone_is_not_detail(columns: int) -> None:
    """Nor where it covers a third of the frame, beside what was not averaged."""
    rng = np.random.default_rng(0)
    noise = np.zeros((96, 96, 3), np.float32)
    noise[:, :columns] = rng.normal(0, 8, (96, columns, 3))
    averaged = np.zeros((96, 96), bool)
    averaged[:, :columns] = True
    kept = lost_detail(noise, averaged=averaged)
    assert np.square(kept).mean() < 0.2 * np.square(noise).mean()
    edge = noise.copy()
    edge[:, columns // 2] += 120.0
    assert lost_detail(edge, averaged=averaged)[:, columns // 2].mean() > 60.0


@pytest.mark.parametrize(("height", "small"), [(91, 30), (95, 24)])
def test_a_size_that_is_no_multiple_stays_in_register(
    height: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clean film with a hard edge near its right and lower rim passes unchanged."""
    monkeypatch.setattr(fusing, "SMALL_HEIGHT", small)
    picture = np.full((height, 101, 3), 60, np.uint8)
    picture[height - 6 :], picture[:, 94:] = 200, 200
    still = Step(np.zeros((height, 101, 2), np.float32), np.ones((height, 101), bool))
    (first, *_) = fuse(Seen(picture, None, still, still) for _ in range(14))
    assert np.abs(first.astype(int) - picture).max() <= 1
