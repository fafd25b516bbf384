"""LoRAs into a model's weights and out again.

They are merged rather than kept as side branches, so that a render pays nothing for them; the weights as they
were are kept on the model, so that removal is exact.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.families import check_lora_family
from pipeline.models.lora_file import LoraFile, read_lora
from pipeline.models.model import Model
from pipeline.models.names import TEXT_PREFIX, lora_targets

_LOG = logging.getLogger(__name__)
_ONE_ENCODER_ALIAS = "lora_te1_"  # diffusers' exporter numbers the text encoder even where there is one


@dataclass(frozen=True)
class LoraUse:
    """A LoRA file and how much of it to use; 1.0 is as trained, 0.0 nothing, negative the opposite."""

    path: Path
    unet_weight: float = 1.0
    text_weight: float = 1.0


@dataclass(frozen=True)
class _Change:
    layer: nn.Module
    delta: torch.Tensor  # float32, the weight's shape, already scaled


def apply_loras(model: Model, uses: Sequence[LoraUse]) -> None:
    """Make the model carry exactly these LoRAs: what an earlier call merged is taken out first.

    weight' = weight + sum over LoRAs of use * alpha / r * up @ down, summed in float32 and rounded once. All
    files are read and checked before any weight changes. Raises ModelError for an unreadable file, a LoRA of
    another family, a key that names no layer of this model, or a shape that does not fit.
    """
    targets = lora_targets(model.unet, model.text_encoder)
    files = [(use, read_lora(Path(use.path))) for use in uses]
    for _, lora in files:
        check_lora_family(lora.metadata, model.family, where=f"LoRA {lora.path}")
        _check_fit(lora, model, targets)
    remove_loras(model)
    changes: dict[str, _Change] = {}
    for use, lora in files:
        for name, pair in lora.pairs.items():
            name = _canonical(name)
            weight = use.text_weight if name.startswith(TEXT_PREFIX) else use.unet_weight
            if weight == 0.0:
                continue
            where, layer = targets[name]
            delta = weight * pair.delta()
            earlier = changes.get(where)
            changes[where] = _Change(layer, delta if earlier is None else earlier.delta + delta)
    _merge(model, changes)
    _LOG.info("merged %d LoRAs into %d layers", len(files), len(changes))


def remove_loras(model: Model) -> None:
    """Put every weight that `apply_loras` changed back, bit for bit. Nothing happens when there is none."""
    layers = {where: layer for where, layer in lora_targets(model.unet, model.text_encoder).values()}
    with torch.no_grad():
        for where, original in model.originals.items():
            layers[where].get_parameter("weight").copy_(original)
    model.originals.clear()


def _merge(model: Model, changes: dict[str, _Change]) -> None:
    with torch.no_grad():
        for where, change in changes.items():
            weight = change.layer.get_parameter("weight")
            model.originals[where] = weight.detach().clone()
            weight.copy_(weight.float() + change.delta.to(weight.device))


def _canonical(name: str) -> str:
    if name.startswith(_ONE_ENCODER_ALIAS):
        return TEXT_PREFIX + name.removeprefix(_ONE_ENCODER_ALIAS)
    return name


def _check_fit(lora: LoraFile, model: Model, targets: dict[str, tuple[str, nn.Module]]) -> None:
    unmatched = [name for name in lora.pairs if _canonical(name) not in targets]
    if unmatched:
        raise ModelError(
            f"LoRA {lora.path}: {len(unmatched)} of {len(lora.pairs)} modules are not in model "
            f"'{model.family.name}', first {', '.join(unmatched[:3])}; it was made for another model"
        )
    for name, pair in lora.pairs.items():
        weight = targets[_canonical(name)][1].get_parameter("weight")
        found = (pair.up.shape[0], *pair.down.shape[1:])
        if found != weight.shape:
            raise ModelError(
                f"LoRA {lora.path}: {name} changes a weight of shape {found}, model '{model.family.name}' "
                f"has {tuple(weight.shape)} there; it was made for another model"
            )
