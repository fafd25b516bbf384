"""Optimizers by name, and the learning rate's groups."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from pipeline.errors import DatasetError
from training.schema import TrainSettings

Groups = Iterable[dict[str, Any]]  # "params", and "base_lr": the rate before the schedule


def _adamw(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def _adamw8bit(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = importlib.import_module("bitsandbytes").optim.AdamW8bit(
        groups, lr=settings.lr, weight_decay=settings.weight_decay
    )
    return made


def _prodigy(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    """Mishchenko and Defazio 2023; its lr multiplies the rate that it finds, 1 is right."""
    made: torch.optim.Optimizer = importlib.import_module("prodigyopt").Prodigy(
        groups,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        decouple=True,
        use_bias_correction=True,
        safeguard_warmup=True,
    )
    return made


def _schedulefree(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    """Defazio et al. 2024. The warm-up is the loop's."""
    made: Any = importlib.import_module("schedulefree").AdamWScheduleFree(
        groups, lr=settings.lr, weight_decay=settings.weight_decay
    )
    made.train()
    optimizer: torch.optim.Optimizer = made
    return optimizer


_BUILDERS: Mapping[str, Callable[[Groups, TrainSettings], torch.optim.Optimizer]] = MappingProxyType(
    {"adamw": _adamw, "adamw8bit": _adamw8bit, "prodigy": _prodigy, "schedulefree": _schedulefree}
)
_PACKAGES = MappingProxyType(
    {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt", "schedulefree": "schedulefree"}
)


def check_optimizer(name: str, device: torch.device) -> None:
    """Raise `DatasetError` unless this optimizer can run here; asked before a model is loaded."""
    if name == "adamw8bit" and device.type != "cuda":
        raise DatasetError(
            "train.optimizer: 'adamw8bit' needs a CUDA GPU, this is a CPU; "
            "choose adamw, prodigy or schedulefree"
        )
    package = _PACKAGES.get(name)
    if package is not None:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise DatasetError(
                f"train.optimizer: '{name}' needs the package {package} ({error}); "
                "pip install 'lookdev[train]', or choose adamw"
            ) from None


def build_optimizer(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings name."""
    return _BUILDERS[settings.optimizer](groups, settings)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Each group's rate for the next step: its own base rate times the schedule's factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
