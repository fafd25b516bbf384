"""Kinds of low-rank change that peft can train, and how each is written to a file.

Names in files are LyCORIS' and kohya's (`lora_keys.py`); what the tensors do is in `lora_change.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from peft import LoHaConfig, LoKrConfig, LoraConfig
from peft.tuners.loha.layer import LoHaLayer
from peft.tuners.lokr.layer import LoKrLayer
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from pipeline.models.lora_keys import DOWN, UP

ADAPTER = "lookdev"
LAYERS = (LoraLayer, LoHaLayer, LoKrLayer)


@dataclass(frozen=True)
class Ranks:
    """Rank and alpha of the layers at `targets`, and of those that have others (expressions of paths)."""

    rank: int
    alpha: float
    targets: Sequence[str]
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]


@dataclass(frozen=True)
class LoraKind:
    """One kind: `config` is peft's, the rest is what its files say of themselves (`ss_network_*`)."""

    config: Callable[[Ranks], Any]
    module: str
    args: Mapping[str, str]


def _lora(ranks: Ranks, *, dora: bool = False) -> LoraConfig:
    return LoraConfig(
        r=ranks.rank,
        lora_alpha=ranks.alpha,
        target_modules=list(ranks.targets),
        rank_pattern=dict(ranks.rank_pattern),
        alpha_pattern=dict(ranks.alpha_pattern),
        init_lora_weights=True,
        use_dora=dora,
    )


def _lycoris(config: Any) -> Callable[[Ranks], Any]:
    def make(ranks: Ranks) -> Any:
        return config(
            r=ranks.rank,
            alpha=ranks.alpha,
            target_modules=list(ranks.targets),
            rank_pattern=dict(ranks.rank_pattern),
            alpha_pattern=dict(ranks.alpha_pattern),
            init_weights=True,
        )

    return make


LORA_KINDS: Mapping[str, LoraKind] = MappingProxyType(
    {
        "lora": LoraKind(_lora, "networks.lora", {}),
        "dora": LoraKind(
            lambda ranks: _lora(ranks, dora=True),
            "lycoris.kohya",
            {"algo": "lora", "dora_wd": "True", "wd_on_output": "True"},
        ),
        "loha": LoraKind(_lycoris(LoHaConfig), "lycoris.kohya", {"algo": "loha"}),
        "lokr": LoraKind(_lycoris(LoKrConfig), "lycoris.kohya", {"algo": "lokr", "factor": "-1"}),
    }
)


def parts_of(layer: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """(suffix of the key in a file, parameter) of an injected layer, in a fixed order."""
    if isinstance(layer, LoraLayer):
        yield DOWN, layer.lora_A[ADAPTER].weight
        yield UP, layer.lora_B[ADAPTER].weight
        if ADAPTER in layer.lora_magnitude_vector:
            yield ".dora_scale", layer.lora_magnitude_vector[ADAPTER].weight
        return
    for part in layer.adapter_layer_names:
        if ADAPTER in getattr(layer, part):
            yield f".{part}", getattr(layer, part)[ADAPTER]


def alpha_of(layer: Any) -> float:
    """Alpha of an injected layer."""
    return float((layer.lora_alpha if isinstance(layer, LoraLayer) else layer.alpha)[ADAPTER])


def in_file(suffix: str, tensor: Tensor) -> Tensor:
    """A parameter as files have it: peft's DoRA vector is [out] or [1, out, 1, 1], theirs [out, 1, ...]."""
    if suffix != ".dora_scale":
        return tensor
    return tensor.reshape(-1, 1) if tensor.ndim == 1 else tensor.transpose(0, 1)


def out_of_file(suffix: str, tensor: Tensor, like: Tensor) -> Tensor:
    """`in_file` the other way."""
    return tensor.reshape(like.shape) if suffix == ".dora_scale" else tensor


def settle(layer: Any) -> None:
    """Make an injected layer what its file will be.

    A LoKr of two whole factors gets the scale 1 that every reader gives it; LyCORIS trains it so too. In
    training mode peft leaves a LoHa or LoKr out where `torch.rand(1) > 0.0` does not hold, which is once in
    2 ** 24 times: a dropout below 0 keeps it always.
    """
    if not isinstance(layer, LoraLayer):
        layer.module_dropout[ADAPTER] = -1.0
    if isinstance(layer, LoKrLayer) and ADAPTER in layer.lokr_w1 and ADAPTER in layer.lokr_w2:
        layer.alpha[ADAPTER] = layer.r[ADAPTER]
        layer.scaling[ADAPTER] = 1.0
