"""LoRA layers for training: what peft's compute, by fewer and faster operations.

peft says W x + s B (A x) in two chains of operations that autograd, autocast and casts to float32 and back go
through one by one. Here it is one operation with its own gradients: thin products are added in place, nothing
is scaled over a whole activation, 1x1 convolutions are products, and products in float32 run on oneDNN.

An untrained layer (B = 0) says to the bit what a disabled one says. In float32 on a CPU that is what the base
says but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import torch
from peft.tuners.lora import Conv2d, Linear
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.lora_kinds import ADAPTER

# oneDNN's product of dense matrices, in place of MKL's, which torch asks for float32 and which uses no
# AVX-512 on CPUs that are not Intel's: 214 GFLOP/s against 96 on an EPYC (docs/log.md).
_HAS_MKL = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
ONE_DNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _HAS_MKL else None


class FusedLinear(Linear):  # type: ignore[misc]  # peft has no types
    """peft's LoRA beside a Linear."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As peft's, of x [..., in]."""
        dtype = _dtype(self, x)
        if dtype is None:
            return cast(Tensor, super().forward(x, *args, **kwargs))
        return _said(self, x.to(dtype))


class FusedConv2d(Conv2d):  # type: ignore[misc]
    """peft's LoRA beside a convolution: a 1x1 kernel is a Linear over channels, larger ones stay peft's."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As peft's, of x [B, in, H, W]."""
        base, dtype = self.base_layer, _dtype(self, x)
        if dtype is None or not base.kernel_size == base.stride == (1, 1) or base.padding != (0, 0):
            return cast(Tensor, super().forward(x, *args, **kwargs))
        return _said(self, x.to(dtype).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


FUSED: Mapping[type[nn.Module], type[nn.Module]] = MappingProxyType(
    {nn.Linear: FusedLinear, nn.Conv2d: FusedConv2d}
)
"""A layer -> its LoRA, for peft's table of further layers."""


def _dtype(layer: Any, x: Tensor) -> torch.dtype | None:
    """What to compute in: autocast's, or float32 where all is float32; None for any other mixture."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype if x.dtype == layer.base_layer.weight.dtype == torch.float32 else None


def _said(layer: Any, x: Tensor) -> Tensor:
    """[..., out], what a layer says to x [..., in], in the dtype of x."""
    base = layer.base_layer
    weight, bias = base.weight.flatten(1).to(x.dtype), None if base.bias is None else base.bias.to(x.dtype)
    rows = x.reshape(-1, x.shape[-1]).contiguous()  # of a slice a product would be slow
    if layer.disable_adapters:
        # oneDNN's bare product knows no gradient.
        graph = torch.is_grad_enabled() and rows.requires_grad
        said = (functional.linear if graph else _linear)(rows, weight, bias)
    else:
        down, up = (part[ADAPTER].weight.flatten(1).to(x.dtype) for part in (layer.lora_A, layer.lora_B))
        said = _Changed.apply(rows, weight, bias, down, up, layer.scaling[ADAPTER])
    return said.view(*x.shape[:-1], -1)


class _Changed(torch.autograd.Function):
    """x W^T + bias + s (x A^T) B^T; x [N, in], W [out, in] and bias frozen, A [rank, in], B [out, rank]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        hidden = _linear(x, down)  # [N, rank]
        ctx.save_for_backward(x, hidden, weight, down, up)
        ctx.scale = scale
        return _linear(x, weight, bias).addmm_(hidden, up.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, weight, down, up = ctx.saved_tensors
        grad = grad.contiguous()
        thin = _product(grad, up * ctx.scale)  # [N, rank]
        grad_up = _product(hidden.t(), grad).t() * ctx.scale
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _product(grad, weight).addmm_(thin, down)
        return grad_x, None, None, _product(thin.t(), x), grad_up, None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias for x [N, in] and W [out, in]."""
    if ONE_DNN is not None and x.dtype == torch.float32 and x.device.type == "cpu":
        return cast(Tensor, ONE_DNN(x, weight, bias, "none", [], ""))
    return functional.linear(x, weight, bias)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a [n, k] times b [k, m]."""
    return _linear(a, b.t())
