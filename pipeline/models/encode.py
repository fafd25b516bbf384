"""Text -> embeddings, pictures <-> latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ModelError
from pipeline.image import to_tensor, to_uint8
from pipeline.models.model import Model


def encode_text(model: Model, prompts: Sequence[str]) -> torch.Tensor:
    """Embeddings [N, tokens, width] in the model's dtype, one row per prompt; equal prompts are encoded once.

    The last hidden state after the final norm, padded to the tokenizer's length, as Stable Diffusion 1.x
    reads it (Rombach et al. 2022). Gradients flow where the text encoder has trainable weights; wrap in
    `torch.no_grad()` otherwise. Raises ModelError for a prompt longer than the model reads.
    """
    unique = list(dict.fromkeys(prompts))
    for prompt in unique:
        count, limit = count_tokens(model, prompt), model.tokenizer.model_max_length
        if count > limit:
            raise ModelError(
                f"prompt '{prompt[:40]}...': {count} tokens, of which model '{model.family.name}' reads "
                f"{limit}; shorten it, the rest would be ignored"
            )
    batch = model.tokenizer(unique, padding="max_length", return_tensors="pt")
    states = model.text_encoder(batch.input_ids.to(model.device))[0]  # [unique, tokens, width]
    index = {prompt: row for row, prompt in enumerate(unique)}
    rows = torch.tensor([index[prompt] for prompt in prompts], device=states.device)
    out: torch.Tensor = states.index_select(0, rows).to(model.dtype)
    return out


def count_tokens(model: Model, prompt: str) -> int:
    """Tokens of `prompt` as the text encoder sees it, start and end marks included."""
    return len(model.tokenizer(prompt, verbose=False).input_ids)  # else it warns of what our error then says


@torch.no_grad()
def encode_images(model: Model, frames: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 RGB [B, H, W, 3] -> latents float32 [B, C, h, w], scaled as the UNet expects them.

    The mean of the VAE's posterior, so that the same picture always has the same latents.
    Raises ModelError when a side is not a multiple of the family's size_multiple.
    """
    multiple = model.family.size_multiple
    height, width = frames.shape[1:3]
    if height % multiple or width % multiple:
        raise ModelError(
            f"frames are {width} x {height}; model '{model.family.name}' needs multiples of {multiple}: "
            "resize them"
        )
    pixels = to_tensor(frames, device=model.device).to(model.vae.dtype)  # [B, 3, H, W]
    encoded = model.vae.encode(pixels)  # a tiny VAE has no posterior
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()  # [B, C, h, w]
    out: torch.Tensor = (latents.float() - _shift(model)) * model.vae.config.scaling_factor
    return out


@torch.no_grad()
def decode_latents(model: Model, latents: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Scaled latents [B, C, h, w] -> uint8 RGB [B, H, W, 3]. Raises ValueError when not finite."""
    raw = latents / model.vae.config.scaling_factor + _shift(model)
    return to_uint8(model.vae.decode(raw.to(model.vae.dtype)).sample)


def _shift(model: Model) -> float:
    """`shift_factor` of newer VAEs (SD 3, Flux); absent or null before."""
    return float(getattr(model.vae.config, "shift_factor", None) or 0.0)
