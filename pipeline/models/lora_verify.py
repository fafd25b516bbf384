"""Which keys of a LoRA file each program would find a place for: their own matching, replayed by name.

diffusers' is its own code, called on the keys. The others are the names that their loaders build from the
model: sd-scripts' networks/lora.py (LyCORIS for LoHa, LoKr and DoRA has the same names), A1111's
extensions-builtin/Lora/networks.py, ComfyUI's comfy/lora.py (early 2025). Shapes are checked by lookdev
alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.models import lora_verify_diffusers
from pipeline.models.architectures import ARCHITECTURES, Architecture, architecture
from pipeline.models.lora_file import LoraFile
from pipeline.models.lora_keys import SUFFIXES
from pipeline.models.lora_layers import UNET, Layer, LayerNames, family_names, flat_name, sgm_path
from pipeline.models.lora_verify_diffusers import module_of
from pipeline.models.names import UNET_PREFIX

_ENDS = ("conv_in", "conv_out", "time_embedding.", "add_embedding.")
_TEXT_LAYERS = (".self_attn.", ".mlp.")
_COMFY_PARTS = {suffix for table in SUFFIXES.values() for suffix in table if ".default." not in suffix} - {
    ".lora_magnitude_vector",
    ".lora_magnitude_vector.weight",
}


@dataclass(frozen=True)
class Reading:
    """What one program makes of a file: how many keys there are, and the keys that it leaves out.

    `refusal`: why it takes nothing of the file, in its own words where it has some; then `unmatched` are the
    keys to blame, or all. Empty where it takes the others.
    """

    program: str
    num_keys: int
    unmatched: tuple[str, ...]
    refusal: str = ""


def verify(lora: LoraFile, family: str, *, names: LayerNames | None = None) -> list[Reading]:
    """Replay every program's key matching for a model of `family`, lookdev first, diffusers last.

    lookdev leaves out keys without a layer, keys that are of a wrong shape there, and all keys of a layer
    that the file names twice; any such key stops a render. `names` are a model's own layers where they are
    known; otherwise those of the published architecture.
    """
    spec, names = architecture(family), names or family_names(family)
    keys = list(lora.state)
    readings = [
        Reading(program, len(keys), tuple(read(lora, spec, names))) for program, read in PROGRAMS.items()
    ]
    return [*readings, Reading("diffusers", len(keys), *lora_verify_diffusers.read(lora, spec, names))]


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
        name = module_of(key)
        if not _fits(lora, name, names) or seen[names.find(name) or ""] != name:
            yield key


def _named(
    accepts: Callable[[Architecture, Layer], Iterator[str]], parts: set[str]
) -> Callable[..., Iterator[str]]:
    """A reader that takes keys of which the module is called as `accepts` says and the part is in `parts`."""

    def read(lora: LoraFile, spec: Architecture, names: LayerNames) -> Iterator[str]:
        known = {name for layer in names.layers.values() for name in accepts(spec, layer)}
        for key in lora.state:
            name = module_of(key)
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


_KOHYA_PARTS = set(SUFFIXES["kohya"])
PROGRAMS: Mapping[str, Callable[[LoraFile, Architecture, LayerNames], Iterator[str]]] = MappingProxyType(
    {
        "lookdev": _lookdev,
        "kohya": _named(_kohya, _KOHYA_PARTS),
        "A1111": _named(_a1111, _KOHYA_PARTS),
        "ComfyUI": _named(_comfyui, _COMFY_PARTS),
    }
)
