"""The shapes of the families' networks, as data. No torch here.

A network is built from these on torch's meta device to know every layer's name and shape without weights
(`lora_layers.py`), or with weights to be filled from a file. The figures are those of the published models:
Rombach et al. 2022 (Stable Diffusion 1.x), Podell et al. 2023 (SDXL), Radford et al. 2021 (CLIP ViT-L/14),
Cherti et al. 2022 (OpenCLIP ViT-bigG/14).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.families import FAMILIES


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a family.

    `root` is its name in a diffusers pipeline and in `Model`; `config` makes a transformers CLIPTextConfig;
    `projected` says that it ends in a text projection. `kohya_prefix` starts its modules' names in LoRA
    files; `other_prefixes` are written by some tools and are taken as well. `original` starts its names in
    a single-file checkpoint of the original code, `pad_token` fills its short prompts.
    """

    root: str
    kohya_prefix: str
    config: Mapping[str, Any]
    projected: bool = False
    other_prefixes: tuple[str, ...] = ()
    original: str = ""
    pad_token: str = "<|endoftext|>"


@dataclass(frozen=True)
class Architecture:
    """The networks of a family.

    `unet` makes a diffusers UNet2DConditionModel, `vae` an AutoencoderKL, `scheduler` any of diffusers'
    schedulers. `unet_names` is how kohya's trainer names the UNet's modules: "diffusers", or "sgm" for the
    names of the original code (input_blocks, middle_block, ...).
    """

    unet: Mapping[str, Any]
    text_encoders: tuple[TextEncoder, ...]
    unet_names: str = "diffusers"
    vae: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    scheduler: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_CLIP_L = MappingProxyType(
    {
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "projection_dim": 768,
    }
)
_CLIP_BIG_G = MappingProxyType(
    {
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "hidden_act": "gelu",
        "projection_dim": 1280,
    }
)
_SD15_UNET = MappingProxyType(
    {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    }
)
_SDXL_UNET = MappingProxyType(
    {
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
)

_KL_F8 = MappingProxyType(
    {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
        "scaling_factor": 0.18215,
    }
)
# What the original training code calls "linear" betas: their square roots are spaced evenly.
_SCHEDULE = MappingProxyType(
    {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
    }
)

# One text encoder is `lora_te_`; diffusers' exporter numbers it even so.
_NUMBERED = ("lora_te1_",)
_PUBLISHED: Mapping[str, Architecture] = MappingProxyType(
    {
        "sd15": Architecture(
            unet=_SD15_UNET,
            text_encoders=(
                TextEncoder(
                    "text_encoder",
                    "lora_te_",
                    _CLIP_L,
                    other_prefixes=_NUMBERED,
                    original="cond_stage_model.transformer.",
                ),
            ),
            vae=_KL_F8,
            scheduler=_SCHEDULE,
        ),
        "sdxl": Architecture(
            unet=_SDXL_UNET,
            text_encoders=(
                TextEncoder(
                    "text_encoder", "lora_te1_", _CLIP_L, original="conditioner.embedders.0.transformer."
                ),
                TextEncoder(
                    "text_encoder_2",
                    "lora_te2_",
                    _CLIP_BIG_G,
                    projected=True,
                    original="conditioner.embedders.1.model.",
                    pad_token="!",
                ),
            ),
            unet_names="sgm",
            vae=MappingProxyType({**_KL_F8, "sample_size": 1024, "scaling_factor": 0.13025}),
            scheduler=_SCHEDULE,
        ),
    }
)
ARCHITECTURES = ("mini", *_PUBLISHED)


@functools.cache
def architecture(family: str) -> Architecture:
    """The architecture of a family by name. The miniature's is read from the configs beside its weights.

    Raises ModelError for an unknown name, or when the miniature's configs are missing.
    """
    if family in _PUBLISHED:
        return _PUBLISHED[family]
    row = FAMILIES.get(family)
    if row is None or row.folder is None:
        raise ModelError(
            f"no architecture is known for '{family}'; expected one of {', '.join(ARCHITECTURES)}"
        )
    try:
        unet, text = (
            json.loads((row.folder / part / "config.json").read_text(encoding="utf-8"))
            for part in ("unet", "text_encoder")
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{row.folder}: no readable configs ({error}); reinstall lookdev") from error
    return Architecture(
        unet=MappingProxyType({key: value for key, value in unet.items() if not key.startswith("_")}),
        text_encoders=(
            TextEncoder("text_encoder", "lora_te_", MappingProxyType(text), other_prefixes=_NUMBERED),
        ),
    )
