"""Models at full architecture with random weights: their cost is a real one's, their pictures are noise.

mini            the built-in miniature, its real weights
sd15-random     Stable Diffusion 1.5
sdxl-random     SDXL
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel
from torch import nn

from pipeline.errors import ModelError
from pipeline.models import FAMILIES, Model, load_model
from pipeline.models.architectures import architecture
from pipeline.models.lora_layers import build
from pipeline.models.tokenizer import clip_tokenizer

SUFFIX = "-random"
KINDS = ("depth", "pose")
_NOT_A_CONTROLNETS = ("sample_size", "out_channels", "up_block_types")


def benchmark_model(
    name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32, kinds: Sequence[str] = KINDS
) -> Model:
    """One of the above, or any that `load_model` takes and that has its own ControlNets. Raises
    ModelError.
    """
    family = name.removesuffix(SUFFIX)
    if not name.endswith(SUFFIX):
        return load_model(name, controls=tuple(kinds), device=device, dtype=dtype)
    if family not in FAMILIES or FAMILIES[family].folder is not None:
        raise ModelError(f"model '{name}': expected mini, sd15{SUFFIX} or sdxl{SUFFIX}")
    parts = random_parts(family, kinds)
    placed = {key: _placed(part, device, _dtype(key, family, dtype)) for key, part in parts.items()}
    spec = architecture(family)
    tokenizers = {
        encoder.root.replace("text_encoder", "tokenizer"): clip_tokenizer(pad_token=encoder.pad_token)
        for encoder in spec.text_encoders
    }
    return Model(
        family=FAMILIES[family],
        controlnets={kind: placed.pop(f"controlnet_{kind}") for kind in kinds},
        scheduler_config=spec.scheduler,
        **placed,
        **tokenizers,
    )


def random_parts(family: str, kinds: Sequence[str] = KINDS, *, seed: int = 0) -> dict[str, nn.Module]:
    """A family's networks by their names in `Model`, ControlNets as "controlnet_<kind>", float32."""
    spec = architecture(family)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = build(spec, "cpu")
        # else diffusers' SDXL pipeline casts the shared VAE to float16 for good after its first call
        parts["vae"] = AutoencoderKL(**spec.vae, force_upcast=False)
        for kind in kinds:
            parts[f"controlnet_{kind}"] = _controlnet(spec.unet)
    return parts


def _controlnet(unet: Any) -> nn.Module:
    """As it is before training, but for its last layers: those are zero and would say nothing."""
    net: nn.Module = ControlNetModel(**{k: v for k, v in unet.items() if k not in _NOT_A_CONTROLNETS})
    for name, weight in net.named_parameters():
        if name.startswith(("controlnet_down_blocks.", "controlnet_mid_block.")):
            nn.init.normal_(weight, std=0.02)
    return net


def _dtype(part: str, family: str, dtype: torch.dtype) -> torch.dtype:
    overflows = part == "vae" and not FAMILIES[family].half_vae and dtype == torch.float16
    return torch.float32 if overflows else dtype


def _placed(part: nn.Module, device: str, dtype: torch.dtype) -> Any:
    return nn.Module.to(part, device=device, dtype=dtype).eval().requires_grad_(False)
