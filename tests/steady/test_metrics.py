"""Steadiness against values that follow from arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.steady.metrics import Step, chain, drift, e_warp, laplacian_energy, pair_error, sharpness_ratio

SIZE = 64


def step(x: float, y: float) -> Step:
    flow = np.broadcast_to(np.array([x, y], np.float32), (SIZE, SIZE, 2)).copy()
    return Step(flow, np.ones((SIZE, SIZE), bool))


def sliding(num_frames: int, *, x: int, y: int) -> list[np.ndarray]:
    """Windows on one random picture whose content moves by (x, y) pixels a frame."""
    canvas = np.random.default_rng(0).integers(0, 256, (SIZE + 200, SIZE + 200, 3), np.uint8)
    tops = [(100 - y * t, 100 - x * t) for t in range(num_frames)]
    return [canvas[top : top + SIZE, left : left + SIZE] for top, left in tops]


def test_exact_translation_has_no_warp_error() -> None:
    frames = sliding(12, x=3, y=-2)
    steps = [step(3, -2)] * 11
    assert e_warp(frames, steps) == 0.0
    assert e_warp(frames, steps, span=8) == 0.0
    assert drift(frames, steps) == [0.0] * 11
    assert e_warp(frames, [step(3, 2)] * 11) > 0.1  # the wrong sign is seen at once


def test_independent_noise_gives_twice_its_variance() -> None:
    sigma = 10.0
    rng = np.random.default_rng(1)
    frames = [
        np.rint(128 + rng.normal(0, sigma, (SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8) for _ in range(20)
    ]
    # rounding adds 1/12 to each variance; 19 * 12288 samples: the relative error is under 1 %
    expected = 2 * (sigma**2 + 1 / 12) / 255**2
    assert e_warp(frames, [step(0, 0)] * 19) == pytest.approx(expected, rel=0.02)


def test_only_visible_pixels_count() -> None:
    a, b = np.zeros((SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE, 3), np.uint8)
    b[:32] = 255
    seen = np.ones((SIZE, SIZE), bool)
    seen[:32] = False
    assert pair_error(a, b, step(0, 0)) == pytest.approx(0.5)
    assert pair_error(a, b, Step(step(0, 0).flow, seen)) == 0.0
    assert pair_error(a, b, Step(step(0, 0).flow, np.zeros((SIZE, SIZE), bool))) is None


def test_cuts_are_left_out_and_a_shot_of_cuts_is_an_error() -> None:
    frames = sliding(3, x=1, y=0)
    cut = Step(step(0, 0).flow, np.zeros((SIZE, SIZE), bool))
    assert e_warp(frames, [step(1, 0), cut]) == 0.0
    with pytest.raises(ValueError, match="not defined"):
        e_warp(frames, [cut, cut])


def test_lengths_must_fit() -> None:
    with pytest.raises(ValueError):
        e_warp(sliding(4, x=0, y=0), [step(0, 0)] * 5)


def test_chained_steps_lose_what_was_hidden_on_the_way() -> None:
    hidden = np.ones((SIZE, SIZE), bool)
    hidden[10, 20] = False
    total = chain(step(2, 0), Step(step(1, 1).flow, hidden))
    assert not total.seen[10, 18] and total.seen[10, 17]
    np.testing.assert_allclose(total.flow[5, 5], (3.0, 1.0))


def test_drift_grows_where_a_pair_error_does_not() -> None:
    """A film that brightens by one level a frame: all pairs the same small error, drift as time squared."""
    frames = [np.full((SIZE, SIZE, 3), 100 + t, np.uint8) for t in range(9)]
    steps = [step(0, 0)] * 8
    assert e_warp(frames, steps) == pytest.approx((1 / 255) ** 2)
    assert e_warp(frames, steps, span=8) == pytest.approx((8 / 255) ** 2)
    assert drift(frames, steps) == pytest.approx([(t / 255) ** 2 for t in range(1, 9)])


def test_laplacian_energy_of_a_wave() -> None:
    """cos(w x) has the Laplacian (2 cos w - 2) cos(w x); the mean square of a cosine is 1/2."""
    omega, amplitude = 2 * np.pi / 8, 0.2
    wave = 0.5 + amplitude * np.cos(omega * np.arange(SIZE + 2))
    frame = np.rint(255 * np.broadcast_to(wave[None, :, None], (20, SIZE + 2, 3))).astype(np.uint8)
    expected = 0.5 * (amplitude * (2 * np.cos(omega) - 2)) ** 2
    assert laplacian_energy(frame) == pytest.approx(expected, rel=0.02)  # rounding to 255 levels


def test_sharpness_ratio_of_half_the_contrast_is_a_quarter() -> None:
    sharp = [
        np.random.default_rng(t).choice(np.array([20, 220], np.uint8), (SIZE, SIZE, 3)) for t in range(3)
    ]
    soft = [(frame // 2).astype(np.uint8) for frame in sharp]
    assert sharpness_ratio(soft, sharp) == pytest.approx(0.25, rel=1e-3)
    with pytest.raises(ValueError, match="flat"):
        sharpness_ratio(sharp[:1], [np.zeros((SIZE, SIZE, 3), np.uint8)])


def test_a_chained_step_sees_nothing_beside_a_hole() -> None:
    """Beside a pixel without a vector the composed flow is unknown, whatever the nearest mask says."""
    flow = np.full((8, 8, 2), (0.4, 0.0), np.float32)
    second = flow.copy()
    second[4, 4] = np.nan
    seen = np.isfinite(second).all(axis=2)
    total = chain(Step(flow, np.ones((8, 8), bool)), Step(second, seen))
    assert not total.seen[4, 3] and total.seen[2, 2]
    assert np.isfinite(total.flow[total.seen]).all()
