"""Warping against shifts that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.steady.warp import compose, in_frame, warp


def constant_flow(x: float, y: float, *, size: int = 32) -> np.ndarray:
    return np.broadcast_to(np.array([x, y], np.float32), (size, size, 2)).copy()


def ramp(size: int = 32) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return 3.0 * x + 2.0 * y


@pytest.mark.parametrize("sampling", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_integer_flow_moves_pixels_exactly(sampling: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    moved = warp(image, constant_flow(3, -2), sampling=sampling)  # type: ignore[arg-type]
    # the picture at p comes from p + (3, -2); away from the edges every kernel is 1 at its own pixel
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved[8:24, 8:24], image[6:22, 11:27])


def test_bilinear_is_exact_on_a_ramp() -> None:
    moved = warp(ramp(), constant_flow(0.37, 1.61))
    expected = ramp() + 3.0 * 0.37 + 2.0 * 1.61
    np.testing.assert_allclose(moved[:29, :30], expected[:29, :30], atol=1e-4)  # float32 of values near 150


def test_lanczos_keeps_detail_that_bilinear_loses() -> None:
    x = np.arange(64, dtype=np.float32)
    wave = np.tile(np.sin(2 * np.pi * x / 5.0), (64, 1)).astype(np.float32)  # five pixels a period
    truth = np.sin(2 * np.pi * (x + 0.5) / 5.0)
    error = {
        name: np.abs(warp(wave, constant_flow(0.5, 0, size=64), sampling=name)[32, 8:-8] - truth[8:-8]).max()
        for name in ("bilinear", "bicubic", "lanczos")
    }
    # at half a pixel bilinear scales a wave of w = 2 pi / 5 by cos(w / 2)
    assert error["bilinear"] == pytest.approx(1 - np.cos(np.pi / 5.0), abs=0.01)
    assert error["lanczos"] < error["bicubic"] < 0.03 < error["bilinear"]


def test_ids_are_never_mixed() -> None:
    ids = np.zeros((32, 32), np.uint32)
    ids[:, 16:] = 70000  # more than 16 bits survive
    assert set(np.unique(warp(ids, constant_flow(0.4, 0.0), sampling="nearest"))) == {0, 70000}
    with pytest.raises(ValueError, match="nearest"):
        warp(ids, constant_flow(0.4, 0.0))


def test_missing_vectors_stay_in_place_and_are_not_valid() -> None:
    flow = constant_flow(4, 0)
    flow[10, 10] = np.nan
    moved = warp(ramp(), flow)
    assert moved[10, 10] == ramp()[10, 10]
    valid = in_frame(flow)
    assert not valid[10, 10] and valid[10, 11]
    assert valid[:, :28].sum() == 32 * 28 - 1 and not valid[:, 28:].any()


def test_two_steps_composed_are_one_step() -> None:
    first, second = constant_flow(1.5, 0.0), constant_flow(0.25, -2.0)
    second[20, 20] = np.nan
    total = compose(first, second)
    finite = np.isfinite(total).all(axis=2)
    np.testing.assert_allclose(total[finite], np.broadcast_to([1.75, -2.0], (finite.sum(), 2)), atol=1e-5)
    # x + 1.5 <= 31.5 stays; the hole of the second step at x = 20 lies between columns 18 and 19 of the first
    assert not finite[20, 18] and not finite[20, 19] and finite[20, 17]
    assert finite[:, :31].sum() == 32 * 31 - 2 and not finite[:, 31:].any()


def test_flow_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[H, W, 2\]"):
        warp(ramp(), constant_flow(0, 0, size=16))
