import logging
import logging.handlers
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models import Model, count_tokens, decode_latents, encode_images, encode_text, load_model


@pytest.fixture(scope="module")
def model(random_model: Path) -> Model:
    return load_model(random_model, controls=())


def test_equal_prompts_are_encoded_once_and_given_back_in_order(model: Model) -> None:
    batches: list[int] = []
    hook = model.text_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(args[0] if args else kwargs["input_ids"])),
        with_kwargs=True,
    )
    out = encode_text(model, ["a man", "a room", "a man"])
    hook.remove()
    assert batches == [2]
    assert out.shape == (3, 64, 128)
    assert torch.equal(out[0], out[2])
    assert not torch.allclose(out[0], out[1])
    # against each prompt alone; float32 sums may differ by the batch's shape
    for row, prompt in zip(out, ["a man", "a room", "a man"], strict=True):
        torch.testing.assert_close(row, encode_text(model, [prompt])[0], rtol=1e-5, atol=1e-5)


def test_a_prompt_too_long_is_not_cut_silently(model: Model) -> None:
    assert count_tokens(model, "") == 2  # start and end
    longest = " ".join(["man"] * 62)
    assert count_tokens(model, longest) == 64
    assert encode_text(model, [longest]).shape == (1, 64, 128)
    said = logging.handlers.BufferingHandler(capacity=10)
    logging.getLogger("transformers").addHandler(said)  # it does not propagate to the root logger
    try:
        with pytest.raises(ModelError, match=r"65 tokens, .* reads 64"):
            encode_text(model, [longest + " man"])
    finally:
        logging.getLogger("transformers").removeHandler(said)
    assert said.buffer == []  # transformers' own warning does not stand before our line


def test_latents_are_the_scaled_posterior_mean(model: Model) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    latents = encode_images(model, frames)
    assert latents.shape == (2, 4, 8, 12)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    with torch.no_grad():
        mean = model.vae.encode(pixels).latent_dist.mean * model.vae.config.scaling_factor
    torch.testing.assert_close(latents, mean, rtol=1e-5, atol=1e-5)  # float32, two orders of sums
    assert torch.equal(latents, encode_images(model, frames))


def test_scaling_and_shift_cancel_in_a_round_trip(model: Model, random_model: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    plain = decode_latents(model, encode_images(model, frames))
    assert plain.shape == frames.shape
    assert plain.dtype == np.uint8
    shifted = load_model(random_model, controls=())
    shifted.vae.register_to_config(scaling_factor=0.18215, shift_factor=0.25)
    latents = encode_images(shifted, frames)
    torch.testing.assert_close(latents, (encode_images(model, frames) - 0.25) * 0.18215, rtol=1e-6, atol=1e-6)
    # one level: the two scalings cancel but for float32 rounding
    assert np.abs(decode_latents(shifted, latents).astype(int) - plain).max() <= 1


def test_sizes_the_model_cannot_take_are_refused(model: Model) -> None:
    with pytest.raises(ModelError, match=r"36 x 32.*multiples of 8"):
        encode_images(model, np.zeros((1, 32, 36, 3), np.uint8))
