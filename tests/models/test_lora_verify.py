"""The diffusers column of `lookdev lora verify`, against diffusers itself loading the same file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from lora_samples import addresses, kohya_layers, make_pairs, narrow, narrow_model, parts_of, write_pairs
from safetensors.torch import load_file, save_file

from pipeline.models import lora_convert
from pipeline.models.lora_apply import LoraUse, apply_loras
from pipeline.models.lora_convert import convert
from pipeline.models.lora_file import read_lora, write_lora
from pipeline.models.lora_layers import build, layer_names, layers_of
from pipeline.models.lora_verify import verify

State = dict[str, torch.Tensor]
FAMILIES = ("sd15", "sdxl")


def load_with_diffusers(path: Path, family: str) -> SimpleNamespace:
    """A narrow model that diffusers' own pipeline has loaded the file into."""
    model = narrow_model(family)
    if family == "sd15":
        pipe = StableDiffusionPipeline(
            None, model.text_encoder, None, model.unet, None, None, None, requires_safety_checker=False
        )
    else:
        pipe = StableDiffusionXLPipeline(
            None, model.text_encoder, model.text_encoder_2, None, None, model.unet, None
        )
    pipe.load_lora_weights(str(path))
    return model


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().float().contiguous().numpy().tobytes()).hexdigest()


def landed(path: Path, family: str) -> set[str]:
    """The keys of which the numbers are in the model afterwards. All tensors of a file differ."""
    model = load_with_diffusers(path, family)
    there = {
        digest(tensor)
        for part in parts_of(model).values()
        for name, tensor in part.state_dict().items()
        if "lora_" in name and not tensor.is_meta
    }
    return {key for key, tensor in load_file(path).items() if digest(tensor) in there}


def both(family: str) -> tuple[State, State, State]:
    """The same LoRA of UNet and text encoders in kohya's, PEFT's and diffusers' early layout."""
    layers = kohya_layers((layer for layer, _ in addresses(narrow_model(family)).values()), text=True)
    pairs, states = make_pairs(layers), []
    for layout in ("kohya", "peft", "diffusers"):
        path = Path(pytest.ensuretemp("x")) if False else None
        assert path is None
        states.append(_state(layout, family, pairs))
    return states[0], states[1], states[2]
