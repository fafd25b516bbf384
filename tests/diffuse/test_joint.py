"""Joint attention: who looks at whom, against plain attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.diffuse import ControlUse, Img2ImgSettings
from pipeline.diffuse.denoise import denoise, start_noise
from pipeline.diffuse.joint import joint
from pipeline.models import Model, load_model

SETTINGS = Img2ImgSettings("a man", strength=0.6, steps=5, guidance=2.0, controls=(ControlUse("depth"),))
SIZE = 32


@pytest.fixture(scope="module")
def model(random_model: Path) -> Model:
    return load_model(random_model, device="cpu")


def frames(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, SIZE // 8, SIZE // 8, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def latents(model: Model, pictures: np.ndarray, *, together: bool, seeds: tuple[int, ...]) -> torch.Tensor:
    return denoise(model, pictures, {"depth": pictures[::-1].copy()}, SETTINGS, seeds, together=together)


def test_the_anchor_comes_out_as_if_alone_and_the_others_do_not(model: Model) -> None:
    pictures = frames(0, 3)
    apart, both = (latents(model, pictures, together=each, seeds=(1, 2, 3)) for each in (False, True))
    torch.testing.assert_close(both[0], apart[0], atol=2e-5, rtol=1e-4)
    assert all(float((both[n] - apart[n]).abs().mean()) > 1e-3 for n in (1, 2))


def test_the_anchor_is_the_same_whatever_it_heads(model: Model) -> None:
    first, second = frames(1, 3), frames(2, 3)
    second[0] = first[0]
    controls = {"depth": np.repeat(first[:1], 3, axis=0)}
    made = [denoise(model, each, controls, SETTINGS, (1, 2, 3), together=True) for each in (first, second)]
    torch.testing.assert_close(made[0][0], made[1][0], atol=2e-5, rtol=1e-4)


def test_equal_frames_stay_equal(model: Model) -> None:
    """Frames that are one picture with one noise read the same tokens three times: nothing changes."""
    pictures = np.repeat(frames(3, 1), 3, axis=0)
    made = latents(model, pictures, together=True, seeds=(5, 5, 5))
    torch.testing.assert_close(made[1], made[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(made[2], made[0], atol=2e-5, rtol=1e-4)


def test_the_processors_are_put_back(model: Model) -> None:
    before = dict(model.unet.attn_processors)
    with pytest.raises(RuntimeError, match="stop"), joint(model, 3):
        assert model.unet.attn_processors != before
        raise RuntimeError("stop")
    assert model.unet.attn_processors == before


def test_noise_that_is_given_is_the_seeds_when_it_is_drawn_so(model: Model) -> None:
    pictures = frames(4, 2)
    controls = {"depth": pictures}
    noise = np.stack([start_noise(model, SIZE, SIZE, seed) for seed in (7, 8)])
    given = denoise(model, pictures, controls, SETTINGS, (1, 2), noise=noise)
    torch.testing.assert_close(given, denoise(model, pictures, controls, SETTINGS, (7, 8)))


def test_each_frame_is_told_its_own_prompt(model: Model) -> None:
    pictures = frames(5, 2)
    controls = {"depth": pictures}
    told = [("a man", ""), ("a woman walks, front view", "")]
    own = denoise(model, pictures, controls, SETTINGS, (1, 2), prompts=told)
    same = denoise(model, pictures, controls, SETTINGS, (1, 2))
    torch.testing.assert_close(own[0], same[0], atol=2e-5, rtol=1e-4)
    assert float((own[1] - same[1]).abs().mean()) > 1e-3
