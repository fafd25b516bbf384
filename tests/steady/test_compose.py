"""Putting frames together from views: no ghosts, no seams, no smear where nothing is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.image import Float32Array
from pipeline.steady.agree import agree, steadied
from pipeline.steady.compose import View, compose, fill
from pipeline.steady.detail import brightness, drawn, fine_energy, sharpened
from pipeline.steady.metrics import Step

H, W = 64, 80
GREY = np.full((H, W, 3), 128, np.uint8)
NO_RIM = np.zeros((H, W), np.float32)
ALL = np.ones((H, W), np.float32)


def texture(seed: int, level: float = 120.0) -> Float32Array:
    return (level + 30.0 * np.random.default_rng(seed).standard_normal((H, W, 3))).astype(np.float32)


def test_equal_views_give_themselves() -> None:
    picture = texture(0)
    made = compose([View(picture, ALL, 0.4), View(picture, ALL, 0.6)], engine=GREY, rim=NO_RIM)
    np.testing.assert_allclose(made.pixels, picture, atol=1e-3)
    assert not made.unknown.any()


def test_where_views_disagree_the_better_is_taken_and_not_the_mean() -> None:
    """Two drawings of other detail, 3 to 1: the mean would keep 62 % of the energy, the choice about 90 %."""
    a, b = texture(1), texture(2)
    made = compose([View(a, ALL, 0.75), View(b, ALL, 0.25)], engine=GREY, rim=NO_RIM)
    assert fine_energy(made.pixels) > 0.88 * fine_energy(a)
    assert fine_energy(0.75 * a + 0.25 * b) < 0.7 * fine_energy(a)


def test_a_step_of_colour_between_views_leaves_no_seam() -> None:
    left = (np.arange(W) < W // 2).astype(np.float32) * np.ones((H, 1), np.float32)
    views = [
        View(np.full((H, W, 3), 100.0, np.float32), left, 1.0),
        View(np.full((H, W, 3), 112.0, np.float32), 1.0 - left, 1.0),
    ]
    made = compose(views, engine=GREY, rim=NO_RIM).pixels
    assert np.abs(np.diff(made[H // 2, :, 0])).max() < 5.0  # a hard cut steps by 12


def test_the_unknown_is_filled_along_the_engines_picture_and_marked() -> None:
    """Colour that is a line in the engine's luma is found again exactly in the hole."""
    x = np.linspace(40.0, 200.0, W, dtype=np.float32)
    engine = np.repeat(np.tile(x, (H, 1))[..., None], 3, axis=2).astype(np.uint8)
    truth = 0.5 * engine.astype(np.float32) + np.array([60.0, 20.0, 5.0], np.float32)
    known = ALL.copy()
    known[20:40, 30:50] = 0.0
    spoiled = np.where(known[..., None] > 0, truth, 0.0).astype(np.float32)
    made = compose([View(spoiled, known, 1.0)], engine=engine, rim=NO_RIM)
    np.testing.assert_array_equal(made.unknown, known == 0)
    assert np.abs(made.pixels - truth)[22:38, 32:48].max() < 5.0


def test_a_frame_of_which_little_is_known_is_filled_whole() -> None:
    known = np.zeros((H, W), bool)
    known[0, 0] = True
    filled = fill(np.full((H, W, 3), 90.0, np.float32), known=known, engine=GREY)
    assert np.isfinite(filled).all() and np.abs(filled[0, 0] - 90.0).max() < 1.0


def test_agreeing_takes_the_colour_of_all_and_keeps_the_detail() -> None:
    own = texture(3)
    others = [View(own + 6.0, ALL, 1.0), View(own - 12.0, ALL, 1.0)]
    agreed = agree(own, others[:1], others[1:])
    inner = agreed[8:-8, 8:-8] - own[8:-8, 8:-8]
    np.testing.assert_allclose(inner, -2.0, atol=0.3)
    stranger = agree(own, [], [View(own + 250.0, ALL, 1.0)])
    assert np.abs(stranger - own).max() < 1.0


def test_detail_is_that_of_the_first_key_where_it_is_trusted() -> None:
    """Two keys drew other details: the one that follows takes those of the first; a bad view gives none."""
    own, first = texture(5), texture(6)
    agreed = agree(own, [View(first, ALL, 1.0)], [])
    fine = [each - cv2.GaussianBlur(each, (0, 0), 1.0) for each in (agreed, first, own)]
    to_first, to_own = (np.corrcoef(fine[0].ravel(), each.ravel())[0, 1] for each in fine[1:])
    assert to_first > 0.8 and to_own < 0.5
    kept = agree(own, [View(first, np.full((H, W), 0.1, np.float32), 1.0)], [])
    assert fine_energy(kept - own) < 0.1 * fine_energy(own)


def test_the_median_takes_out_what_one_frame_has_alone() -> None:
    picture = texture(4)
    spoiled = picture.copy()
    spoiled[30:34, 30:34] = 255.0
    stay = Step(np.zeros((H, W, 2), np.float32), np.ones((H, W), bool))
    frames = [(picture, None, stay), (spoiled, stay, stay), (picture, stay, None)]
    before, now, after = list(steadied(frames))
    np.testing.assert_allclose(now, picture, atol=0.5)
    np.testing.assert_array_equal(before, picture)
    np.testing.assert_array_equal(after, picture)


def test_light_changes_fine_detail_and_brightness_alike() -> None:
    # So a key in white light says how much detail a frame in a dim red one should have.
    picture = texture(3)
    dim = picture * np.array([0.6, 0.6, 0.6], np.float32)
    assert fine_energy(dim) / brightness(dim) == pytest.approx(
        fine_energy(picture) / brightness(picture), rel=1e-4
    )
    assert fine_energy(dim) == pytest.approx(0.36 * fine_energy(picture), rel=1e-4)
    assert brightness(np.zeros((4, 4, 3), np.float32)) == 1.0  # a black frame is divided by nothing smaller


def test_sharpening_gives_back_the_energy_and_no_more() -> None:
    picture = texture(5)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.4)
    wanted = fine_energy(picture)
    assert fine_energy(soft) < 0.9 * wanted
    np.testing.assert_allclose(fine_energy(sharpened(soft, wanted, where=ALL)), wanted, rtol=0.02)
    np.testing.assert_array_equal(sharpened(picture, 0.5 * wanted, where=ALL), picture)


def test_detail_is_given_back_where_the_render_has_some() -> None:
    """A wall of the style's own strokes keeps them as they are; the render's outline gets what is missing."""
    engine = np.full((H, W, 3), 90, np.uint8)
    np.testing.assert_array_equal(drawn(engine), ALL)
    engine[:, W // 2 :] = 170
    where = drawn(engine)
    at, away = np.s_[:, W // 2 - 1 : W // 2 + 1], np.s_[:, : W // 2 - 8]
    assert where[at].min() > 0.95 and where[away].max() < 0.02
    soft = cv2.GaussianBlur(texture(5), (0, 0), 0.4)
    change = np.abs(sharpened(soft, 1.3 * fine_energy(soft), where=where) - soft)
    assert change[away].mean() < 0.03 * change[at].mean()
