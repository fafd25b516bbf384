"""Checkpoints of narrow networks in one file, recognisable as their families: every layer, few channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers import AutoencoderKL
from lora_samples import narrow
from original_layout import checkpoint_state, write_state

from pipeline.models import FAMILIES
from pipeline.models.architectures import Architecture
from pipeline.models.lora_layers import build

VAE = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4}
# The real widths of the text, by which files are recognised; few layers and channels otherwise.
TEXT = {
    "sd15": {"hidden_size": 768, "intermediate_size": 64, "num_attention_heads": 2, "projection_dim": 768},
    "sdxl": {"hidden_size": 1280, "intermediate_size": 64, "num_attention_heads": 2, "projection_dim": 1280},
}


def recognisable(family: str) -> Architecture:
    """A narrow architecture with the family's own cross-attention width."""
    spec = narrow(family)
    encoders = []
    for encoder in spec.text_encoders:
        big = TEXT["sdxl"] if encoder.projected else TEXT["sd15"]
        config = dict(encoder.config) | big | {"num_hidden_layers": 2, "vocab_size": 49408}
        encoders.append(replace(encoder, config=MappingProxyType(config)))
    unet = dict(spec.unet) | {"cross_attention_dim": FAMILIES[family].context_width}
    if "addition_time_embed_dim" in unet:  # the pooled text beside six sizes
        sizes = 6 * unet["addition_time_embed_dim"]
        unet["projection_class_embeddings_input_dim"] = TEXT[family]["projection_dim"] + sizes
    return replace(
        spec,
        unet=MappingProxyType(unet),
        vae=MappingProxyType(dict(spec.vae) | VAE),
        text_encoders=tuple(encoders),
    )


class Case:
    """A family's narrow networks and the file that holds them."""

    def __init__(self, family: str, folder: Path) -> None:
        self.family, self.spec, self.path = family, recognisable(family), folder / f"{family}.safetensors"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.parts = build(self.spec, "cpu") | {"vae": AutoencoderKL(**self.spec.vae)}
        write_state(self.path, checkpoint_state(self.parts))
