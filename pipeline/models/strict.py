"""A network from a config and weights, nothing missing, nothing left over, nothing broken.

diffusers' own loaders leave missing weights random and only log it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import ModelError


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, as stored, on the CPU. Raises ModelError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        reason = str(error).strip() or type(error).__name__
        raise ModelError(f"{path}: cannot be loaded ({reason[:160]}); copy the file again") from None


def fill(module: nn.Module, state: Mapping[str, torch.Tensor], *, dtype: torch.dtype, where: str) -> None:
    """Put `state` into `module` (which may be on torch's meta device), each weight cast to `dtype`.

    Raises ModelError that names `where` and a key: missing, left over, of another shape, nan or infinite.
    """
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in state]
    if missing:
        raise ModelError(f"{where}: has no {_first(missing)}; expected every weight: copy the file again")
    unknown = [key for key in state if key not in wanted]
    if unknown:
        raise ModelError(f"{where}: holds {_first(unknown)}, which this network has not; check the file")
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            raise ModelError(
                f"{where}: {key} is {_sides(tensor)}; expected {_sides(wanted[key])}: made for another model"
            )
        if not torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float()).all():
            raise ModelError(f"{where}: {key} holds nan or infinity; the file is broken: copy it again")
    module.load_state_dict({key: tensor.to(dtype) for key, tensor in state.items()}, assign=True)


def placed(module: Any, device: str | torch.device, dtype: torch.dtype) -> Any:
    """The module ready to compute: on `device`, in `dtype`, in eval mode, frozen."""
    # diffusers' own `to` warns about casting even where nothing is kept in float32
    nn.Module.to(module, device=device, dtype=dtype)
    if dtype != torch.float32:  # bfloat16 on a CPU: ControlNet 1.5x; float32 gains nothing
        nn.Module.to(module, memory_format=torch.channels_last)
    return module.eval().requires_grad_(False)


def _first(keys: list[str]) -> str:
    more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
    return f"{keys[0]}{more}"


def _sides(tensor: torch.Tensor) -> str:
    return "[" + ", ".join(str(side) for side in tensor.shape) + "]"
