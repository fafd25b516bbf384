"""Weights on disk -> networks, strictly: every part is checked by names and shapes before any weight is read.

diffusers' own loader leaves missing weights random and only logs it; transformers' does the same across the
versions that renamed CLIP's modules. Here a network is built on torch's meta device, compared with what the
file's header says, and filled afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.find import PICKLES, header_of
from pipeline.models.header import Header
from pipeline.models.names import bare_text_name
from pipeline.models.original import State
from pipeline.models.pickled import DTYPES, pickle_tensors

_POSITIONS = "position_ids"  # a buffer that old versions saved; it holds 0, 1, 2, ...


@dataclass(frozen=True)
class WeightFile:
    """The tensors of one file whose names start with `prefix`, renamed by `rename`."""

    path: Path
    rename: Callable[[Mapping[str, torch.Tensor]], State] = dict
    prefix: str = ""
    allow_pickle: bool = False

    def shapes(self) -> State:
        """The renamed tensors on the meta device; only the header is read. Raises ModelError."""
        header = header_of(self.path, allow_pickle=self.allow_pickle)
        return self.rename({name: _meta(header, name) for name in header.tensors if self._is_ours(name)})

    def read(self) -> State:
        """The renamed tensors on the CPU. Raises ModelError."""
        if self.path.suffix.lower() in PICKLES:
            state = pickle_tensors(self.path)
            return self.rename({name: state[name] for name in state if self._is_ours(name)})
        try:
            with safe_open(self.path, framework="pt") as file:
                return self.rename({n: file.get_tensor(n) for n in file.keys() if self._is_ours(n)})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{self.path}: cannot be read ({error}); copy the file again") from error

    def _is_ours(self, name: str) -> bool:
        return name.startswith(self.prefix) and not name.endswith(_POSITIONS)


def _meta(header: Header, name: str) -> torch.Tensor:
    entry = header.tensors[name]
    dtype = DTYPES.get(entry.dtype)
    if dtype is None:
        raise ModelError(f"{header.path}: '{name}' is of dtype {entry.dtype}, which torch does not have")
    return torch.empty(entry.shape, dtype=dtype, device="meta")


@dataclass(frozen=True)
class Part:
    """One network and where its weights are. `title` is what messages call it: "UNet", "VAE" ..."""

    title: str
    build: Callable[[], nn.Module]
    weights: WeightFile

    def prepare(self) -> nn.Module:
        """The network on the meta device, checked against the file. Raises ModelError."""
        where = f"{self.weights.path}: {self.title}"
        try:
            with torch.device("meta"):
                module = self.build()
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{where}: its config makes no network ({reason[:160]}); copy it again"
            ) from error
        ours, theirs = module.state_dict(), _matched(module, self._shapes(where))
        missing = [name for name in ours if name not in theirs]
        if missing:
            raise ModelError(
                f"{where}: {len(missing)} of {len(ours)} weights are missing, first {missing[0]}; expected "
                "a whole file of this family: copy it again"
            )
        strange = [name for name in theirs if name not in ours]
        if strange:
            raise ModelError(
                f"{where}: {len(strange)} weights have no place, first {strange[0]}; it was made for another "
                "network"
            )
        for name, tensor in ours.items():
            if tensor.shape != theirs[name].shape:
                raise ModelError(
                    f"{where}: {name} is {list(theirs[name].shape)}, expected {list(tensor.shape)}"
                    f"{_guess(name, theirs[name].shape)}"
                )
        return module

    def _shapes(self, where: str) -> State:
        try:
            return self.weights.shapes()
        except (KeyError, IndexError, AttributeError, TypeError) as error:  # a converter that misses a key
            raise ModelError(
                f"{where}: has no {error}, or its names are of no known layout; expected a whole file of "
                "this family: copy it again"
            ) from error

    def fill(self, module: nn.Module, device: str | torch.device, dtype: torch.dtype) -> Any:
        """Read the weights into a prepared network: in eval mode, frozen, on `device` in `dtype`."""
        positions = {name: buffer for name, buffer in module.named_buffers() if name.endswith(_POSITIONS)}
        nn.Module.to(module, dtype=dtype)  # diffusers' own `to` warns where nothing is kept in float32
        module.to_empty(device=device)
        for name, buffer in positions.items():
            owner = module.get_submodule(name.rpartition(".")[0])
            numbers = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape).clone()
            owner.register_buffer(_POSITIONS, numbers, persistent=False)
        state = _matched(module, self.weights.read())
        for name, tensor in state.items():
            if not torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float()).all():
                raise ModelError(
                    f"{self.weights.path}: {self.title}: {name} holds nan or infinity; the file is broken: "
                    "copy it again"
                )
        module.load_state_dict(state)  # copies and casts
        return module.eval().requires_grad_(False)


def weights_in(folder: Path, stem: str, allow_pickle: bool) -> Path:
    """The weights of a part's folder: as its maker saved them, or the half-precision copy."""
    for end in (".safetensors", ".fp16.safetensors"):
        if (folder / f"{stem}{end}").is_file():
            return folder / f"{stem}{end}"
    pickles = [file for file in sorted(folder.glob("*")) if file.suffix in PICKLES]
    if pickles and allow_pickle:
        return pickles[0]
    advice = "expected a model folder in diffusers layout with safetensors weights"
    if pickles:
        advice = f"only {pickles[0].name}, a pickle: set allow_pickle = true if you trust its maker"
    raise ModelError(f"{folder.parent}: has no {folder.name}/{stem}.safetensors; {advice}")


def _matched(module: nn.Module, state: Mapping[str, torch.Tensor]) -> State:
    """The state under the module's own names: transformers' versions differ in an inner `text_model.`."""
    ours = {bare_text_name(name): name for name in module.state_dict()}
    return {ours.get(bare_text_name(name), name): tensor for name, tensor in state.items()}


def _guess(name: str, shape: torch.Size) -> str:
    """What a wrong shape most often means."""
    if name == "conv_in.weight" and shape[1] == 9:
        return ": an inpainting model, which img2img cannot use; take the plain one"
    return "; it was made for another network"
