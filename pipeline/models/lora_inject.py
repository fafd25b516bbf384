"""Trainable low-rank layers through peft, read and written under kohya's names.

Which layers: kohya's default, every Linear and 1x1 conv inside a Transformer2DModel of the UNet, and the
attention and MLP Linears of the text encoders. With a rank for convolutions (LoCon; kohya's `conv_dim`) also
every Linear and convolution of the UNet's residual, down- and upsampling blocks.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from peft import inject_adapter_in_model
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.architectures import architecture
from pipeline.models.lora_file import ALPHA
from pipeline.models.lora_kinds import (
    ADAPTER,
    LAYERS,
    LORA_KINDS,
    Ranks,
    alpha_of,
    in_file,
    out_of_file,
    parts_of,
    settle,
)
from pipeline.models.lora_layers import UNET, layers_of
from pipeline.models.lora_place import model_layers
from pipeline.models.lora_product import FUSED
from pipeline.models.model import Model


@dataclass(frozen=True)
class LoraModules:
    """The trainable parameters, float32, in a fixed order (parts per layer, layers by path)."""

    unet_parameters: list[nn.Parameter]
    text_parameters: list[nn.Parameter]


def inject_lora(
    model: Model,
    *,
    rank: int,
    alpha: float,
    text_encoder: bool,
    seed: int,
    conv_rank: int = 0,
    kind: str = "lora",
    fused: bool = False,
) -> LoraModules:
    """Wrap the target layers so that only LoRA weights train; the model computes the same until they change.

    `kind` is one of `LORA_KINDS`. `conv_rank` is the rank of kernels larger than 1x1, their alpha in the same
    ratio; 0 leaves all layers outside the transformers alone.

    One factor starts random from `seed` (Kaiming uniform), another at zero; the global random state is
    untouched. LoRA weights are float32 whatever the model's dtype. The text encoders, all that the model has,
    are wrapped only if `text_encoder`. With `fused` layers of kind "lora" are those of `lora_product`, which
    train faster; else all are peft's. Raises ValueError when the model is wrapped already.
    """
    roots = _roots(model)
    if any(isinstance(layer, LAYERS) for part in roots.values() for layer in part.modules()):
        raise ValueError("inject_lora: the model has LoRA layers already; load it afresh")
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        targets = unet_targets(model.unet, conv=conv_rank > 0)
        ranks = {path: conv_rank for path in targets if _is_kernel(model.unet.get_submodule(path))}
        _wrap(model.unet, targets, kind, rank, alpha, other_ranks=ranks, fused=fused)
        for root, part in roots.items():
            if text_encoder and root != UNET:
                _wrap(part, text_targets(part), kind, rank, alpha, fused=fused)
    parameters: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for address, layer in _lora_layers(model).items():
        settle(layer)
        for _, weight in parts_of(layer):
            weight.data = weight.data.float()
            weight.requires_grad_(True)
            parameters[not address.startswith(f"{UNET}.")].append(weight)
    return LoraModules(unet_parameters=parameters[False], text_parameters=parameters[True])


def lora_state(model: Model) -> dict[str, torch.Tensor]:
    """A snapshot of the injected weights under kohya's keys, alpha included, float32 on the CPU."""
    names, state = _kohya_names(model), dict[str, torch.Tensor]()
    for address, layer in _lora_layers(model).items():
        for suffix, weight in parts_of(layer):
            state[names[address] + suffix] = in_file(suffix, weight.detach()).cpu().clone()
        state[names[address] + ALPHA] = torch.tensor(alpha_of(layer))
    return state


def load_lora_state(model: Model, state: Mapping[str, torch.Tensor]) -> None:
    """Put a snapshot of `lora_state` back into the injected layers, bit for bit.

    Raises ModelError when keys, shapes or alphas are not those of the injected layers.
    """
    ours = lora_state(model)
    odd = sorted(set(ours) ^ set(state))
    odd += [key for key in ours if key in state and ours[key].shape != state[key].shape]
    odd += [key for key in ours if key.endswith(ALPHA) and key in state and ours[key] != state[key]]
    if odd:
        raise ModelError(
            f"LoRA state: {len(odd)} keys do not fit the layers being trained, first {', '.join(odd[:3])}; "
            "kind, rank, alpha or text-encoder setting changed since the checkpoint: start afresh"
        )
    names = _kohya_names(model)
    with torch.no_grad():
        for address, layer in _lora_layers(model).items():
            for suffix, weight in parts_of(layer):
                weight.copy_(out_of_file(suffix, state[names[address] + suffix], weight))


@contextlib.contextmanager
def lora_disabled(model: Model) -> Iterator[None]:
    """Inside, the model computes as if nothing were injected (the base model's own prediction)."""
    layers = list(_lora_layers(model).values())
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def unet_targets(unet: nn.Module, *, conv: bool = False) -> list[str]:
    """Paths of every Linear and 1x1 conv inside a Transformer2DModel (192 in SD 1.5, as kohya trains); with
    `conv` also every Linear and convolution of the residual, down- and upsampling blocks, as its LoCon does.
    """
    convolutional: tuple[type[nn.Module], ...] = (ResnetBlock2D, Downsample2D, Upsample2D) if conv else ()
    targets = []
    for root, block in unet.named_modules():
        is_conv = isinstance(block, convolutional)
        if not is_conv and not isinstance(block, Transformer2DModel):
            continue
        for path, layer in block.named_modules():
            if isinstance(layer, nn.Linear) or (
                isinstance(layer, nn.Conv2d) and (is_conv or not _is_kernel(layer))
            ):
                targets.append(f"{root}.{path}")
    return targets


def _is_kernel(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that sees more than one pixel."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)


def text_targets(text_encoder: nn.Module) -> list[str]:
    """Paths of the attention and MLP Linears of a CLIP text encoder (72 in SD 1.5)."""
    return [
        path
        for path, layer in text_encoder.named_modules()
        if isinstance(layer, nn.Linear) and (".self_attn." in path or ".mlp." in path)
    ]


def _wrap(
    module: nn.Module,
    targets: list[str],
    kind: str,
    rank: int,
    alpha: float,
    *,
    other_ranks: Mapping[str, int] | None = None,
    fused: bool = False,
) -> None:
    # target paths are whole; peft also matches ends of paths, which whole ones cannot be of each other
    patterns = {f"^{re.escape(path)}$": r for path, r in (other_ranks or {}).items()}
    ranks = Ranks(
        rank=rank,
        alpha=alpha,
        targets=targets,
        rank_pattern=patterns,
        alpha_pattern={path: alpha / rank * r for path, r in patterns.items()},
    )
    config = LORA_KINDS[kind].config(ranks)
    if fused and kind == "lora":
        config._register_custom_module(dict(FUSED))
    inject_adapter_in_model(config, module, adapter_name=ADAPTER)


def _roots(model: Model) -> dict[str, nn.Module]:
    """The model's parts that a LoRA may change, by name."""
    encoders = architecture(model.family.name).text_encoders
    return {root: getattr(model, root) for root in (UNET, *(encoder.root for encoder in encoders))}


def _kohya_names(model: Model) -> Mapping[str, str]:
    return model_layers(model)[1].kohya


def _lora_layers(model: Model) -> dict[str, Any]:
    """The injected layers by canonical address."""
    layers = {}
    for root, part in _roots(model).items():
        wrappers = {path: layer for path, layer in part.named_modules() if isinstance(layer, LAYERS)}
        bases = {id(layer.base_layer): layer for layer in wrappers.values()}
        for layer, module in layers_of({root: part}):
            if id(module) in bases:
                layers[layer.address] = bases[id(module)]
    return layers
