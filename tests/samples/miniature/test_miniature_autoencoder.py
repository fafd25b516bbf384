"""The miniature's autoencoder training: its crops, its loss, and the scale of the latents it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from samples.miniature import autoencoder, model
from samples.miniature.data import Images, Words


@pytest.fixture(scope="module")
def images() -> Images:
    """Four pictures of flat tiles; the engine look is the film's green."""
    rng = np.random.default_rng(0)
    film = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    blank = np.zeros_like(film)
    words = [Words([], ["film look"], ["engine look"])] * 4
    return Images(film, film[..., 1].copy(), blank[..., 0], blank, words)


def test_crops_are_windows_of_both_looks(images: Images) -> None:
    crops = autoencoder.crops(images, np.random.default_rng(1), 200)
    assert crops.shape == (200, 3, 64, 64)
    grey = (crops == crops[:, :1]).flatten(1).all(dim=1)
    assert 0.1 < grey.float().mean() < 0.3  # one in five
    colours = {tuple(c) for c in images.film.reshape(-1, 3).tolist()}
    one = ((crops[~grey][0] + 1.0) * 127.5).round().byte().permute(1, 2, 0).reshape(-1, 3)
    assert {tuple(c) for c in one.tolist()} <= colours


def test_a_lost_edge_costs_more_than_wrong_light() -> None:
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 1.0
    flat, brighter = torch.full_like(edge, 0.5), edge + 0.5  # both off by 0.5 everywhere
    same, light, lost = (float(autoencoder.reconstruction_loss(x, edge)) for x in (edge, brighter, flat))
    assert same == 0.0
    assert light < lost


def test_a_lost_hue_costs_more_than_wrong_light() -> None:
    green = torch.tensor([-0.8, 0.2, -0.6])[None, :, None, None].expand(1, 3, 16, 16)
    blue = green[:, [0, 2, 1]]  # the same numbers: the same L1 against grey
    darker = green - (green - blue).abs().mean()
    light, hue = (float(autoencoder.reconstruction_loss(x, green)) for x in (darker, blue))
    assert hue > 2.0 * light


def test_colours_in_small_tell_colours_apart() -> None:
    red, green, grey = (
        torch.tensor(colour)[None, :, None, None].expand(1, 3, 8, 8)
        for colour in ((0.8, -0.6, -0.6), (-0.6, 0.8, -0.6), (0.0, 0.0, 0.0))
    )
    small = torch.cat([autoencoder.colours_in_small(each) for each in (red, green, grey)])
    assert small.shape == (3, 3, 2, 2)
    assert torch.equal(small[2], torch.zeros(3, 2, 2))
    assert small[0, 0, 0, 0] == pytest.approx(float(small[1, 0, 0, 0]))  # as light as each other
    assert small[0, 1, 0, 0] == pytest.approx(-float(small[1, 1, 0, 0])) and small[0, 1, 0, 0] > 1.0


def test_copies_are_channels_that_say_the_same() -> None:
    one = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    other = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert float(autoencoder.copies(torch.cat([one, 1.0 - 3.0 * one], dim=1))) == pytest.approx(1.0, abs=1e-3)
    assert float(autoencoder.copies(other)) < 1e-2


def test_training_lowers_the_loss_and_leaves_centred_latents(images: Images, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = model.build_vae()
    before = autoencoder.reconstruction_psnr(vae, images, "cpu")
    checkpoint = tmp_path / "vae.pt"
    autoencoder.train_vae(
        vae, images, checkpoint, minutes=0.05, device="cpu", precision="fp32", seed=0, log=lambda line: None
    )
    assert autoencoder.reconstruction_psnr(vae, images, "cpu") > before
    latents = autoencoder.encode(vae, images.film, "cpu").float()
    assert latents.shape == (4, 4, 32, 32)
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert abs(float(latents.std()) - 1.0) < 0.02


def test_centring_does_not_change_what_is_decoded(images: Images) -> None:
    torch.manual_seed(1)
    vae = model.build_vae()
    picture = torch.from_numpy(images.film[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    with torch.no_grad():
        before = vae.decode(vae.encode(picture).latent_dist.mean).sample
        autoencoder.centre_latents(vae, images, "cpu")
        after = vae.decode(vae.encode(picture).latent_dist.mean).sample
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
