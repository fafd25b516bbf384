"""Checkpoints: all that a training needs to go on as if it had never stopped, one file, whole or not at all.

The order of the images and the random numbers are functions of (seed, step) (`training.schedule`), so the
step stands for both; weights and the optimizer's moments are stored in float32, exactly.
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from pipeline.errors import DatasetError, OutputError
from pipeline.files import whole_file
from training.loop import Trainer
from training.validation import Validation

log = logging.getLogger(__name__)

VERSION = 4


@dataclass(frozen=True)
class Saved:
    """A checkpoint in memory."""

    digest: str  # of dataset, settings and model: what the training is of
    step: int
    seconds: float  # spent on steps so far
    precision: str
    trained: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: list[torch.Tensor]  # empty without a moving average
    history: list[tuple[int, dict[str, float], dict[str, float]]]  # step; loss and distance by trigger
    losses: list[float]  # of each step


def save(
    path: Path,
    trainer: Trainer,
    *,
    digest: str,
    seconds: float,
    history: Sequence[Validation] = (),
    losses: Sequence[float] = (),
) -> None:
    """Write the trainer's state to `path`.

    Raises `OutputError` when the system refuses, and `DatasetError` for weights that are not finite: then
    what was at `path` before stays.
    """
    trained = trainer.trained.state()
    if not all(bool(torch.isfinite(value).all()) for value in trained.values()):
        raise DatasetError(f"train.lr: the weights are not finite after step {trainer.step}; lower lr")
    saved = Saved(
        digest=digest,
        step=trainer.step,
        seconds=seconds,
        precision=trainer.precision,
        trained=trained,
        optimizer=trainer.optimizer.state_dict(),
        scaler=trainer.scaler.state_dict(),
        average=[] if trainer.average is None else trainer.average.values,
        history=[(each.step, dict(each.losses), dict(each.distances)) for each in history],
        losses=list(losses),
    )
    _write(path, {"version": VERSION, **vars(saved)})


def read(path: Path) -> Saved | None:
    """The checkpoint at `path`, or None where there is none that can be used (said in the log).

    Read with `weights_only`, so a file from elsewhere cannot run code.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] != VERSION:
            raise KeyError(f"version {state['version']}")
        return Saved(**{name: state[name] for name in Saved.__dataclass_fields__})
    except _DAMAGED as error:
        log.warning("%s: not a checkpoint of this program (%s); training starts afresh", path, error)
        return None


def restore(trainer: Trainer, saved: Saved) -> None:
    """Put a checkpoint's weights, optimizer state and step into a trainer built with the same settings."""
    trainer.trained.load(saved.trained)
    trainer.optimizer.load_state_dict(saved.optimizer)
    trainer.scaler.load_state_dict(saved.scaler)
    if trainer.average is not None:
        trainer.average.load(saved.average)
    trainer.step = saved.step


def save_best(path: Path, trainer: Trainer, *, digest: str) -> None:
    """Write the trainer's weights alone, as they are now. Raises `OutputError`."""
    _write(path, {"digest": digest, "step": trainer.step, "trained": trainer.trained.state()})


def read_best(path: Path, *, digest: str, step: int) -> dict[str, torch.Tensor]:
    """The weights that `save_best` wrote after `step`. Raises `OutputError` where they are not there."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if (state["digest"], state["step"]) != (digest, step):
            raise KeyError(f"of step {state['step']}")
        trained: dict[str, torch.Tensor] = state["trained"]
    except _DAMAGED as error:
        raise OutputError(
            f"{path}: the weights of step {step}, the best ones, are not there ({error}); "
            "delete checkpoint.pt beside it to train anew, or set train.pick to 'last'"
        ) from None
    return trained


_DAMAGED = (
    OSError,
    RuntimeError,
    EOFError,
    KeyError,
    TypeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def _write(path: Path, state: dict[str, Any]) -> None:
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        sink: Any = _Sink(file)
        try:
            torch.save(state, sink)
        except RuntimeError as error:  # torch's writer hides why the system refused
            raise sink.refused or error from None


class _Sink:
    """A file for `torch.save` that remembers why a write failed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.refused: OSError | None = None

    def write(self, data: bytes) -> int:
        """As the file's own."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.refused = error
            raise

    def flush(self) -> None:
        """As the file's own."""
        self._file.flush()
