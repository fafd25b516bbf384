"""The optimiser of the joint training: Muon for matrices, AdamW for everything else.

Muon (Jordan et al. 2024, torch.optim.Muon) replaces a matrix's momentum by the nearest orthogonal matrix. A
convolution's kernel counts as the matrix [out, kh * kw * in]. With steps scaled to AdamW's size (Liu et al.
2025, eq. 4) both parts share one rate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

SMALLEST_SIDE = 16  # of a matrix worth orthogonalising
LOOKUPS_AND_ENDS = (
    "token_embedding",
    "position_embedding",
    "conv_in",
    "conv_out",
)  # not maps between features


class MatrixAdam:
    """Steps all of `named` at one rate; the gradients of what AdamW takes are clipped to norm 1."""

    def __init__(self, named: list[tuple[str, Parameter]], *, lr: float) -> None:
        self.weights = [p for _, p in named]
        self._matrices = [p for name, p in named if _is_matrix(name, p)]
        chosen = {id(p) for p in self._matrices}
        self._rest = [p for p in self.weights if id(p) not in chosen]
        self._flat = [
            Parameter(_as_matrix(p.data)) for p in self._matrices
        ]  # views: a step moves the weights
        self._muon = torch.optim.Muon(
            self._flat, lr=lr, weight_decay=1e-2, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self._adam = torch.optim.AdamW(self._rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def step(self, rate: float) -> None:
        for optimizer in (self._muon, self._adam):
            for group in optimizer.param_groups:
                group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(self._rest, 1.0)
        for flat, p in zip(self._flat, self._matrices, strict=True):
            flat.grad = None if p.grad is None else _as_matrix(p.grad)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
        for group in self._adam.param_groups:
            group["fused"] = True


def _is_matrix(name: str, p: Parameter) -> bool:
    """Whether a weight maps features to features, and is large enough."""
    if p.ndim < 2 or any(part in LOOKUPS_AND_ENDS for part in name.split(".")):
        return False
    return min(len(p), p.numel() // len(p)) >= SMALLEST_SIDE


def _as_matrix(x: Tensor) -> Tensor:
    """[out, ...] as [out, rest]: a view when convolutions are channels-last in memory."""
    return x if x.ndim == 2 else x.permute(0, 2, 3, 1).flatten(1)
