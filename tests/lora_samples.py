"""LoRA files for tests, written from first principles: names from module paths, numbers from a seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.models.architectures import Architecture, architecture
from pipeline.models.families import Family
from pipeline.models.lora_layers import Layer, build, family_names, layers_of

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor, float]]  # address -> (down, up, alpha)

# The published topologies with few channels: every name is the real one, every weight is there.
_NARROW_UNET = {
    "sd15": {"block_out_channels": (16, 16, 32, 32), "attention_head_dim": 4, "cross_attention_dim": 24},
    "sdxl": {
        "block_out_channels": (16, 32, 64),
        "attention_head_dim": (2, 4, 8),
        "cross_attention_dim": 40,
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 40,
    },
}
_NARROW_TEXT = {
    "vocab_size": 100,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "projection_dim": 16,
}


def narrow(family: str) -> Architecture:
    """The family's architecture with few channels and all its layers."""
    spec = architecture(family)
    unet = dict(spec.unet) | _NARROW_UNET[family] | {"norm_num_groups": 4}
    encoders = tuple(
        replace(encoder, config=MappingProxyType(dict(encoder.config) | _NARROW_TEXT))
        for encoder in spec.text_encoders
    )
    return replace(spec, unet=MappingProxyType(unet), text_encoders=encoders)


def narrow_model(family: str) -> SimpleNamespace:
    """What `apply_loras` needs of a model: its family and its networks, here narrow with random weights."""
    row = Family(
        name=family,
        title=family,
        size_multiple=8,
        default_size=512,
        control_kinds=(),
        context_width=0,
        lora_architecture=f"{family}/lora",
        base_model_version=family,
        lora_base=family,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = build(narrow(family), "cpu")
    return SimpleNamespace(family=row, originals={}, said={}, **parts)


def parts_of(model: SimpleNamespace) -> dict[str, nn.Module]:
    return {root: part for root, part in vars(model).items() if isinstance(part, nn.Module)}


def kohya_layers(layers: Iterable[Layer], *, text: bool, conv: bool = False) -> list[Layer]:
    """The layers that kohya trains: in the UNet's transformers, with `conv` also others; attention, MLP."""
    chosen = []
    for layer in layers:
        if layer.root == "unet":
            block = ".attentions." in layer.path
            ends = layer.path.startswith(("conv_", "time_embedding", "add_embedding"))
            if block or (conv and not ends):
                chosen.append(layer)
        elif text and (".self_attn." in layer.path or ".mlp." in layer.path):
            chosen.append(layer)
    return chosen


def make_pairs(layers: Iterable[Layer], *, rank: int = 2, dtype: torch.dtype = torch.float32) -> Pairs:
    """address -> (down, up, alpha); alpha differs from the rank and from layer to layer."""
    generator = torch.Generator().manual_seed(1)
    pairs = {}
    for number, layer in enumerate(layers):
        out, *inner = layer.shape
        down = torch.randn(rank, *inner, generator=generator).to(dtype)
        up = torch.randn(out, rank, *[1] * (len(inner) - 1), generator=generator).to(dtype)
        pairs[layer.address] = down, up, 1.0 + number % 3
    return pairs


def write_pairs(layout: str, family: str, pairs: Pairs, path: Path) -> Path:
    """A file in one of the layouts. Only kohya's holds alpha; in the others it is diffusers' metadata."""
    state: dict[str, torch.Tensor] = {}
    alphas: dict[str, dict[str, float]] = {}
    for address, (down, up, alpha) in pairs.items():
        root, _, name = address.partition(".")
        if layout == "kohya":
            kohya = family_names(family).kohya[address]
            state |= {f"{kohya}.lora_down.weight": down, f"{kohya}.lora_up.weight": up}
            state[f"{kohya}.alpha"] = torch.tensor(alpha)
            continue
        alphas.setdefault(root, {})[name] = alpha
        if layout == "peft":
            state |= {f"{address}.lora_A.weight": down, f"{address}.lora_B.weight": up}
        elif root == "unet" and ".to_" in address:  # the oldest diffusers spelling
            old = address.replace(".to_", ".processor.to_").replace(".to_out.0", ".to_out")
            state |= {f"{old}_lora.down.weight": down, f"{old}_lora.up.weight": up}
        else:
            lora = "lora" if root == "unet" else "lora_linear_layer"
            state |= {f"{address}.{lora}.down.weight": down, f"{address}.{lora}.up.weight": up}
    fields: dict[str, object] = {f"{root}.alpha_pattern": own for root, own in alphas.items()}
    fields |= {f"{root}.lora_alpha": 99.0 for root in alphas}  # every module has a pattern of its own
    for root, own in alphas.items():  # what diffusers' loader asks for
        fields[f"{root}.r"] = next(iter(pairs.values()))[0].shape[0]
        fields[f"{root}.target_modules"] = [name.removeprefix("text_model.") for name in own]
    save_file(state, path, {"lora_adapter_metadata": json.dumps(fields)} if fields else {})
    return path


def addresses(model: SimpleNamespace) -> Mapping[str, tuple[Layer, nn.Module]]:
    return {layer.address: (layer, module) for layer, module in layers_of(parts_of(model))}
