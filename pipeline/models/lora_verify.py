"""Which keys of a LoRA file each program would find a place for: their own matching, replayed by name.

diffusers' is its own code, called on the keys. The others are the names that their loaders build from the
model: sd-scripts' networks/lora.py (LyCORIS for LoHa, LoKr and DoRA has the same names), A1111's
extensions-builtin/Lora/networks.py, ComfyUI's comfy/lora.py (early 2025). Shapes are checked by lookdev
alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace

import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
    logging,
)

from pipeline.models.architectures import ARCHITECTURES, Architecture, architecture
from pipeline.models.lora_file import LoraFile
from pipeline.models.lora_keys import ALPHA, SUFFIXES, split_key
from pipeline.models.lora_layers import UNET, Layer, LayerNames, family_names, flat_name, sgm_path
from pipeline.models.names import UNET_PREFIX, bare_text_name

_ENDS = ("conv_in", "conv_out", "time_embedding.", "add_embedding.")
_TEXT_LAYERS = (".self_attn.", ".mlp.")
_PEFT_PART = re.compile(r"\.(lora_[AB]\.weight|lora_magnitude_vector(\.weight)?|lokr_(w[12](_[ab])?|t2))$")
_REFUSED = (ValueError, KeyError, IndexError, AttributeError)  # what diffusers' converter raises on odd keys
_COMFY_PARTS = {suffix for table in SUFFIXES.values() for suffix in table if ".default." not in suffix} - {
    ".lora_magnitude_vector",
    ".lora_magnitude_vector.weight",
}


@dataclass(frozen=True)
class Reading:
    """What one program makes of a file: how many keys there are, and the keys that it leaves out."""

    program: str
    num_keys: int
    unmatched: tuple[str, ...]


def verify(lora: LoraFile, family: str) -> list[Reading]:
    """Replay every program's key matching for a model of `family`, lookdev first.

    lookdev leaves out keys without a layer, keys that are of a wrong shape there, and all keys of a layer
    that the file names twice; any such key stops a render.
    """
    spec, names = architecture(family), family_names(family)
    keys = list(lora.state)
    return [Reading(program, len(keys), tuple(read(lora, spec, names))) for program, read in PROGRAMS.items()]


def likely_families(lora: LoraFile) -> tuple[str, ...]:
    """All families, the one whose text width the file's cross-attention has first."""
    widths = {
        module.shape[1]
        for name, module in lora.modules.items()
        if name.endswith(("attn2_to_k", "attn2.to_k"))
    }
    return tuple(
        sorted(ARCHITECTURES, key=lambda f: architecture(f).unet["cross_attention_dim"] not in widths)
    )


def find_family(lora: LoraFile, families: tuple[str, ...]) -> str:
    """The family of `families` that has a place for most of the file's modules; the first among equals."""

    def misses(family: str) -> int:
        names = family_names(family)
        return sum(not _fits(lora, name, names) for name in lora.modules)

    best, fewest = families[0], len(lora.modules) + 1
    for family in families:
        missed = misses(family)
        if missed < fewest:
            best, fewest = family, missed
        if fewest * 2 < len(lora.modules):  # no other family can have a place for more
            break
    return best


def _fits(lora: LoraFile, name: str, names: LayerNames) -> bool:
    address = names.find(name)
    return address is not None and lora.modules[name].fits(names.layers[address].shape)


def _lookdev(lora: LoraFile, spec: Architecture, names: LayerNames) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in lora.modules:
        seen.setdefault(names.find(name) or "", name)
    for key in lora.state:
        name = _module(key)
        if not _fits(lora, name, names) or seen[names.find(name) or ""] != name:
            yield key


def _named(
    accepts: Callable[[Architecture, Layer], Iterator[str]], parts: set[str]
) -> Callable[..., Iterator[str]]:
    """A reader that takes keys of which the module is called as `accepts` says and the part is in `parts`."""

    def read(lora: LoraFile, spec: Architecture, names: LayerNames) -> Iterator[str]:
        known = {name for layer in names.layers.values() for name in accepts(spec, layer)}
        for key in lora.state:
            name = _module(key)
            if name not in known or key.removeprefix(name) not in parts:
                yield key

    return read


def _kohya(spec: Architecture, layer: Layer) -> Iterator[str]:
    """sd-scripts: one spelling per family, no ends of the UNet, of text encoders only attention and MLP."""
    if layer.root == UNET:
        if not layer.path.startswith(_ENDS):
            path = sgm_path(layer.path, spec.unet) if spec.unet_names == "sgm" else layer.path
            yield UNET_PREFIX + flat_name(path)
        return
    encoder = next(encoder for encoder in spec.text_encoders if encoder.root == layer.root)
    if any(part in layer.path for part in _TEXT_LAYERS):
        yield encoder.kohya_prefix + flat_name(layer.path)


def _a1111(spec: Architecture, layer: Layer) -> Iterator[str]:
    """A1111 turns diffusers' names into the original code's, or takes those as they are."""
    if layer.root == UNET:
        original = sgm_path(layer.path, spec.unet)
        yield UNET_PREFIX + flat_name(original)
        # of an upsampler it guesses the place by the block's number; label_emb has no rule
        guessed = re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv", layer.path)
        if guessed and original.split(".")[2] != ("2" if int(guessed[1]) > 0 else "1"):
            return
        if not layer.path.startswith("add_embedding."):
            yield UNET_PREFIX + flat_name(layer.path)
    elif any(part in layer.path for part in _TEXT_LAYERS):
        number = [encoder.root for encoder in spec.text_encoders].index(layer.root) + 1
        yield f"lora_te{number}_" + flat_name(layer.path)
        if len(spec.text_encoders) == 1:
            yield "lora_te_" + flat_name(layer.path)


def _comfyui(spec: Architecture, layer: Layer) -> Iterator[str]:
    """ComfyUI takes both flat spellings; dotted attention names only with diffusers' old `.processor`."""
    if layer.root == UNET:
        original = sgm_path(layer.path, spec.unet)
        yield from (UNET_PREFIX + flat_name(original), UNET_PREFIX + flat_name(layer.path))
        yield f"diffusion_model.{original}"
        dotted = layer.path.replace(".to_", ".processor.to_")
        dotted = dotted.removesuffix(".0") if dotted.endswith(".to_out.0") else dotted
        yield from (dotted, f"unet.{dotted}")
        return
    number = [encoder.root for encoder in spec.text_encoders].index(layer.root) + 1
    if any(part in layer.path for part in _TEXT_LAYERS):
        yield f"lora_te{number}_" + flat_name(layer.path)
        yield f"{layer.root}.{layer.path}"
        if number == 1:
            yield "lora_te_" + flat_name(layer.path)
    elif number == 2:
        yield "lora_te2_text_projection"


def _diffusers(lora: LoraFile, spec: Architecture, names: LayerNames) -> Iterator[str]:
    """diffusers' own conversion, on one-number tensors that say which key they came from."""
    tokens = {key: torch.ones(()) for key in lora.state}
    by_module: dict[str, dict[str, torch.Tensor]] = {}
    for key, token in tokens.items():
        by_module.setdefault(_module(key), {})[key] = token
    try:
        taken = _diffusers_takes(tokens, spec, names)
    except _REFUSED:  # it refuses the whole file; module by module tells which keys it stumbles over
        taken = set()
        for own in by_module.values():
            with contextlib.suppress(*_REFUSED):
                taken |= _diffusers_takes(own, spec, names)
    for own in by_module.values():
        any_taken = any(id(token) in taken for token in own.values())
        for key, token in own.items():
            follows = any_taken and key.endswith(ALPHA)  # alpha is read and goes where its module goes
            if id(token) not in taken and not follows:
                yield key


def _diffusers_takes(tokens: Mapping[str, torch.Tensor], spec: Architecture, names: LayerNames) -> set[int]:
    """Which tensors (by identity) diffusers puts into a model of this architecture."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of dora_scale, which it drops: that is in our result
    try:
        # only the SDXL pipeline hands its config over, and so reads the original code's names
        config = SimpleNamespace(**spec.unet) if spec.unet_names == "sgm" else None
        state, _ = StableDiffusionXLLoraLoaderMixin.lora_state_dict(dict(tokens), unet_config=config)
    finally:
        logging.set_verbosity(verbosity)
    taken = set()
    for root in (UNET, *(encoder.root for encoder in spec.text_encoders)):
        own = {
            key.removeprefix(f"{root}."): value for key, value in state.items() if key.startswith(f"{root}.")
        }
        if not own:
            continue
        if root != UNET:
            own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
        elif "lora_A" not in next(iter(own)):  # it looks at the first key only
            own = convert_unet_state_dict_to_peft(own)
        paths = {bare_text_name(layer.path) for layer in names.layers.values() if layer.root == root}
        for key, value in own.items():
            part = _PEFT_PART.search(key)
            if part is not None and bare_text_name(key[: part.start()]) in paths:
                taken.add(id(value))
    return taken


def _module(key: str) -> str:
    split = split_key(key)
    return split[0] if split is not None else key


_KOHYA_PARTS = set(SUFFIXES["kohya"])
PROGRAMS: Mapping[str, Callable[[LoraFile, Architecture, LayerNames], Iterator[str]]] = MappingProxyType(
    {
        "lookdev": _lookdev,
        "kohya": _named(_kohya, _KOHYA_PARTS),
        "A1111": _named(_a1111, _KOHYA_PARTS),
        "ComfyUI": _named(_comfyui, _COMFY_PARTS),
        "diffusers": _diffusers,
    }
)
