"""LoRAs added up, and LoRAs made smaller.

Adding is exact: for changes s1 B1 A1 and s2 B2 A2 the sum is [w1 s1 B1 | w2 s2 B2] @ [A1 ; A2], whatever
their ranks. A smaller rank is the best one in the Frobenius norm (Eckart and Young 1936), by a singular value
decomposition of the small core between two QR decompositions, so no whole weight is ever built.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.errors import ModelError
from pipeline.models.lora_file import ALPHA, DOWN, UP, LoraFile
from pipeline.models.lora_keys import some
from pipeline.models.lora_layers import family_names
from pipeline.models.lora_place import place

Factors = tuple[torch.Tensor, torch.Tensor]  # up [out, R], down [R, in, ...]: up @ down is the change
_BASE_KEYS = ("ss_v2", "ss_base_model_version", "ss_sd_model_name", "ss_clip_skip", "ss_resolution")
_TITLES = ("ss_output_name", "modelspec.title")
_TRIGGER = "modelspec.trigger_phrase"


@dataclass(frozen=True)
class Sum:
    """A LoRA in kohya's layout, ready for `write_lora`.

    `kept` is the share of the squared change (all modules together) that its rank holds: 1.0 is exact.
    """

    state: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str]
    kept: float


def merge(
    weighted: Sequence[tuple[LoraFile, float]], family: str, *, name: str, rank: int | None = None
) -> Sum:
    """The weighted sum of LoRAs as one LoRA called `name`.

    Without `rank` the ranks add up and the sum is exact; with it each module is cut to at most that rank. The
    result is a plain LoRA with alpha = rank, in the widest dtype of the files. Raises ModelError for DoRAs,
    or files that do not fit the family.
    """
    if not weighted:
        raise ValueError("merge: no LoRAs")
    names = family_names(family)
    sums: dict[str, Factors] = {}
    for lora, weight in weighted:
        _refuse_dora(lora)
        for module_name, address in place(lora, names, family).items():
            up, down = lora.modules[module_name].factors()
            down = down.reshape(down.shape[0], *names.layers[address].shape[1:])
            up = up * weight
            if address in sums:
                up, down = torch.cat([sums[address][0], up], 1), torch.cat([sums[address][1], down], 0)
            sums[address] = up, down
    dtypes = [tensor.dtype for lora, _ in weighted for tensor in lora.state.values() if tensor.ndim > 1]
    dtype = dtypes[0]
    for other in dtypes:
        dtype = torch.promote_types(dtype, other)
    state, kept, whole = {}, 0.0, 0.0
    ranks: Counter[int] = Counter()
    for address, (up, down) in sums.items():
        up, down, share, energy = _cut(up, down, rank)
        kept, whole = kept + share * energy, whole + energy
        ranks[up.shape[1]] += 1
        kohya = names.kohya[address]
        state[kohya + UP] = up.reshape(*up.shape, *[1] * (down.ndim - 2)).to(dtype)
        state[kohya + DOWN] = down.to(dtype)
        state[kohya + ALPHA] = torch.tensor(float(up.shape[1]))
    metadata = _metadata([lora for lora, _ in weighted], name=name, ranks=ranks)
    metadata["lookdev.merged"] = json.dumps([[lora.path.name, weight] for lora, weight in weighted])
    return Sum(state=state, metadata=metadata, kept=kept / whole if whole else 1.0)


def resize(lora: LoraFile, family: str, *, name: str, rank: int) -> Sum:
    """The LoRA cut to at most `rank` in every module; LoHa and LoKr become plain LoRA."""
    return merge([(lora, 1.0)], family, name=name, rank=rank)


def _cut(
    up: torch.Tensor, down: torch.Tensor, rank: int | None
) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """up and down of at most `rank`, their share of the squared change, and the squared change."""
    flat = down.flatten(1)
    energy = float(((up.T @ up) * (flat @ flat.T)).sum())  # ||up @ down||^2 without building it
    if rank is None or up.shape[1] <= rank:
        return up, down, 1.0, energy
    left, left_core = torch.linalg.qr(up)  # [out, r], [r, R]
    right, right_core = torch.linalg.qr(flat.T)  # [in * k * k, r], [r, R]
    u, values, v = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    root = values[:rank].sqrt()  # half of each value on either side, so that neither outgrows float16
    share = float(values[:rank].square().sum() / values.square().sum()) if energy else 1.0
    new_down = (root[:, None] * v[:rank]) @ right.T
    return left @ (u[:, :rank] * root), new_down.reshape(-1, *down.shape[1:]), share, energy


def _refuse_dora(lora: LoraFile) -> None:
    doras = [name for name, module in lora.modules.items() if module.is_dora]
    if doras:
        raise ModelError(
            f"LoRA {lora.path}: {some(doras)} are DoRA, whose change depends on the base model's weights; "
            "expected LoRA, LoCon, LoHa or LoKr: use the file as it is"
        )


def _metadata(loras: Sequence[LoraFile], *, name: str, ranks: Counter[int]) -> dict[str, str]:
    """The first file's base model, all triggers, the new name and rank; training's own is dropped."""
    first = loras[0].metadata
    metadata = {key: first[key] for key in _BASE_KEYS if key in first}
    metadata |= {
        k: v for k, v in first.items() if k.startswith("modelspec.") and "hash" not in k and k != _TRIGGER
    }
    size = str(next(iter(ranks))) if len(ranks) == 1 else "Dynamic"  # kohya's word for ranks that differ
    metadata |= dict.fromkeys(_TITLES, name)
    metadata |= {"ss_network_module": "networks.lora", "ss_network_dim": size, "ss_network_alpha": size}
    triggers = dict.fromkeys(lora.metadata[_TRIGGER] for lora in loras if lora.metadata.get(_TRIGGER))
    return metadata | ({_TRIGGER: ", ".join(triggers)} if triggers else {})
