"""What one module of a LoRA file does to a weight: LoRA, LoCon, LoHa, LoKr, each plain or as DoRA.

A weight is W [out, in] or [out, in, k, k]; a change is float32 in the same shape. With scale = alpha / rank:

* LoRA (Hu et al. 2021): scale * up @ down; for convolutions (LoCon) down has the kernel, or with `mid` (a CP
  decomposition) down and up are 1x1 and mid has it.
* LoHa (Hyeon-Woo et al. 2021, FedPara): scale * (w1_a @ w1_b) * (w2_a @ w2_b), element by element.
* LoKr (Edalati et al. 2022, KronA): scale * kron(w1, w2), each whole or itself a product; scale is 1 where
  both are whole, as LyCORIS has it.
* DoRA (Liu et al. 2024): W' = magnitude * (W + change) / norm(W + change), the norm over all but one axis:
  the output's, as the paper and peft have it, or the input's, as LyCORIS first had it; the vector's shape
  says which.

Tucker forms (`hada_t1`, `lokr_t2`, ...) follow LyCORIS: w = t x1 a x2 b.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from pipeline.errors import ModelError

Parts = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class LoraModule:
    """One module of a LoRA file.

    `kind` is "lora", "loha" or "lokr"; `parts` are the tensors as stored, by part name (`lora_keys.py`),
    DoRA's `magnitude` in kohya's shape; `rank` is the inner dimension r; `alpha` is what the file says, or r.
    """

    kind: str
    parts: Parts
    alpha: float
    rank: int

    @property
    def scale(self) -> float:
        """What the product is multiplied with."""
        if self.kind == "lokr" and "lokr_w1" in self.parts and "lokr_w2" in self.parts:
            return 1.0
        return self.alpha / self.rank

    @property
    def is_dora(self) -> bool:
        """Whether the module also sets the weight's magnitude."""
        return "magnitude" in self.parts

    @property
    def shape(self) -> tuple[int, ...]:
        """The changed weight's shape; a kernel that was flattened stays so: [out, in * k * k]."""
        return _SHAPES[self.kind](self.parts)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a weight of this shape can be changed by this module."""
        ours, theirs = _without_point(self.shape), _without_point(shape)
        flat_kernel = self.kind != "lora" and len(ours) == 2 and ours == (shape[0], math.prod(shape[1:]))
        same = ours == theirs or flat_kernel
        return same and (not self.is_dora or self._magnitude_axis(shape) is not None)

    def to(self, device: torch.device) -> LoraModule:
        """The same module with its tensors on another device."""
        return replace(self, parts={name: part.to(device) for name, part in self.parts.items()})

    def delta(self, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """The change before DoRA, float32, in `shape` (default: the module's own)."""
        product = _PRODUCTS[self.kind]({name: part.float() for name, part in self.parts.items()})
        delta: torch.Tensor = (product * self.scale).reshape(self.shape if shape is None else shape)
        return delta

    def change(self, weight: torch.Tensor) -> torch.Tensor:
        """W' - W for a weight W on the parts' device, float32, its shape; `fits` must hold."""
        delta = self.delta(tuple(weight.shape))
        if not self.is_dora:
            return delta
        axis = self._magnitude_axis(tuple(weight.shape))
        assert axis is not None
        moved = weight.float() + delta
        others = [dim for dim in range(moved.ndim) if dim != axis]
        norm = torch.linalg.vector_norm(moved, dim=others, keepdim=True)
        magnitude = self.parts["magnitude"].float().reshape(norm.shape)
        change: torch.Tensor = moved * (magnitude / norm) - weight.float()
        return change

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(up [out, R], down [R, ...]) with up @ down the whole change, exact in real numbers, any kind.

        R is r for LoRA, r * r for LoHa (row- and column-wise Kronecker products), for LoKr the product of
        both factors' ranks. Raises ValueError for DoRA, whose change depends on the weight.
        """
        if self.is_dora:
            raise ValueError("a DoRA's change depends on the weight")
        up, down = _FACTORS[self.kind]({name: part.float() for name, part in self.parts.items()})
        return up * self.scale, down.reshape(down.shape[0], *self.shape[1:])

    def _magnitude_axis(self, shape: tuple[int, ...]) -> int | None:
        vector = self.parts["magnitude"]
        out_first = vector.ndim == 1 or vector.shape[0] != 1 or shape[0] == 1
        if out_first and vector.numel() == shape[0]:
            return 0
        if vector.ndim > 1 and vector.shape[0] == 1 and vector.numel() == shape[1]:
            return 1
        return None


def _without_point(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1x1 convolution's shape as a Linear's: which one a checkpoint has is its export's choice."""
    return shape[:2] if math.prod(shape[2:]) == 1 else shape


def build_module(parts: Parts, *, alpha: float | None, name: str, where: str) -> LoraModule:
    """Check one module's tensors and say what they are. Raises ModelError that names the file and module."""
    kind = _kind(parts)
    if kind is None:
        if "down" in parts or "up" in parts:
            raise ModelError(
                f"{where}: {name} lacks its lora_up or lora_down (lora_B or lora_A) weight; export it again"
            )
        raise ModelError(
            f"{where}: {name} holds {', '.join(sorted(parts))}, no whole LoRA, LoHa or LoKr; export it again"
        )
    if alpha is not None and not math.isfinite(alpha):
        raise ModelError(f"{where}: {name} has an alpha of {alpha}; expected a number: export it again")
    try:
        rank = _rank(kind, parts)
        module = LoraModule(kind=kind, parts=parts, alpha=float(rank) if alpha is None else alpha, rank=rank)
        _check_shapes(module)
    except (RuntimeError, ValueError, IndexError) as error:
        shapes = ", ".join(
            f"{part} {tuple(tensor.shape)}" for part, tensor in parts.items() if part != "alpha"
        )
        raise ModelError(
            f"{where}: {name} has {shapes}, which do not go together; expected down [r, in] and up [out, r] "
            "(or [r, in, k, k] and [out, r, 1, 1]), or the like of LoHa and LoKr"
        ) from error
    return module


def _check_shapes(module: LoraModule) -> None:
    """Multiply the shapes alone. Raises where they do not go together."""
    if module.rank < 1 or not all(part.numel() for part in module.parts.values()):
        raise ValueError("nothing is in it")
    product = _PRODUCTS[module.kind]({name: part.to("meta") for name, part in module.parts.items()})
    if product.numel() != math.prod(module.shape):
        raise ValueError("the product has another shape than its factors say")


def _kind(parts: Parts) -> str | None:
    if {"down", "up"} <= set(parts):
        return "lora"
    if {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= set(parts):
        return "loha"
    if all(
        {whole} <= set(parts) or {f"{whole}_a", f"{whole}_b"} <= set(parts)
        for whole in ("lokr_w1", "lokr_w2")
    ):
        return "lokr"
    return None


def _rank(kind: str, parts: Parts) -> int:
    if kind == "lora":
        return int(parts["down"].shape[0])
    if kind == "loha":
        return int(parts["hada_w1_b"].shape[0])
    for name in ("lokr_w2_b", "lokr_w1_b"):
        if name in parts:
            return int(parts[name].shape[0])
    return max(int(min(parts["lokr_w2"].shape[:2])), 1)


def _flat_product(a: torch.Tensor, b: torch.Tensor, tucker: torch.Tensor | None) -> torch.Tensor:
    """a @ b, or t x1 a x2 b with a [r, out], b [r, in], t [r, r, k, k]."""
    if tucker is None:
        return a @ b
    return torch.einsum("ijkl,jr,ip->prkl", tucker, b, a)


def _lora_product(p: Parts) -> torch.Tensor:
    return p["up"].flatten(1) @ _down(p).flatten(1)


def _down(p: Parts) -> torch.Tensor:
    """down [r, in, ...], with `mid` folded in: 1x1 then k x k is k x k."""
    if "mid" not in p:
        return p["down"]
    return torch.einsum("pqkl,qi->pikl", p["mid"], p["down"].flatten(1))


def _loha_product(p: Parts) -> torch.Tensor:
    first = _flat_product(p["hada_w1_a"], p["hada_w1_b"], p.get("hada_t1"))
    return first * _flat_product(p["hada_w2_a"], p["hada_w2_b"], p.get("hada_t2"))


def _lokr_factor(p: Parts, name: str, tucker: str) -> torch.Tensor:
    if name in p:
        return p[name]
    return _flat_product(p[f"{name}_a"], p[f"{name}_b"], p.get(tucker))


def _lokr_product(p: Parts) -> torch.Tensor:
    first, second = _lokr_factor(p, "lokr_w1", "lokr_t1"), _lokr_factor(p, "lokr_w2", "lokr_t2")
    first = first.reshape(*first.shape, *[1] * (second.ndim - first.ndim))
    return torch.kron(first, second)


def _factor_pair(
    a: torch.Tensor, b: torch.Tensor, tucker: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(left [out, r], right [r, in * k * k]) of `_flat_product`."""
    if tucker is None:
        return a, b
    return a.mT, torch.einsum("ijkl,jr->irkl", tucker, b).flatten(1)


def _lora_factors(p: Parts) -> tuple[torch.Tensor, torch.Tensor]:
    return p["up"].flatten(1), _down(p).flatten(1)


def _loha_factors(p: Parts) -> tuple[torch.Tensor, torch.Tensor]:
    up1, down1 = _factor_pair(p["hada_w1_a"], p["hada_w1_b"], p.get("hada_t1"))
    up2, down2 = _factor_pair(p["hada_w2_a"], p["hada_w2_b"], p.get("hada_t2"))
    up = torch.einsum("oi,oj->oij", up1, up2).flatten(1)
    return up, torch.einsum("ic,jc->ijc", down1, down2).flatten(0, 1)


def _lokr_factors(p: Parts) -> tuple[torch.Tensor, torch.Tensor]:
    up1, down1 = _lokr_pair(p, "lokr_w1", "lokr_t1")
    up2, down2 = _lokr_pair(p, "lokr_w2", "lokr_t2")
    return torch.kron(up1, up2), torch.kron(down1, down2)


def _lokr_pair(p: Parts, name: str, tucker: str) -> tuple[torch.Tensor, torch.Tensor]:
    if name not in p:
        return _factor_pair(p[f"{name}_a"], p[f"{name}_b"], p.get(tucker))
    whole = p[name].flatten(1)
    rows, columns = whole.shape
    return (torch.eye(rows), whole) if rows <= columns else (whole, torch.eye(columns))


def _lora_shape(p: Parts) -> tuple[int, ...]:
    kernel = p["mid"].shape[2:] if "mid" in p else p["down"].shape[2:]
    return (p["up"].shape[0], p["down"].shape[1], *kernel)


def _loha_shape(p: Parts) -> tuple[int, ...]:
    return _product_shape(p["hada_w1_a"], p["hada_w1_b"], p.get("hada_t1"))


def _lokr_shape(p: Parts) -> tuple[int, ...]:
    first, second = _lokr_part_shape(p, "lokr_w1", "lokr_t1"), _lokr_part_shape(p, "lokr_w2", "lokr_t2")
    return (first[0] * second[0], first[1] * second[1], *second[2:])


def _lokr_part_shape(p: Parts, name: str, tucker: str) -> tuple[int, ...]:
    return (
        tuple(p[name].shape) if name in p else _product_shape(p[f"{name}_a"], p[f"{name}_b"], p.get(tucker))
    )


def _product_shape(a: torch.Tensor, b: torch.Tensor, tucker: torch.Tensor | None) -> tuple[int, ...]:
    if tucker is None:
        return a.shape[0], b.shape[1]
    return (a.shape[1], b.shape[1], *tucker.shape[2:])


_PRODUCTS: Mapping[str, Callable[[Parts], torch.Tensor]] = {
    "lora": _lora_product,
    "loha": _loha_product,
    "lokr": _lokr_product,
}
_FACTORS: Mapping[str, Callable[[Parts], tuple[torch.Tensor, torch.Tensor]]] = {
    "lora": _lora_factors,
    "loha": _loha_factors,
    "lokr": _lokr_factors,
}
_SHAPES: Mapping[str, Callable[[Parts], tuple[int, ...]]] = {
    "lora": _lora_shape,
    "loha": _loha_shape,
    "lokr": _lokr_shape,
}
