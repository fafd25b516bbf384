"""A trained LoRA as a file's tensors and metadata, checked the way that each program will read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from pipeline.errors import ModelError
from pipeline.models.lora_convert import convert
from pipeline.models.lora_file import LoraFile, parse_modules
from pipeline.models.lora_inject import lora_state
from pipeline.models.lora_keys import layout_of, some
from pipeline.models.lora_layers import LayerNames
from pipeline.models.lora_place import model_layers, place
from pipeline.models.lora_verify import verify
from pipeline.models.model import Model

_FLAT = ("lookdev", "kohya", "A1111", "ComfyUI")
# (kind, layout) -> the programs that read such a file whole. diffusers drops DoRA's vector of kohya's layout
# and refuses LoHa; the others know no dotted names.
READERS: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("lora", "kohya"): (*_FLAT, "diffusers"),
        ("dora", "kohya"): _FLAT,
        ("loha", "kohya"): _FLAT,
        ("lokr", "kohya"): _FLAT,
        ("lora", "peft"): ("lookdev", "diffusers"),
        ("dora", "peft"): ("lookdev", "diffusers"),
    }
)


def trained_file(
    model: Model, path: Path, metadata: Mapping[str, str], *, kind: str, layout: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the layers injected into `model`, for `write_lora` to write to `path`.

    Raises ModelError where a program that should read the file whole has no place for a key of it.
    """
    names = model_layers(model)[1]
    state, header = lora_state(model), dict(metadata)
    if layout != "kohya":
        state, header = convert(_file(path, state, header), layout, model.family.name, names=names)
    programs = READERS[kind, layout]
    if model.family.folder is not None:  # A1111 guesses upsamplers' places; it cannot run the miniature
        programs = tuple(program for program in programs if program != "A1111")
    check_read_whole(_file(path, state, header), model.family.name, names, programs)
    return state, header


def check_read_whole(lora: LoraFile, family: str, names: LayerNames, programs: tuple[str, ...]) -> None:
    """Raise ModelError unless each of `programs` finds a place for every key of the file."""
    place(lora, names, family)
    for reading in verify(lora, family, names=names):
        if reading.program in programs and (reading.unmatched or reading.refusal):
            why = f" ({reading.refusal})" if reading.refusal else ""
            raise ModelError(
                f"LoRA {lora.path}: not written: {reading.program} would leave out "
                f"{len(reading.unmatched)} of {reading.num_keys} keys, first "
                f"{some(list(reading.unmatched))}{why}; expected none: this is a fault in lookdev or in a "
                "library that renamed its layers"
            )


def _file(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> LoraFile:
    modules = parse_modules(path, state, metadata)
    return LoraFile(path=path, state=state, modules=modules, metadata=metadata, layout=layout_of(state))
