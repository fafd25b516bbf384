"""LoRAs into a model's weights and out again.

They are merged rather than kept as side branches, so that a render pays nothing for them; the weights as they
were are kept on the model, so that removal is exact.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.models.lora_change import LoraModule
from pipeline.models.lora_family import check_lora_family
from pipeline.models.lora_file import read_lora
from pipeline.models.lora_layers import UNET
from pipeline.models.lora_place import left_out, model_layers, place
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


class LoraStack:
    """LoRA files read once, each with its place in one model, to be worn with weights that may change.

    weight' = weight + sum over LoRAs of use * change(weight), summed in float32 and rounded once; the change
    is alpha / r * up @ down, or as `lora_change.py` says for LoHa, LoKr and DoRA. A DoRA's change is taken
    from the model's own weight, so the order of the LoRAs makes no difference.
    """

    def __init__(self, model: Model, paths: Sequence[Path], *, allow_partial: bool = False) -> None:
        """Read and check all files; no weight of the model changes.

        Raises ModelError for an unreadable file, a LoRA of another family, a key that names no layer of this
        model (with `allow_partial` it is left out and `left_out` says so), or a shape that does not fit.
        """
        layers, names = model_layers(model)
        self._model = model
        self._num_files = len(paths)
        self._changes: dict[str, list[tuple[int, LoraModule]]] = {}
        notes = []
        for index, path in enumerate(paths):
            lora = read_lora(Path(path))
            check_lora_family(lora.header, model.family, where=f"LoRA {lora.path}")
            places = place(lora, names, model.family.name, allow_partial=allow_partial)
            notes.append(left_out(lora, places))
            for name, address in places.items():
                device, module = layers[address].get_parameter("weight").device, lora.modules[name]
                module = module if device.type == "meta" else module.to(device)  # weights may come later
                self._changes.setdefault(address, []).append((index, module))
        self.left_out = tuple(note for note in notes if note)
        """A note for each file of which modules were left out (`allow_partial`)."""
        self._layers = {address: layers[address] for address in self._changes}
        self._worn: dict[str, tuple[float, ...]] = {}
        self._kept: dict[str, torch.Tensor] = {}  # what this stack put into the model's `originals`

    @torch.no_grad()
    def wear(self, weights: Sequence[tuple[float, float]]) -> frozenset[str]:
        """Make the model carry exactly these LoRAs, with a (UNet, text encoders) weight for each file.

        Only layers whose weights differ from what they wear now are computed, always from the weight as it
        was, so the result does not depend on what was worn before. Returns the parts of the model that
        changed: "unet", "text_encoder", "text_encoder_2"; texts encoded before a text encoder changed are
        stale.
        """
        if len(weights) != self._num_files:
            raise ValueError(f"{self._num_files} LoRAs need as many weights, found {len(weights)}")
        changed = set() if self._is_worn() else self._start_again()
        for address, modules in self._changes.items():
            side = 0 if address.startswith(f"{UNET}.") else 1
            uses = tuple(weights[index][side] for index, _ in modules)
            if uses != self._worn.get(address, (0.0,) * len(uses)):
                self._merge(address, uses)
                changed.add(address.partition(".")[0])
        _LOG.info("%d LoRAs change %d layers", self._num_files, len(self._kept))
        return frozenset(changed)

    def _merge(self, address: str, uses: tuple[float, ...]) -> None:
        """Give one layer its weight with these LoRAs."""
        weight, originals = self._layers[address].get_parameter("weight"), self._model.originals
        _forget_texts(self._model, (address,))
        if address not in originals:
            originals[address] = self._kept[address] = weight.detach().clone()
        original = originals[address]
        self._worn[address] = uses
        if any(uses):
            change = torch.zeros_like(original, dtype=torch.float32)
            for use, (_, module) in zip(uses, self._changes[address], strict=True):
                if use:
                    change += use * module.to(original.device).change(original)
            weight.copy_(original.float() + change)
        else:
            weight.copy_(original)
            del originals[address], self._kept[address], self._worn[address]

    def _is_worn(self) -> bool:
        """Whether the model carries what this stack last gave it, and nobody else's LoRAs."""
        originals = self._model.originals
        return len(originals) == len(self._kept) and all(
            originals.get(address) is weight for address, weight in self._kept.items()
        )

    def _start_again(self) -> set[str]:
        """Take out what another stack merged; returns the parts that this changes."""
        changed = {address.partition(".")[0] for address in (*self._model.originals, *self._kept)}
        remove_loras(self._model)
        self._worn.clear()
        self._kept.clear()
        return changed


def apply_loras(model: Model, uses: Sequence[LoraUse], *, allow_partial: bool = False) -> None:
    """Make the model carry exactly these LoRAs: what an earlier call merged is taken out first.

    `LoraStack` says what the weights become, and what is refused (ModelError); all files are read and checked
    before any weight changes.
    """
    stack = LoraStack(model, [use.path for use in uses], allow_partial=allow_partial)
    for note in stack.left_out:
        _LOG.warning("%s", note)
    stack.wear([(use.unet_weight, use.text_weight) for use in uses])


def remove_loras(model: Model) -> None:
    """Put every weight that a LoRA changed back, bit for bit. Nothing happens when there is none."""
    if not model.originals:
        return
    layers, _ = model_layers(model)
    with torch.no_grad():
        for address, original in model.originals.items():
            layers[address].get_parameter("weight").copy_(original)
    _forget_texts(model, model.originals)
    model.originals.clear()


def _forget_texts(model: Model, addresses: Iterable[str]) -> None:
    """Prompts that were encoded with other weights of a text encoder are to be encoded again."""
    if any(not address.startswith(f"{UNET}.") for address in addresses):
        model.said.clear()
