"""PSNR, SSIM, depth edges and joints against hand computation."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.steady.metrics import luma
from pipeline.steady.picture import depth_edge_agreement, depth_edges, joint_agreement, psnr, ssim

RNG = np.random.default_rng(0)
TEXTURE = RNG.integers(0, 256, (64, 64, 3), np.uint8)


def ssim_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004 window by window, weights and sums written out."""
    u = np.arange(11) - 5
    g = np.exp(-(u**2) / (2 * 1.5**2))
    w = np.outer(g, g) / np.outer(g, g).sum()
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
            ma, mb = (w * a).sum(), (w * b).sum()
            va, vb = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum()
            ab = (w * (a - ma) * (b - mb)).sum()
            values.append(
                (2 * ma * mb + 1e-4) * (2 * ab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
            )
    return float(np.mean(values))


def test_psnr_of_a_known_error() -> None:
    assert psnr(TEXTURE, TEXTURE) == float("inf")
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(grey, grey + 5) == pytest.approx(20 * np.log10(255 / 5))
    with pytest.raises(ValueError, match="one size"):
        psnr(grey, TEXTURE)


def test_ssim_equals_the_hand_computation() -> None:
    x = TEXTURE[:24, :24]
    y = (0.6 * x + 0.4 * RNG.integers(0, 256, x.shape)).astype(np.uint8)
    by_hand = ssim_by_hand(luma(x).astype(np.float64), luma(y).astype(np.float64))
    assert ssim(x, y) == pytest.approx(by_hand, abs=1e-9)  # both float64
    assert ssim(x, x) == pytest.approx(1.0)


def box_depth() -> np.ndarray:
    depth = np.full((64, 64), np.inf, np.float32)
    depth[40:] = 6.0
    depth[20:50, 20:44] = 2.0
    return depth


def box_picture(*, shift: int = 0) -> np.ndarray:
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[40:] = 120
    picture[20:50, 20 + shift : 44 + shift] = (200, 60, 30)
    return picture


def test_depth_edges_are_both_sides_of_a_jump() -> None:
    edges = depth_edges(box_depth())
    assert edges[30, 19] and edges[30, 20] and not edges[30, 18] and not edges[30, 21]
    assert edges[39, 5] and edges[40, 5] and not edges[41, 5]
    slope = np.tile(np.linspace(2.0, 4.0, 64, dtype=np.float32), (64, 1))  # 1.6 % a pixel: one surface
    assert not depth_edges(slope).any()


def test_depth_edge_agreement_is_one_for_the_scene_and_a_half_for_noise() -> None:
    assert depth_edge_agreement(box_picture(), box_depth()) == 1.0
    moved = depth_edge_agreement(box_picture(shift=9), box_depth())
    assert moved is not None and moved < 0.85
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    by_chance = depth_edge_agreement(noise, box_depth())
    # some 200 edge pixels, of which neighbours share a maximum: standard error near 0.5 / sqrt(3 * 200 / 9)
    assert by_chance == pytest.approx(0.5, abs=0.12)
    assert depth_edge_agreement(noise, np.full((64, 64), 3.0, np.float32)) is None


def test_joints_are_found_in_place_and_missed_elsewhere() -> None:
    points = np.array([[32, 32, 2], [30, 28, 2], [31, 31, 1], [2, 2, 2]], np.float32)
    assert joint_agreement(TEXTURE, TEXTURE, points) == (2, 2)  # hidden and at the edge: not looked for
    two_off = np.roll(TEXTURE, 2, axis=1)
    four_off = np.roll(TEXTURE, 4, axis=1)
    assert joint_agreement(two_off, TEXTURE, points) == (2, 2)
    assert joint_agreement(four_off, TEXTURE, points) == (0, 2)
    dimmed = (TEXTURE * 0.6).astype(np.uint8)
    assert joint_agreement(dimmed, TEXTURE, points) == (2, 2)
    flat = np.full((64, 64, 3), 50, np.uint8)
    assert joint_agreement(TEXTURE, flat, points) == (0, 0)
