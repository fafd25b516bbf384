"""The whole UNet, and the text encoders where they have a rate (DreamBooth, Ruiz et al. 2022)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models import Model
from pipeline.models.save_model import save_model
from pipeline.models.save_original import check_original, save_original
from training import export
from training.adapters.trained import Job, Role
from training.schema import Concept, TrainSettings

_TABLES = "embeddings."  # of tokens and positions: only a few of them ever see a gradient


@dataclass(frozen=True)
class Full:
    """A model's own weights, and the base's: what they were before the first step."""

    model: Model
    named: Mapping[str, nn.Parameter]  # "unet.<path>", "text_encoder.<path>", "text_encoder_2.<path>"
    base: Mapping[str, Tensor]
    settings: TrainSettings

    @property
    def parameters(self) -> Mapping[Role, Sequence[nn.Parameter]]:
        """See `Trained`."""
        roles: dict[Role, list[nn.Parameter]] = {}
        for name, parameter in self.named.items():
            roles.setdefault("unet" if name.startswith("unet.") else "text", []).append(parameter)
        return roles

    def state(self) -> dict[str, Tensor]:
        """See `Trained`."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self.named.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Trained`."""
        odd = sorted(set(self.named) ^ set(state))
        odd += [name for name in self.named if name in state and self.named[name].shape != state[name].shape]
        if odd:
            raise ModelError(
                f"weights: {len(odd)} do not fit the networks being trained, first {', '.join(odd[:3])}; "
                "model or text-encoder setting changed since the checkpoint: start afresh"
            )
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(state[name])

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """See `Trained`. The parameters stay the same objects; they are lent the base's numbers."""
        learned = {name: parameter.data for name, parameter in self.named.items()}
        for name, parameter in self.named.items():
            parameter.data = self.base[name].to(parameter.device)
        self.model.said.clear()
        try:
            yield
        finally:
            for name, parameter in self.named.items():
                parameter.data = learned[name]
            self.model.said.clear()

    def export(self, job: Job) -> tuple[Path, ...]:
        """See `Trained`: a model folder in diffusers' layout, and one file in the original's if asked for."""
        folder = job.folder / job.name
        written: tuple[Path, ...] = ()
        dtype = DTYPES[self.settings.save_dtype]
        if self.settings.single_file:
            written = (folder.with_name(f"{job.name}.safetensors"),)
            save_original(
                self.model, written[0], dtype=dtype, metadata=export.model_metadata(self.model, job)
            )
        save_model(self.model, folder, dtype=dtype, base=job.base, note=export.model_note(job))
        return (*written, folder)


def build(model: Model, settings: TrainSettings, concepts: Sequence[Concept]) -> Full:
    """Let the model's own weights learn, in float32; a copy of them is kept.

    Raises ModelError where one file is asked for and the family has no such layout.
    """
    if settings.single_file:
        check_original(model.family)
    roots = {"unet": model.unet}
    if settings.text_lr > 0:
        encoders = {"text_encoder": model.text_encoder, "text_encoder_2": model.text_encoder_2}
        roots |= {root: encoder for root, encoder in encoders.items() if encoder is not None}
    named = {
        f"{root}.{path}": parameter
        for root, part in roots.items()
        for path, parameter in part.named_parameters()
        if root == "unet" or _TABLES not in path
    }
    for parameter in named.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    # The base's prediction is asked for in every step with a prior weight, else for the sample sheet alone.
    place = model.device if settings.prior_weight > 0 else torch.device("cpu")
    base = {name: _kept(parameter, place) for name, parameter in named.items()}
    return Full(model, named, base, settings)


def _kept(parameter: nn.Parameter, place: torch.device) -> Tensor:
    """A copy; kernels as the loop lays them out, since other layouts round in other places."""
    copied = parameter.detach().to(place, copy=True)
    return copied.contiguous(memory_format=torch.channels_last) if copied.ndim == 4 else copied


DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
