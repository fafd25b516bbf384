"""The keys of LoRA files: module name + part, in every layout that people have.

* kohya (A1111, ComfyUI, LyCORIS): flat names, `lora_unet_..._to_q`; `.lora_down.weight`, `.lora_up.weight`,
  `.alpha`, `.dora_scale`, `.hada_w1_a`, `.lokr_w1` and so on.
* peft (what diffusers writes today): dotted names, `unet. ... .to_q`; `.lora_A.weight`, `.lora_B.weight`,
  `.lora_magnitude_vector`.
* diffusers (its earlier files): dotted; `.lora.down.weight`, text `.lora_linear_layer.down.weight`.

diffusers' oldest files say `.processor.to_q_lora.down.weight`. A file with parts of two layouts is "mixed".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pipeline.errors import ModelError

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
LAYOUTS = ("kohya", "peft", "diffusers")

_HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
_KRONECKER = ("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t1", "lokr_t2")
_LYCORIS = {f".{part}": part for part in (*_HADAMARD, *_KRONECKER)}
# suffix -> part, by layout. `magnitude` is DoRA's vector in kohya's shape, `peft_magnitude` in peft's.
SUFFIXES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "kohya": {
            DOWN: "down",
            UP: "up",
            ".lora_mid.weight": "mid",
            ALPHA: "alpha",
            ".dora_scale": "magnitude",
            **_LYCORIS,
        },
        "peft": {
            ".lora_A.weight": "down",
            ".lora_B.weight": "up",
            ".lora_magnitude_vector": "peft_magnitude",
            ".lora_A.default.weight": "down",
            ".lora_B.default.weight": "up",
            ".lora_magnitude_vector.weight": "peft_magnitude",
            ".lora_magnitude_vector.default.weight": "peft_magnitude",
        },
        "diffusers": {
            ".lora.down.weight": "down",
            ".lora.up.weight": "up",
            ".lora_linear_layer.down.weight": "down",
            ".lora_linear_layer.up.weight": "up",
            "_lora.down.weight": "down",
            "_lora.up.weight": "up",
        },
    }
)
# diffusers' oldest text-encoder LoRA names -> CLIP's
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
# longest first, so that `.lora_A.default.weight` is not taken for a module called `default`
_ALL = sorted(
    ((suffix, part, layout) for layout, table in SUFFIXES.items() for suffix, part in table.items()),
    key=lambda row: -len(row[0]),
)


def split_key(key: str) -> tuple[str, str, str] | None:
    """(module name, part, layout) of a key; None for a key that belongs to no LoRA."""
    for suffix, part, layout in _ALL:
        if key.endswith(suffix) and len(key) > len(suffix):
            return key.removesuffix(suffix), part, layout
    return None


def group_keys(keys: Iterable[str], *, where: str) -> dict[str, dict[str, str]]:
    """Module name -> part -> key, modules in the order of the file.

    Raises ModelError that names `where` and the first keys that belong to no LoRA, or when there are none.
    """
    modules: dict[str, dict[str, str]] = {}
    strange, doubled = [], []
    for key in keys:
        found = split_key(key)
        if found is None:
            strange.append(key)
            continue
        name, part, _ = found
        if part in modules.setdefault(name, {}):
            doubled.append(key)
        modules[name][part] = key
    if strange:
        raise ModelError(
            f"{where}: {some(strange)} are no LoRA keys; expected kohya's (...{DOWN}), PEFT's "
            "(....lora_A.weight) or diffusers' (....lora.down.weight), or LyCORIS' LoHa and LoKr"
        )
    if doubled:
        raise ModelError(
            f"{where}: {some(doubled)} stand beside another spelling of the same; export it again"
        )
    if not modules:
        raise ModelError(f"{where}: holds no weights; export it again")
    return modules


def layout_of(keys: Iterable[str]) -> str:
    """Which layout the keys of a file have: one of LAYOUTS, or "mixed"."""
    split = [found for key in keys if (found := split_key(key))]
    dotted = {layout for name, _, layout in split if "." in name}
    # alpha and LyCORIS' parts are spelled alike everywhere; there the other parts, or the dots, tell
    layouts = (dotted - {"kohya"}) or ({"peft"} if dotted else set())
    if any("." not in name for name, _, _ in split):
        layouts.add("kohya")
    return layouts.pop() if len(layouts) == 1 else "mixed"


def plain_name(name: str) -> str:
    """A dotted name of PEFT or diffusers without wrappers, its old spellings resolved."""
    name = name.removeprefix("base_model.model.").replace(".processor.", ".")
    if ".self_attn." in name:
        head, _, last = name.rpartition(".")
        return f"{head}.{_OLD_TEXT.get(last, last)}"
    return f"{name}.0" if name.endswith(".to_out") else name


def some(names: list[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
