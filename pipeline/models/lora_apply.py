"""LoRAs into a model's weights and out again.

They are merged rather than kept as side branches, so that a render pays nothing for them; the weights as they
were are kept on the model, so that removal is exact.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.architectures import architecture
from pipeline.models.families import check_lora_family
from pipeline.models.lora_file import LoraFile, read_lora
from pipeline.models.lora_keys import some
from pipeline.models.lora_layers import UNET, LayerNames, layer_names, layers_of
from pipeline.models.model import Model

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoraUse:
    """A LoRA file and how much of it to use; 1.0 is as trained, 0.0 nothing, negative the opposite.

    `text_weight` is for all text encoders of the model.
    """

    path: Path
    unet_weight: float = 1.0
    text_weight: float = 1.0

    def weight_at(self, address: str) -> float:
        """How much of the LoRA a layer gets."""
        return self.unet_weight if address.startswith(f"{UNET}.") else self.text_weight


def apply_loras(model: Model, uses: Sequence[LoraUse], *, allow_partial: bool = False) -> None:
    """Make the model carry exactly these LoRAs: what an earlier call merged is taken out first.

    weight' = weight + sum over LoRAs of use * change(weight), summed in float32 and rounded once; the change
    is alpha / r * up @ down, or as `lora_change.py` says for LoHa, LoKr and DoRA. A DoRA's change is taken
    from the model's own weight, so the order of the LoRAs makes no difference. All files are read and checked
    before any weight changes. Raises ModelError for an unreadable file, a LoRA of another family, a key that
    names no layer of this model (with `allow_partial` it is left out, with a warning), or a shape that does
    not fit.
    """
    modules, names = _layers(model)
    files = [(use, read_lora(Path(use.path))) for use in uses]
    placed = []
    for use, lora in files:
        check_lora_family(lora.metadata, model.family, where=f"LoRA {lora.path}")
        placed.append((use, lora, place(lora, names, model.family.name, allow_partial=allow_partial)))
    remove_loras(model)
    changes: dict[str, torch.Tensor] = {}
    for use, lora, places in placed:
        for name, address in places.items():
            weight = use.weight_at(address)
            if weight == 0.0:
                continue
            change = weight * lora.modules[name].change(modules[address].get_parameter("weight").detach())
            changes[address] = change if address not in changes else changes[address] + change
    with torch.no_grad():
        for address, change in changes.items():
            parameter = modules[address].get_parameter("weight")
            model.originals[address] = parameter.detach().clone()
            parameter.copy_(parameter.float() + change)
    _LOG.info("merged %d LoRAs into %d layers", len(files), len(changes))


def remove_loras(model: Model) -> None:
    """Put every weight that `apply_loras` changed back, bit for bit. Nothing happens when there is none."""
    modules, _ = _layers(model)
    with torch.no_grad():
        for address, original in model.originals.items():
            modules[address].get_parameter("weight").copy_(original)
    model.originals.clear()


def place(lora: LoraFile, names: LayerNames, model: str, *, allow_partial: bool = False) -> dict[str, str]:
    """Module name in the file -> address of the layer it changes; every one is checked to fit.

    `model` is what the messages call the model. Raises ModelError as `apply_loras` does, and when two modules
    of the file are the same layer.
    """
    where = f"LoRA {lora.path}"
    found = {name: names.find(name) for name in lora.modules}
    unmatched = [name for name, address in found.items() if address is None]
    if unmatched and (not allow_partial or len(unmatched) == len(found)):
        raise ModelError(
            f"{where}: {len(unmatched)} of {len(found)} modules are not in model '{model}', first "
            f"{', '.join(unmatched[:3])}; it was made for another model"
        )
    if unmatched:
        _LOG.warning("%s: left out %d of %d modules: %s", where, len(unmatched), len(found), some(unmatched))
    places = {name: address for name, address in found.items() if address is not None}
    owners: dict[str, str] = {}
    for name, address in places.items():
        if address in owners:
            raise ModelError(f"{where}: {owners[address]} and {name} are the same layer; export it again")
        owners[address] = name
        shape = names.layers[address].shape
        if not lora.modules[name].fits(shape):
            raise ModelError(
                f"{where}: {name} changes a weight of shape {lora.modules[name].shape}, model '{model}' "
                f"has {shape} there; it was made for another model"
            )
    return places


def _layers(model: Model) -> tuple[Mapping[str, nn.Module], LayerNames]:
    """The model's layers by address, and their names in files."""
    spec = architecture(model.family.name)
    parts = {root: getattr(model, root) for root in (UNET, *(encoder.root for encoder in spec.text_encoders))}
    layers = list(layers_of(parts))
    return {layer.address: module for layer, module in layers}, layer_names(
        spec, (layer for layer, _ in layers)
    )
