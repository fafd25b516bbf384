"""Blending on a moving texture with exact flow: steadier, as sharp, nearer to the truth, and never stuck."""

from __future__ import annotations

import cv2
import moving
import numpy as np
import pytest
from moving import NUM_FRAMES, SIZE, to_uint8

from pipeline.steady.blend import Carried, carry, finish, light_ratio
from pipeline.steady.metrics import Step, e_warp, sharpness_ratio
from pipeline.steady.picture import psnr
from pipeline.steady.warp import in_frame, warp

WEIGHT = 0.75  # the presets' default


def flickering() -> list[np.ndarray]:
    """The truth with what restyling adds: wide colour flicker, unsteady detail, grain."""
    return [
        to_uint8(
            moving.frame(t)
            + moving.noise(100 + t, sigma=16, strength=0.03)
            + moving.noise(300 + t, sigma=2, strength=0.03)
            + moving.noise(500 + t, sigma=0.8, strength=0.015)
        )
        for t in range(NUM_FRAMES)
    ]


def steps() -> list[Step]:
    flows = [moving.flow(t, t + 1) for t in range(NUM_FRAMES - 1)]
    return [Step(flow, in_frame(flow)) for flow in flows]


def blended(fresh: list[np.ndarray], *, weight: float = WEIGHT) -> list[np.ndarray]:
    out = [fresh[0]]
    for t in range(1, len(fresh)):
        flow = moving.flow(t, t - 1)
        carried = carry(out[-1], flow, visible=in_frame(flow).astype(np.float32))
        out.append(finish(fresh[t], carried, weight=weight))
    return out


def test_flicker_falls_and_sharpness_stays() -> None:
    fresh = flickering()
    truth = [to_uint8(moving.frame(t)) for t in range(NUM_FRAMES)]
    out = blended(fresh)
    # independent flicker through a leaky average of weight w falls by (1 - w)^2 / (1 + w) = 0.036
    assert e_warp(out, steps()) < 0.08 * e_warp(fresh, steps())
    # the last frames have been sampled 23 times: the truth's own detail has to be there still
    assert sharpness_ratio(out[-6:], truth[-6:]) == pytest.approx(1.0, abs=0.08)
    gain = np.mean([psnr(o, y) - psnr(x, y) for o, x, y in zip(out, fresh, truth, strict=True)])
    assert gain > 5.0


def test_bilinear_sampling_would_blur() -> None:
    """Why `carry` samples by Lanczos: the same recursion, bilinear, loses half of the detail's energy."""
    truth = [to_uint8(moving.frame(t)) for t in range(NUM_FRAMES)]
    energies = {}
    for sampling in ("bilinear", "lanczos"):
        out = truth[0].astype(np.float32)
        for t in range(1, NUM_FRAMES):
            out = warp(out, moving.flow(t, t - 1), sampling=sampling)
        middle = [np.rint(x[24:-24, 24:-24]).clip(0, 255).astype(np.uint8) for x in (out, truth[-1])]
        energies[sampling] = sharpness_ratio(middle[:1], middle[1:])
    assert energies["bilinear"] < 0.5
    assert energies["lanczos"] == pytest.approx(1.0, abs=0.15)


def still(value: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


NO_MOTION = np.zeros((SIZE, SIZE, 2), np.float32)
ALL_SEEN = np.ones((SIZE, SIZE), np.float32)


def test_weight_zero_is_the_fresh_frame_and_one_the_carried() -> None:
    fresh, before = to_uint8(moving.frame(0)), to_uint8(moving.frame(5))
    carried = carry(before, NO_MOTION, visible=ALL_SEEN)
    np.testing.assert_array_equal(carried.pixels, before)
    np.testing.assert_array_equal(finish(fresh, carried, weight=0.0), fresh)
    # low + (change - low) in float32, rounded back
    np.testing.assert_array_equal(finish(fresh, carried, weight=1.0), before)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        finish(fresh, carried, weight=1.5)


def test_nothing_is_taken_where_nothing_is_seen() -> None:
    seen = ALL_SEEN.copy()
    seen[:, :40] = 0.0
    fresh = to_uint8(moving.frame(0))
    out = finish(fresh, Carried(still(250), seen), weight=WEIGHT)
    np.testing.assert_array_equal(out[:, :40], fresh[:, :40])
    assert (out[:, 60:] != fresh[:, 60:]).any()


def test_colour_cannot_drift_from_the_fresh_frames() -> None:
    """After a lasting change of colour the result follows within a second, up to the rounding of uint8."""
    out = still(100)
    for _ in range(24):
        out = finish(still(120), carry(out, NO_MOTION, visible=ALL_SEEN), weight=WEIGHT)
    # a step smaller than half a level is rounded away: (1 - 0.875) d < 0.5 at d < 4
    assert out.min() >= 116 and out.max() <= 120


def test_stale_colours_are_dropped() -> None:
    """A highlight that left the surface does not trail behind: 200 levels off, its share is nearly none."""
    out = finish(still(40), carry(still(240), NO_MOTION, visible=ALL_SEEN), weight=WEIGHT)
    assert out.max() <= 41


def test_light_of_the_engine_reaches_carried_pixels() -> None:
    """The engine's light goes down by a fifth on the left: so do the carried pixels, and nothing else."""
    dim = np.ones((SIZE, SIZE, 1), np.float32)
    dim[:, : SIZE // 2] = 0.8
    engine_before, engine_now = still(150), (150 * dim * np.ones(3)).astype(np.uint8)
    carried = carry(
        to_uint8(moving.frame(0)),
        NO_MOTION,
        visible=ALL_SEEN,
        engine_now=engine_now,
        engine_previous=engine_before,
    )
    before = to_uint8(moving.frame(0)).clip(1)  # against division by black
    left, right = slice(0, SIZE // 2 - 16), slice(SIZE // 2 + 16, SIZE)
    # the floor of 12 levels against black makes 0.8 of 150 into (120 + 12) / (150 + 12) = 0.815
    assert (carried.pixels[:, left] / before[:, left]).mean() == pytest.approx(0.815, abs=0.01)
    np.testing.assert_allclose(carried.pixels[:, right], before[:, right], atol=1.0)


def test_light_ratio_sees_no_texture_and_no_other_surface() -> None:
    """Fine texture that differs averages out; a surface outside the mask has no say."""
    checker = (np.indices((SIZE, SIZE)).sum(axis=0) % 2 * 60 + 100).astype(np.float32)
    now, before = np.repeat(checker[..., None], 3, axis=2), np.repeat(checker.T[::-1, :, None], 3, axis=2)
    mask = ALL_SEEN.copy()
    mask[:, 48:] = 0.0
    before[:, 48:] = 5.0
    ratio = light_ratio(now, before, mask=mask)
    np.testing.assert_allclose(ratio[:, :40], 1.0, atol=0.01)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="visible is"):
        carry(still(0), NO_MOTION, visible=ALL_SEEN[:10])


def test_occlusion_edge_leaves_no_halo() -> None:
    """Lanczos rings at a hard edge; the eroded mask keeps that out of the result."""
    from pipeline.steady.visibility import soften

    before = still(60)
    before[30:66, 30:66] = 200
    now = still(60)
    now[30:66, 33:69] = 200
    flow = NO_MOTION.copy()
    flow[30:66, 33:69, 0] = -3.0
    seen = np.ones((SIZE, SIZE), bool)
    seen[30:66, 30:33] = False  # uncovered
    out = finish(now, carry(before, flow, visible=soften(seen)), weight=WEIGHT)
    np.testing.assert_allclose(out.astype(int), now.astype(int), atol=2)
    assert cv2.absdiff(out, now).mean() < 0.1
