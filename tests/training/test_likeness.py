"""The forced choice on drawn figures, and on the stage's own film truths."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.likeness import (
    MAX_PART_BOOST,
    distance,
    figure_region,
    forced_choice,
    region_weights,
    share,
)

HEAD, TORSO, LIMBS = 256 + 1, 256 + 3, 256 + 11
LOOKS = {  # face, hair, torso, legs
    "anna": ((220, 170, 140), (40, 20, 10), (160, 30, 30), (30, 30, 40)),
    "bert": ((220, 170, 140), (40, 20, 10), (30, 60, 150), (30, 30, 40)),  # other clothes only
    "cleo": ((220, 170, 140), (200, 160, 70), (160, 30, 30), (30, 30, 40)),  # other hair only
    "dora": ((90, 50, 35), (20, 20, 20), (200, 200, 190), (90, 90, 100)),
}


def ids() -> np.ndarray:
    parts = np.zeros((128, 128), np.uint32)
    parts[40:80, 48:80] = TORSO
    parts[80:125, 52:76] = LIMBS
    yy, xx = np.mgrid[0:128, 0:128]
    parts[(yy - 26) ** 2 + (xx - 64) ** 2 < 13**2] = HEAD
    return parts


def picture(name: str) -> np.ndarray:
    """A figure before a shaded wall, lit from the left."""
    face, hair, torso, legs = LOOKS[name]
    parts = ids()
    image = np.full((128, 128, 3), (120.0, 110.0, 100.0))
    for part, colour in ((HEAD, face), (TORSO, torso), (LIMBS, legs)):
        image[parts == part] = colour
    image[(parts == HEAD) & (np.arange(128)[:, None] < 22)] = hair
    light = 1.1 - 0.4 * np.arange(128) / 128
    grain = np.random.default_rng(len(name)).normal(0, 3, image.shape)
    return np.clip(image * light[None, :, None] + grain, 0, 255).astype(np.uint8)


TRUTHS = {name: picture(name) for name in LOOKS}
REGION = figure_region(ids(), 1)


def choose(styled: np.ndarray) -> str:
    return forced_choice(styled, TRUTHS, mask=REGION, parts=ids())[0]


DEGRADED = {
    "brighter": lambda x: np.clip(x * 1.2, 0, 255).astype(np.uint8),
    "darker": lambda x: (x * 0.8).astype(np.uint8),
    "blurred": lambda x: cv2.GaussianBlur(x, (0, 0), 1.0),
    "a pixel off": lambda x: np.roll(x, 1, axis=1),
    "noisy": lambda x: np.clip(x + np.random.default_rng(0).normal(0, 12, x.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("name", sorted(LOOKS))
@pytest.mark.parametrize("how", sorted(DEGRADED))
def test_choice_survives_what_is_not_likeness(name: str, how: str) -> None:
    assert choose(DEGRADED[how](TRUTHS[name])) == name


def test_swapping_two_figures_swaps_the_choice() -> None:
    swapped = {"anna": TRUTHS["bert"], "bert": TRUTHS["anna"]}
    styled = DEGRADED["blurred"](TRUTHS["anna"])
    kept = {name: TRUTHS[name] for name in swapped}
    name, straight = forced_choice(styled, kept, mask=REGION, parts=ids())
    other, crossed = forced_choice(styled, swapped, mask=REGION, parts=ids())
    assert (name, other) == ("anna", "bert")
    assert straight == {"anna": crossed["bert"], "bert": crossed["anna"]}


def test_same_picture_is_at_zero_and_nothing_in_common_near_one() -> None:
    assert distance(TRUTHS["anna"], TRUTHS["anna"], mask=REGION, parts=ids()) == pytest.approx(0.0, abs=1e-5)
    noise = np.random.default_rng(1).integers(0, 2, (2, 128, 128, 3), np.uint8) * 255
    # white noise: structure is near its ceiling at every level, colour averages out at the coarse ones
    assert 0.5 < distance(noise[0], noise[1], mask=REGION) < 1.0


def test_background_does_not_matter() -> None:
    other_room = TRUTHS["anna"].copy()
    other_room[~REGION] = (0, 255, 0)
    assert distance(other_room, TRUTHS["anna"], mask=REGION, parts=ids()) == pytest.approx(0.0, abs=1e-5)


def test_head_counts_as_much_as_the_torso() -> None:
    """Head 529 px, torso 1280 px; a head of the wrong colour must cost as much as such a torso."""
    weight = region_weights(REGION, ids())
    parts = ids()
    shares = [float(weight[REGION & (parts == part)].sum()) for part in (HEAD, TORSO)]
    shares.append(1.0 - sum(shares))
    np.testing.assert_allclose(shares, 1.0 / 3.0, atol=1e-5)


def test_sliver_of_a_head_decides_nothing() -> None:
    parts = ids()
    parts[parts == HEAD] = 0
    parts[39, 64] = HEAD
    region = figure_region(parts, 1)
    weight = region_weights(region, parts)
    others = region & (parts != HEAD)
    assert weight[39, 64] / weight[others].mean() == pytest.approx(MAX_PART_BOOST, rel=0.6)
    assert weight[39, 64] < 0.01


def test_region_grows_a_pixel_but_not_over_another_figure() -> None:
    parts = np.zeros((20, 20), np.uint32)
    parts[5:15, 5:10] = TORSO
    parts[5:15, 10:15] = 512 + 3
    region = figure_region(parts, 1)
    assert (
        region[4:16, 4:10].all() and region.sum() == 12 * 6 + 2
    )  # two corners touch column 10 above and below
    assert not region[5:15, 10].any()


def test_too_small_a_region_is_refused() -> None:
    small = np.zeros((128, 128), bool)
    small[:7, :9] = True
    with pytest.raises(ValueError, match="63 pixels"):
        distance(TRUTHS["anna"], TRUTHS["bert"], mask=small)


def test_share_counts() -> None:
    assert share(["iris", "otto", "iris", "iris"], "iris") == 0.75
    assert share([], "iris") == 0.0


def test_stage_truths_are_told_apart() -> None:
    """Every member of the cast, blurred and dimmed a little, is nearest to its own truth on the stage."""
    from samples.stage.actions import Performance
    from samples.stage.cameras import Move
    from samples.stage.cast import CAST
    from samples.stage.render import looks, render
    from samples.stage.scene import Role, Scene, state

    scene = Scene("a plain grey room", (Role(CAST[0], Performance("standing")),), Move("full", azimuth=0.5))
    parts = render(scene, 0).ids
    truths = {
        member.name: looks(state(scene.recast(0, member), 0, size=(128, 128)), scene.look, seed=0)[1]
        for member in CAST
    }
    for name, truth in truths.items():
        styled = (cv2.GaussianBlur(truth, (0, 0), 1.0) * 0.9).astype(np.uint8)
        assert forced_choice(styled, truths, mask=figure_region(parts, 1), parts=parts)[0] == name
