"""LoRAs into a model's weights and out again.

They are merged rather than kept as side branches, so that a render pays nothing for them. A layer is given
another tensor and its own is kept on the model, so that removal is exact, and so that merged weights can be
held and changed for one another without being computed again (`LoraStack.hold`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import nn

from pipeline.models.lora_change import LoraModule
from pipeline.models.lora_family import check_lora_family
from pipeline.models.lora_file import read_lora
from pipeline.models.lora_layers import UNET
from pipeline.models.lora_place import left_out, model_layers, place
from pipeline.models.model import Model

_LOG = logging.getLogger(__name__)
_IN_UNET = f"{UNET}."
_HELD_SHARE = 0.5  # of the memory that is free; the rest is for what the networks compute

Weights = Sequence[tuple[float, float]]  # for each file of a stack: on the UNet, on the text encoders


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
        self._held: dict[tuple[str, tuple[float, ...]], torch.Tensor] = {}
        self._may_hold, self._is_holding = True, False

    @torch.inference_mode(False)  # an inference tensor could not take a weight's place outside
    @torch.no_grad()
    def wear(self, weights: Weights, *, texts: bool = True) -> frozenset[str]:
        """Make the model carry exactly these LoRAs, with a (UNet, text encoders) weight for each file.

        Only layers whose weights differ from what they wear now are changed, always from the weight as it
        was, so the result does not depend on what was worn before; weights that are held (`hold`) are not
        computed again. Without `texts` the text encoders stay as they are. Returns the parts of the model
        that changed: "unet", "text_encoder", "text_encoder_2"; texts encoded before a text encoder changed
        are stale.
        """
        self._check(weights)
        changed = set() if self._is_worn() else self._start_again()
        for address, modules in self._changes.items():
            in_unet = address.startswith(_IN_UNET)
            if not in_unet and not texts:
                continue
            uses = tuple(weights[index][0 if in_unet else 1] for index, _ in modules)
            if uses != self._worn.get(address, (0.0,) * len(uses)):
                self._merge(address, uses)
                changed.add(address.partition(".")[0])
        _LOG.info("%d LoRAs change %d layers", self._num_files, len(self._kept))
        return frozenset(changed)

    @torch.inference_mode(False)
    @torch.no_grad()
    def hold(self, sets: Iterable[Weights]) -> bool:
        """Keep the UNet's weights under each of these sets, so that `wear` changes between them at once.

        What was held for other sets is dropped. False, and nothing is held, where they would take more than
        half of the memory that is free: `wear` then computes them each time, to the same bits.
        """
        if not self._is_worn():
            self._start_again()
        wanted = dict[tuple[str, tuple[float, ...]], None]()
        for weights in sets:
            self._check(weights)
            wanted |= dict.fromkeys(key for key in self._unet_uses(weights) if any(key[1]))
        self._held = {key: tensor for key, tensor in self._held.items() if key in wanted}
        missing = [key for key in wanted if key not in self._held]
        if not missing:
            return True
        self._is_holding = self._may_hold
        needed = sum(self._own(address).nbytes for address, _ in missing)
        if not self._may_hold or needed > _HELD_SHARE * _free_bytes(self._own(missing[0][0]).device):
            self._held.clear()
            return False
        self._held |= {key: self._merged(*key) for key in missing}
        return True

    def release(self) -> bool:
        """Hold nothing from here on, since memory ran out; whether that makes a difference."""
        released = self._is_holding
        self._held, self._may_hold, self._is_holding = {}, False, False
        return released

    def _check(self, weights: Weights) -> None:
        if len(weights) != self._num_files:
            raise ValueError(f"{self._num_files} LoRAs need as many weights, found {len(weights)}")

    def _unet_uses(self, weights: Weights) -> Iterator[tuple[str, tuple[float, ...]]]:
        for address, modules in self._changes.items():
            if address.startswith(_IN_UNET):
                yield address, tuple(weights[index][0] for index, _ in modules)

    def _own(self, address: str) -> torch.Tensor:
        """A layer's weight without this stack's LoRAs."""
        kept = self._kept.get(address)
        return self._layers[address].get_parameter("weight").data if kept is None else kept

    def _merge(self, address: str, uses: tuple[float, ...]) -> None:
        """Give one layer its weight with these LoRAs."""
        weight, originals = self._layers[address].weight, self._model.originals
        assert isinstance(weight, nn.Parameter)  # `get_parameter` takes longer than the change
        if not address.startswith(_IN_UNET):
            self._model.said.clear()
        if any(uses):
            if address not in originals:
                originals[address] = self._kept[address] = weight.data
            held = self._held.get((address, uses))
            weight.data = self._merged(address, uses) if held is None else held
            self._worn[address] = uses
        else:
            weight.data = originals.pop(address)
            del self._kept[address], self._worn[address]

    def _merged(self, address: str, uses: tuple[float, ...]) -> torch.Tensor:
        """A layer's own weight with the changes, in its dtype and layout in memory."""
        own = self._own(address)
        change = torch.zeros_like(own, dtype=torch.float32)
        for use, (_, module) in zip(uses, self._changes[address], strict=True):
            if use:
                change += use * module.to(own.device).change(own)
        return torch.empty_like(own).copy_(own.float() + change)

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
        self._held.clear()  # made from weights that may be others now
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
    for address, original in model.originals.items():
        layers[address].get_parameter("weight").data = original
    if any(not address.startswith(_IN_UNET) for address in model.originals):
        model.said.clear()  # prompts are to be encoded again
    model.originals.clear()


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return int(psutil.virtual_memory().available)
