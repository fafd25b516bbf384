"""The engine's change of light on carried surfaces, and how the style answers to it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.steady.grain import Grain, measure, with_grain, without
from pipeline.steady.light import Answer, exponents, light_change, log_light
from pipeline.steady.metrics import Step
from pipeline.steady.noise import carry_noise


def test_a_light_that_dims_dims_the_carried_colours() -> None:
    bright, dim = (np.full((32, 32, 3), level, np.uint8) for level in (188, 88))
    change = light_change(log_light(dim), log_light(bright), np.ones(3, np.float32))
    np.testing.assert_allclose(change, (88 + 12) / (188 + 12), atol=0.01)
    np.testing.assert_allclose(light_change(log_light(dim), log_light(bright), np.zeros(3, np.float32)), 1.0)


def test_the_answer_is_learnt_channel_by_channel() -> None:
    """Red keeps its level when the light turns red; green and blue go with it, blue twice as fast."""
    engine = np.random.default_rng(0).normal(0.0, 0.3, 4000).astype(np.float32)
    true = np.array([0.0, 1.0, 1.8], np.float32)
    styled = engine[:, None] * true + np.random.default_rng(1).normal(0.0, 0.05, (4000, 3)).astype(np.float32)
    np.testing.assert_allclose(exponents([Answer.of(engine, styled)]), true, atol=0.03)


@pytest.mark.parametrize(
    "answers", [[], [Answer.of(np.zeros(50, np.float32), np.zeros((50, 3), np.float32))]]
)
def test_without_a_change_of_light_the_answer_is_the_engines(answers: list[Answer]) -> None:
    np.testing.assert_allclose(exponents(answers), 1.0)


def test_carried_noise_stays_white_and_goes_with_the_surface() -> None:
    rng = np.random.default_rng(2)
    noise, fresh = (rng.standard_normal((4, 16, 16), dtype=np.float32) for _ in range(2))
    flow = np.zeros((64, 64, 2), np.float32)
    flow[..., 0] = 8.0  # two latent pixels
    seen = np.ones((64, 64), bool)
    seen[:, 56:] = False
    carried = carry_noise(noise, fresh, Step(flow, seen))
    np.testing.assert_array_equal(carried[:, :, :14], noise[:, :, 2:])
    np.testing.assert_array_equal(carried[:, :, 14:], fresh[:, :, 14:])


def test_magnified_noise_has_no_value_twice() -> None:
    """A surface that grows would repeat its noise in blocks; each value is kept once, the rest is fresh."""
    rng = np.random.default_rng(3)
    noise, fresh = (rng.standard_normal((1, 32, 32), dtype=np.float32) for _ in range(2))
    y, x = np.mgrid[0:32, 0:32].astype(np.float32)
    flow = np.stack([-0.5 * x, -0.5 * y], axis=-1)
    carried = carry_noise(noise, fresh, Step(flow, np.ones((32, 32), bool)))
    assert len(np.unique(carried)) == carried.size
    assert abs(float(carried.std()) - 1.0) < 0.06
    neighbours = float((carried[..., :-1] * carried[..., 1:]).mean())
    assert abs(neighbours) < 0.08  # four standard errors of white noise is 0.13


def test_grain_is_measured_taken_off_and_made_anew() -> None:
    flat = np.full((96, 128, 3), 110.0, np.float32)
    flat[:, 64:] = 150.0
    rng = np.random.default_rng(4)
    keys = [flat + 6.0 * rng.standard_normal((96, 128, 1), dtype=np.float32) for _ in range(2)]
    grain = measure(keys)
    assert 4.8 < grain.strength < 7.2 and grain.size < 0.4
    clean = without(keys[0], grain)
    assert (clean - flat)[8:-8, 8:56].std() < 2.5
    again, other = (with_grain(flat, grain, seed=seed) for seed in (1, 2))
    assert 0.9 < (again - flat).std() / grain.strength < 1.1
    assert abs(np.corrcoef((again - flat).ravel(), (other - flat).ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(again, with_grain(flat, grain, seed=1))


def test_a_clean_picture_has_no_grain() -> None:
    flat = np.full((64, 64, 3), 90.0, np.float32)
    assert measure([flat]) == Grain(0.0) and with_grain(flat, Grain(0.0), seed=1) is flat
