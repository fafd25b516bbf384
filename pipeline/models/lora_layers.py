"""The layers that a LoRA may change, and every name that LoRA files call them by.

A layer's address is canonical: "unet.<path>", "text_encoder.<path>" or "text_encoder_2.<path>" with
diffusers' module paths, no `base_layer` of a peft wrapper, and a text encoder's path always with the inner
`text_model.` that transformers >= 5.6 dropped. Names in files are flat (kohya: a prefix and the path with `_`
for `.`) or dotted (PEFT, diffusers). SDXL's flat names follow the original code's blocks (sgm).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipeline.models.architectures import Architecture, TextEncoder, architecture
from pipeline.models.lora_keys import plain_name
from pipeline.models.names import UNET_PREFIX, bare_text_name

UNET = "unet"
_PEFT_PARTS = ("lora_A", "lora_B", "lora_dropout", "lora_embedding_A", "lora_embedding_B")
_PROJECTION = "text_projection"
_RESNET_SGM = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
    "norm1": "in_layers.0",
    "norm2": "out_layers.0",
}
_ENDS_SGM = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


@dataclass(frozen=True)
class Layer:
    """A Linear or Conv2d: `root` (the part of the model), canonical `path`, the weight's `shape`."""

    root: str
    path: str
    shape: tuple[int, ...]

    @property
    def address(self) -> str:
        """`root` and `path`, dotted."""
        return f"{self.root}.{self.path}"


@dataclass(frozen=True)
class LayerNames:
    """All layers of a model by address, the name kohya's trainer writes for each, and every name taken."""

    layers: Mapping[str, Layer]
    kohya: Mapping[str, str]
    by_name: Mapping[str, str]

    def find(self, name: str) -> str | None:
        """The address of the layer that a file calls `name`; None where there is none."""
        return self.by_name.get(name) or self.by_name.get(plain_name(name))


def family_names(family: str) -> LayerNames:
    """The names of a family's published architecture, from networks without weights."""
    return _family_names(family)


@functools.cache
def _family_names(family: str) -> LayerNames:
    spec = architecture(family)
    return layer_names(spec, (layer for layer, _ in layers_of(build(spec))))


def build(spec: Architecture, device: str = "meta") -> dict[str, nn.Module]:
    """The networks of an architecture by root: on the meta device without weights, else with random ones."""
    with torch.device(device):
        parts: dict[str, nn.Module] = {UNET: UNet2DConditionModel.from_config(dict(spec.unet))}
    for encoder in spec.text_encoders:
        parts[encoder.root] = build_text_encoder(encoder, device)
    return parts


def build_text_encoder(encoder: TextEncoder, device: str = "meta") -> nn.Module:
    """One text encoder, as `build` makes it."""
    kind = CLIPTextModelWithProjection if encoder.projected else CLIPTextModel
    with torch.device(device):
        built: nn.Module = kind(CLIPTextConfig(**encoder.config))
    return built


def layers_of(parts: Mapping[str, nn.Module]) -> Iterator[tuple[Layer, nn.Module]]:
    """Every Linear and Conv2d of the parts; a peft wrapper stands as the layer that it wraps."""
    for root, part in parts.items():
        for path, module in part.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and not _is_peft(path, module):
                path = path.removesuffix(".base_layer")
                shape = tuple(module.get_parameter("weight").shape)
                yield Layer(root, path if root == UNET else canonical_text_path(path), shape), module


def layer_names(spec: Architecture, layers: Iterable[Layer]) -> LayerNames:
    """Every name under which files know `layers`, which are those of a model of this architecture."""
    table = {layer.address: layer for layer in layers}
    kohya: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for address, layer in table.items():
        names = list(_names(spec, layer))
        kohya[address] = names[0]
        by_name |= dict.fromkeys((*names, address), address)
    return LayerNames(layers=table, kohya=kohya, by_name=by_name)


def canonical_text_path(path: str) -> str:
    """A text encoder's module path with `text_model.`, whichever transformers wrote it."""
    return path if path == _PROJECTION else "text_model." + bare_text_name(path)


def sgm_path(path: str, config: Mapping[str, Any]) -> str:
    """The original code's path of a UNet layer, from diffusers' path and the UNet's config.

    Each block of n layers is n numbered entries of (resnet, attention), and in the down blocks one more for
    the downsampler; the upsampler follows the last layer's entry.
    """
    if path in _ENDS_SGM:
        return _ENDS_SGM[path]
    parts = path.split(".")
    if parts[0] not in ("down_blocks", "mid_block", "up_blocks"):
        return path  # an embedding that the original code does not have
    layers = int(config["layers_per_block"])
    if parts[0] == "mid_block":
        kind, number, rest = parts[1], int(parts[2]), parts[3:]
        return ".".join(["middle_block", str(2 * number + (kind == "attentions")), *_inner(kind, rest)])
    side, block, kind, number, rest = parts[0], int(parts[1]), parts[2], int(parts[3]), parts[4:]
    if side == "down_blocks":
        entry = 1 + block * (layers + 1) + (layers if kind == "downsamplers" else number)
        inner = ["0", "op"] if kind == "downsamplers" else ["01"[kind == "attentions"], *_inner(kind, rest)]
        return ".".join(["input_blocks", str(entry), *inner])
    entry = block * (layers + 1) + (layers if kind == "upsamplers" else number)
    if kind == "upsamplers":  # after the resnet, and after the attention where the block has one
        inner = ["12"["Attn" in config["up_block_types"][block]], *rest]
    else:
        inner = ["01"[kind == "attentions"], *_inner(kind, rest)]
    return ".".join(["output_blocks", str(entry), *inner])


def _inner(kind: str, rest: list[str]) -> list[str]:
    return [_RESNET_SGM[rest[0]]] if kind == "resnets" else rest


def _names(spec: Architecture, layer: Layer) -> Iterator[str]:
    """Kohya's name first, then the others."""
    if layer.root == UNET:
        flat = {
            "diffusers": UNET_PREFIX + flat_name(layer.path),
            "sgm": UNET_PREFIX + flat_name(sgm_path(layer.path, spec.unet)),
        }
        yield flat.pop(spec.unet_names)
        yield from flat.values()
        yield layer.path  # a file of the UNet alone may leave "unet." out
        return
    encoder = next(encoder for encoder in spec.text_encoders if encoder.root == layer.root)
    for path in (layer.path, bare_text_name(layer.path)):
        for prefix in (encoder.kohya_prefix, *encoder.other_prefixes):
            yield prefix + flat_name(path)
        yield f"{encoder.root}.{path}"
        if len(spec.text_encoders) == 1:
            yield path


def flat_name(path: str) -> str:
    """A dotted path in kohya's spelling."""
    return path.replace(".", "_")


def _is_peft(path: str, module: nn.Module) -> bool:
    return hasattr(module, "base_layer") or any(part in _PEFT_PARTS for part in path.split("."))
