"""LoRA files from one layout to another, without loss both ways.

Tensors are renamed and never changed (DoRA's vector is reshaped). Alpha is a tensor in kohya's layout and
adapter metadata in the others. What the new layout cannot say (alpha's dtype, unusual names, the adapter
metadata as it was) goes into the file's metadata under `lookdev.converted`, and the way back restores it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import torch

from pipeline.errors import ModelError
from pipeline.models.lora_alpha import METADATA_KEY, adapter_metadata
from pipeline.models.lora_change import LoraModule
from pipeline.models.lora_file import HASH_KEY, LoraFile
from pipeline.models.lora_keys import ALPHA, LAYOUTS, some, split_key
from pipeline.models.lora_layers import UNET, LayerNames, family_names
from pipeline.models.lora_place import place

RECORD_KEY = "lookdev.converted"
State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Record:
    """What the way back restores: usual key -> key as it was, alpha's form, the adapter metadata."""

    keys: Mapping[str, str] = field(default_factory=dict)
    alpha: tuple[torch.dtype, tuple[int, ...]] = (torch.float32, ())
    odd_alphas: Mapping[str, tuple[torch.dtype, tuple[int, ...]]] = field(default_factory=dict)
    adapter: str | None = None
    restores: bool = False


def convert(
    lora: LoraFile, layout: str, family: str, *, names: LayerNames | None = None
) -> tuple[State, dict[str, str]]:
    """The file's tensors under the keys of `layout` (one of LAYOUTS), and its metadata, for `write_lora`.

    Converting there and back gives the same keys and bits; a missing alpha comes back written out. Raises
    ModelError when a module is not in the family, or is something that the layout cannot hold (LoHa and LoKr
    live in kohya's layout only). `names` are a model's own layers where they are known.
    """
    where = f"LoRA {lora.path}"
    if layout not in LAYOUTS:
        raise ModelError(f"layout '{layout}' is not known; expected one of {', '.join(LAYOUTS)}")
    if lora.layout == layout:
        raise ModelError(f"{where}: is in {layout}'s layout already; nothing to convert")
    names = names or family_names(family)
    places = place(lora, names, family)
    odd = [name for name, module in lora.modules.items() if not _holds(layout, module)]
    if odd:
        dora = lora.modules[odd[0]].is_dora
        advice = "use it as it is" if dora else "turn it into a plain LoRA first: lookdev lora resize"
        raise ModelError(
            f"{where}: {some(odd)} cannot be written in {layout}'s layout, which holds plain LoRA and "
            f"DoRA by output; {advice}"
        )
    record = _read_record(lora, layout)
    state: State = {}
    for key, tensor in lora.state.items():
        split = split_key(key)
        assert split is not None
        name, part, _ = split
        if part == "alpha":
            continue
        new_key, new_tensor = _ENCODE[layout](names, places[name], part, tensor)
        state[record.keys.get(new_key, new_key)] = new_tensor
    if layout == "kohya":
        for name, module in lora.modules.items():
            key = names.kohya[places[name]] + ALPHA
            state[record.keys.get(key, key)] = _alpha_tensor(record, places[name], module.alpha)
    metadata = {k: v for k, v in lora.metadata.items() if k not in (RECORD_KEY, METADATA_KEY, HASH_KEY)}
    if not record.restores:
        metadata[RECORD_KEY] = json.dumps(_record(lora, names, places), sort_keys=True)
    adapter = record.adapter
    if layout != "kohya" and not record.restores:
        adapter = adapter_metadata(
            {
                places[name]: (module.rank, module.alpha, module.is_dora)
                for name, module in lora.modules.items()
            }
        )
    return state, metadata | ({} if adapter is None else {METADATA_KEY: adapter})


def _alpha_tensor(record: _Record, address: str, alpha: float) -> torch.Tensor:
    dtype, shape = record.odd_alphas.get(address, record.alpha)
    return torch.full(shape, alpha, dtype=dtype)


def _holds(layout: str, module: LoraModule) -> bool:
    if layout == "kohya":
        return True
    vector = module.parts.get("magnitude")
    on_output = vector is None or vector.numel() == vector.shape[0] == module.shape[0]
    return module.kind == "lora" and "mid" not in module.parts and on_output


def _to_kohya(names: LayerNames, address: str, part: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    suffix = _KOHYA_SUFFIX.get(part, f".{part}")
    if part == "peft_magnitude":  # [out] -> [out, 1]; a convolution's [1, out, 1, 1] -> [out, 1, 1, 1]
        suffix = ".dora_scale"
        tensor = tensor.reshape(-1, 1) if tensor.ndim == 1 else tensor.transpose(0, 1)
    return names.kohya[address] + suffix, tensor


def _to_peft(names: LayerNames, address: str, part: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    if part == "magnitude":
        return f"{address}.lora_magnitude_vector", _peft_magnitude(tensor)
    return address + _PEFT_SUFFIX[part], tensor


def _to_diffusers(
    names: LayerNames, address: str, part: str, tensor: torch.Tensor
) -> tuple[str, torch.Tensor]:
    if part in ("magnitude", "peft_magnitude"):
        return _to_peft(names, address, part, tensor)
    middle = ".lora" if address.startswith(f"{UNET}.") else ".lora_linear_layer"
    return f"{address}{middle}.{part}.weight", tensor


def _peft_magnitude(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(0, 1) if tensor.ndim == 4 else tensor.flatten()


_KOHYA_SUFFIX = {
    "down": ".lora_down.weight",
    "up": ".lora_up.weight",
    "mid": ".lora_mid.weight",
    "magnitude": ".dora_scale",
}
_PEFT_SUFFIX = {
    "down": ".lora_A.weight",
    "up": ".lora_B.weight",
    "peft_magnitude": ".lora_magnitude_vector",
}
_Encode = Callable[[LayerNames, str, str, torch.Tensor], tuple[str, torch.Tensor]]
_ENCODE: Mapping[str, _Encode] = MappingProxyType(
    {"kohya": _to_kohya, "peft": _to_peft, "diffusers": _to_diffusers}
)


def _record(lora: LoraFile, names: LayerNames, places: Mapping[str, str]) -> dict[str, Any]:
    """What the way back needs: keys that are not the usual ones, alpha as stored, the adapter metadata."""
    encode = _ENCODE.get(lora.layout)
    keys, alphas = {}, {}
    for key, tensor in lora.state.items():
        split = split_key(key)
        assert split is not None
        address = places[split[0]]
        if split[1] == "alpha":
            usual = names.kohya[address] + ALPHA
            alphas[address] = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        else:
            usual = encode(names, address, split[1], tensor)[0] if encode else key
        if usual != key:
            keys[usual] = key
    forms = Counter(json.dumps(form) for form in alphas.values())
    common = json.loads(forms.most_common(1)[0][0]) if forms else None
    return {
        "from": lora.layout,
        "keys": keys,
        "alpha": common,
        "odd_alphas": {address: form for address, form in alphas.items() if form != common},
        "adapter": lora.metadata.get(METADATA_KEY),
    }


def _read_record(lora: LoraFile, layout: str) -> _Record:
    """What an earlier conversion from `layout` left, or an empty record."""
    text = lora.metadata.get(RECORD_KEY)
    try:
        stored = {} if text is None else json.loads(text)
        if text is None or stored["from"] != layout:
            return _Record()
        forms = {address: _form(form) for address, form in stored["odd_alphas"].items()}
        return _Record(
            keys={str(new): str(old) for new, old in stored["keys"].items()},
            alpha=_form(stored["alpha"]) if stored["alpha"] is not None else _Record.alpha,
            odd_alphas=forms,
            adapter=None if stored["adapter"] is None else str(stored["adapter"]),
            restores=True,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"LoRA {lora.path}: its metadata {RECORD_KEY} is damaged ({type(error).__name__}); expected what "
            "lookdev lora convert writes; convert the original file again"
        ) from error


def _form(stored: object) -> tuple[torch.dtype, tuple[int, ...]]:
    """dtype and shape of an alpha tensor, checked: it holds one number."""
    name, shape = cast("tuple[str, list[int]]", stored)
    dtype = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16,
             "bfloat16": torch.bfloat16, "int64": torch.int64, "int32": torch.int32}[name]  # fmt: skip
    if any(side != 1 for side in shape):
        raise ValueError("an alpha holds one number")
    return dtype, tuple(shape)
