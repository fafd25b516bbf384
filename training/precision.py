"""What the networks compute in, and how gradients survive it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from pipeline.errors import DatasetError
from pipeline.models import Model
from training.step_settings import Precision

_BF16_PROBES = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LEAST_SCALE = 1.0  # from 65,536 on it is halved at each overflow


def resolve_precision(precision: Precision, device: torch.device) -> str:
    """`auto` as fp32 or bf16: bf16 where the hardware multiplies it much faster.

    That is with AMX tiles or AVX-512's bf16 (1.8 times the images a core second, docs/log.md), and on GPUs
    since Ampere: older ones only emulate it.

    Raises `DatasetError` for fp16 without a GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise DatasetError(
            "train.precision: 'fp16' needs a CUDA GPU, this is a CPU; expected auto, fp32 or bf16 here"
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Questions that torch answers only privately; a build without them counts as a CPU without either.
    probes: list[Callable[[], bool] | None] = [getattr(torch.cpu, name, None) for name in _BF16_PROBES]
    return "bf16" if any(probe is not None and probe() for probe in probes) else "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context that a forward pass computes in."""
    if precision in _DTYPES:
        return torch.autocast(device.type, dtype=_DTYPES[precision])
    return contextlib.nullcontext()


def gradient_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Loss scaling for float16, whose gradients would vanish; it does nothing in other precisions."""
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    scaler.scale(torch.zeros((), device=device))  # it begins here: a process may have no images to scale
    return scaler


def check_scale(scaler: torch.amp.GradScaler, step: int) -> None:
    """Raise `DatasetError` where gradients overflow however little they are scaled.

    Each such step is skipped: the training would end without having learned anything.
    """
    if scaler.get_scale() < _LEAST_SCALE:
        raise DatasetError(
            f"train.precision: gradients overflow float16 at step {step}, however little they are scaled; "
            "take bf16 or fp32"
        )


def make_fast(model: Model, precision: str) -> None:
    """Lay the networks out for the device."""
    narrow_cpu = model.device.type == "cpu" and precision == "bf16"
    for net in (model.unet, *model.controlnets.values()):
        net.to(memory_format=torch.channels_last)  # about 10 % faster convolutions on a CPU
        if narrow_cpu:
            norms_in_float(net)
    if narrow_cpu:
        from diffusers.models.attention_processor import AttnProcessor

        # The fused kernel's backward pass is slow there: 9.6 against 13.1 images per CPU second.
        model.unet.set_attn_processor(AttnProcessor())


def norms_in_float(net: torch.nn.Module) -> None:
    """Compute a net's group norms in float32, as autocast has them on GPUs: a CPU takes up to ten times as
    long for their backward pass in bfloat16 (docs/log.md).
    """
    for norm in net.modules():
        if isinstance(norm, torch.nn.GroupNorm):
            norm.register_forward_pre_hook(_in_float)


def _in_float(_: torch.nn.Module, told: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (told[0].float(),)


def recompute_activations(model: Model) -> None:
    """Gradient checkpointing in the UNet and the text encoders."""
    model.unet.enable_gradient_checkpointing()
    model.unet.train()  # diffusers and transformers recompute in training mode alone; there is no dropout
    for encoder in (model.text_encoder, model.text_encoder_2):
        if encoder is not None:
            # transformers calls it activation checkpointing now, and warns of the old name
            getattr(encoder, "activation_checkpointing_enable", encoder.gradient_checkpointing_enable)()
            encoder.train()
