"""Which layer of a model each module of a LoRA file changes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from pipeline.errors import ModelError
from pipeline.models.architectures import architecture
from pipeline.models.lora_file import LoraFile
from pipeline.models.lora_keys import some
from pipeline.models.lora_layers import UNET, LayerNames, layer_names, layers_of
from pipeline.models.model import Model


def place(lora: LoraFile, names: LayerNames, model: str, *, allow_partial: bool = False) -> dict[str, str]:
    """Module name in the file -> address of the layer it changes; every one is checked to fit.

    `model` is what the messages call the model. Raises ModelError for a module that names no layer of the
    model (with `allow_partial` it is left out, unless all are), for a shape that does not
    fit, and when two modules of the file are the same layer.
    """
    where = f"LoRA {lora.path}"
    found = {name: names.find(name) for name in lora.modules}
    unmatched = [name for name, address in found.items() if address is None]
    if unmatched and (not allow_partial or len(unmatched) == len(found)):
        raise ModelError(
            f"{where}: {len(unmatched)} of {len(found)} modules are not in model '{model}', first "
            f"{', '.join(unmatched[:3])}; it was made for another model"
            + ("" if len(unmatched) == len(found) else " (lookdev lora verify lists them all)")
        )
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


def left_out(lora: LoraFile, places: Mapping[str, str]) -> str:
    """A note on the modules of the file that `places` has no layer for; empty where there are none."""
    names = [name for name in lora.modules if name not in places]
    if not names:
        return ""
    return f"LoRA {lora.path}: left out {len(names)} of {len(lora.modules)} modules: {some(names)}"


def model_layers(model: Model) -> tuple[Mapping[str, nn.Module], LayerNames]:
    """The layers of a loaded model by address, and their names in files."""
    spec = architecture(model.family.name)
    parts = {root: getattr(model, root) for root in (UNET, *(encoder.root for encoder in spec.text_encoders))}
    layers = list(layers_of(parts))
    return {layer.address: module for layer, module in layers}, layer_names(
        spec, (layer for layer, _ in layers)
    )
