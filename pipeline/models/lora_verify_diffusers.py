"""What diffusers makes of a LoRA file's keys: its own converters and rules, run without weights.

The steps are those of `load_lora_weights` of the StableDiffusion and StableDiffusionXL pipelines (diffusers
0.42: loaders/lora_pipeline.py, loaders/peft.py, loaders/lora_base.py). Its own functions are called on
one-number tensors that say which key they came from; what lies between the calls is written out here.
`tests/models/test_lora_verify.py` loads the same files with diffusers itself.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
    logging,
)

from pipeline.models.architectures import Architecture
from pipeline.models.lora_alpha import METADATA_KEY
from pipeline.models.lora_file import LoraFile
from pipeline.models.lora_keys import ALPHA, split_key
from pipeline.models.lora_layers import UNET, LayerNames, build_text_encoder

Tokens = Mapping[str, torch.Tensor]
_REFUSED = (ValueError, KeyError, IndexError, AttributeError)  # what diffusers raises on odd keys
_PARTS = (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector", ".lora_magnitude_vector.weight")
_RANKED = (".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1", ".fc2")


@dataclass(frozen=True)
class _Target:
    """A pipeline: the architecture, and each part's module paths as the installed libraries have them."""

    spec: Architecture
    paths: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, spec: Architecture, names: LayerNames) -> _Target:
        paths = {UNET: frozenset(layer.path for layer in names.layers.values() if layer.root == UNET)}
        for encoder in spec.text_encoders:
            built = build_text_encoder(encoder)
            paths[encoder.root] = frozenset(path for path, _ in built.named_modules())
        return cls(spec, paths)


def read(lora: LoraFile, spec: Architecture, names: LayerNames) -> tuple[tuple[str, ...], str]:
    """The keys that diffusers leaves out, and why it refuses the file as a whole ("" where it does not).

    Of a refused file they are the keys to blame: of modules that its converter refuses alone too, or of the
    part of the model that it refuses; all where none is.
    """
    tokens = {key: torch.ones(()) for key in lora.state}
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for key, token in tokens.items():
        modules.setdefault(module_of(key), {})[key] = token
    text = lora.metadata.get(METADATA_KEY)
    metadata = None if text is None else json.loads(text)
    target, refusal = _Target.of(spec, names), ""
    try:
        taken = _takes(tokens, metadata, target)
    except _REFUSED as error:
        refusal = " ".join(str(error).split())[:200] or type(error).__name__
        taken = _takes_of_refused(modules, metadata, target)
    lost = tuple(_left_out(modules, taken))
    return (tuple(tokens) if refusal and not lost else lost), refusal


def module_of(key: str) -> str:
    """The module's name in a key; the key itself where it belongs to no LoRA."""
    split = split_key(key)
    return split[0] if split is not None else key


def _left_out(modules: Mapping[str, Tokens], taken: set[int]) -> Iterator[str]:
    for own in modules.values():
        any_taken = any(id(token) in taken for token in own.values())
        for key, token in own.items():
            follows = any_taken and key.endswith(ALPHA)  # alpha is read and goes where its module goes
            if id(token) not in taken and not follows:
                yield key


def _takes_of_refused(
    modules: Mapping[str, Tokens], metadata: Mapping[str, Any] | None, target: _Target
) -> set[int]:
    """What it would take without the modules that its converter refuses alone, and without refused parts."""
    rest: dict[str, torch.Tensor] = {}
    for own in modules.values():
        with contextlib.suppress(*_REFUSED):
            _convert(own, metadata, target.spec)
            rest |= own
    try:
        return _takes(rest, metadata, target, without_refused=True) if rest else set()
    except _REFUSED:
        return set()


def _convert(tokens: Tokens, metadata: Mapping[str, Any] | None, spec: Architecture) -> Tokens:
    """Its first step: kohya's names become its own, by part ("unet. ..."). Raises where it does."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of dora_scale, which it drops: that is in our result
    try:
        # only the SDXL pipeline hands its config over, and so reads the original code's names
        config = SimpleNamespace(**spec.unet) if spec.unet_names == "sgm" else None
        state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(dict(tokens), unet_config=config)
    finally:
        logging.set_verbosity(verbosity)
    strange = next((key for key in state if "lora" not in key), None)
    if strange is not None:
        raise ValueError(f"it takes no file with a key without 'lora' in its name, as {strange}")
    if alphas and metadata:
        raise ValueError(f"it takes no file with both alpha tensors and {METADATA_KEY}")
    converted: Tokens = state
    return converted


def _takes(
    tokens: Tokens,
    metadata: Mapping[str, Any] | None,
    target: _Target,
    *,
    without_refused: bool = False,
) -> set[int]:
    """Which tensors (by identity) end in the pipeline's model. Raises where diffusers does.

    `without_refused` leaves a part of the model that it refuses out instead.
    """
    state, taken = _convert(tokens, metadata, target.spec), set[int]()
    for root in target.paths:
        start = f"{root}."
        own = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
        if own:
            with contextlib.suppress(*(_REFUSED if without_refused else ())):
                wanted = _target_modules(root, metadata)
                placed = (
                    _in_unet(own, target) if root == UNET else _in_text_encoder(own, root, target, wanted)
                )
                taken |= {id(value) for value in placed}
    return taken


def _target_modules(root: str, metadata: Mapping[str, Any] | None) -> tuple[str, ...] | str | None:
    """The layers that the metadata are for: ends of paths, or one expression; None without metadata."""
    if metadata is None:
        return None
    wanted = metadata.get(f"{root}.target_modules")
    if not wanted:
        raise ValueError(f"its {METADATA_KEY} has no {root}.target_modules")
    return wanted if isinstance(wanted, str) else tuple(str(end) for end in wanted)


def _in_unet(own: dict[str, torch.Tensor], target: _Target) -> Iterator[torch.Tensor]:
    if "lora_A" not in next(iter(own)):  # it looks at the first key only
        own = convert_unet_state_dict_to_peft(own)
    return _placed(own, target.paths[UNET])


def _in_text_encoder(
    own: dict[str, torch.Tensor], root: str, target: _Target, wanted: tuple[str, ...] | str | None
) -> Iterator[torch.Tensor]:
    own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
    paths = target.paths[root]
    if not any(path.startswith("text_model.") for path in paths):
        own = {key.removeprefix("text_model."): value for key, value in own.items()}
    ranked = (path for path in paths if path.endswith(_RANKED))
    if wanted is None and not any(f"{path}.lora_B.weight" in own for path in ranked):
        raise ValueError(f"none of the names for the {root} are the installed transformers' own")
    if wanted is not None:  # here peft makes the layers that the metadata name, in the UNet all of the file's
        paths = frozenset(path for path in paths if _is_wanted(path, wanted))
    # with its layers made, transformers also takes names without the model's prefix
    return _placed(own, paths | {path.removeprefix("text_model.") for path in paths})


def _is_wanted(path: str, wanted: tuple[str, ...] | str) -> bool:
    """Whether peft's target_modules name a layer (peft, tuners_utils.check_target_module_exists)."""
    if isinstance(wanted, str):
        return re.fullmatch(wanted, path) is not None
    return any(path == end or path.endswith(f".{end}") for end in wanted)


def _placed(own: Tokens, paths: frozenset[str]) -> Iterator[torch.Tensor]:
    for key, value in own.items():
        part = next((part for part in _PARTS if key.endswith(part)), None)
        if part is not None and key.removesuffix(part) in paths:
            yield value
