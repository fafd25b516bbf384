"""Small random models with CLIP's own tokenizer, in the shapes of Stable Diffusion 1.5 and SDXL."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from lora_samples import narrow
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipeline.models import FAMILIES, Model, load_model
from pipeline.models.architectures import architecture
from pipeline.models.tokenizer import clip_tokenizer

WIDTHS = (32, 48)  # of SDXL's two text encoders, in small
_POOLED = 40


def text_encoder(kind: Any, width: int, *, layers: int, seed: int, legacy: bool = False) -> Any:
    """A random text encoder; `legacy`: its config has the wrong end mark that published ones have."""
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=_POOLED,
        num_hidden_layers=layers,
        num_attention_heads=4,
        hidden_act="quick_gelu" if kind is CLIPTextModel else "gelu",
        bos_token_id=0 if legacy else 49406,
        eos_token_id=2 if legacy else 49407,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind(config)
        for name, parameter in module.named_parameters():
            if "layer_norm" in name:  # a fresh norm is the identity and would hide one that is missing
                torch.nn.init.normal_(parameter, mean=1.0 if name.endswith("weight") else 0.0, std=0.2)
    return module.eval().requires_grad_(False)


def small_sd15(folder: Path, *, legacy: bool = False) -> Model:
    """One text encoder, as Stable Diffusion 1.5; UNet and VAE are the random miniature's of `folder`."""
    return dataclasses.replace(
        load_model(folder, controls=()),
        text_encoder=text_encoder(CLIPTextModel, WIDTHS[0], layers=4, seed=1, legacy=legacy),
        tokenizer=clip_tokenizer(),
        embedding_ids={},
    )


def small_sdxl(folder: Path, *, legacy: bool = False) -> Model:
    """Two text encoders, as SDXL; the second pads with "!"."""
    second = text_encoder(CLIPTextModelWithProjection, WIDTHS[1], layers=5, seed=2, legacy=legacy)
    return dataclasses.replace(
        small_sd15(folder, legacy=legacy),
        text_encoder_2=second,
        tokenizer_2=clip_tokenizer(pad_token="!"),
    )


def tiny_sdxl(folder: Path) -> Model:
    """SDXL with all layers of its UNet, few channels; text encoders as `small_sdxl`, the miniature's VAE."""
    model = small_sdxl(folder)
    width = sum(WIDTHS)
    config = dict(narrow("sdxl").unet) | {"cross_attention_dim": width}
    config["projection_class_embeddings_input_dim"] = _POOLED + 6 * config["addition_time_embed_dim"]
    config["sample_size"] = 32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        unet: Any = UNet2DConditionModel.from_config(config)
    family = dataclasses.replace(FAMILIES["sdxl"], context_width=width, default_size=128)
    schedule = dict(architecture("sdxl").scheduler)
    return dataclasses.replace(
        model, family=family, unet=unet.eval().requires_grad_(False), scheduler_config=schedule
    )
