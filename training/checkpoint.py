"""Checkpoints: all that a training needs to go on as if it had never stopped, one file, whole or not at all.

The order of the images and the random numbers are functions of (seed, step) (`training.schedule`), so the
step stands for both; weights and the optimizer's moments are stored in float32, exactly.
"""

from __future__ import annotations

import io
import logging
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.files import write_bytes
from training.loop import Trainer

log = logging.getLogger(__name__)

VERSION = 2


@dataclass(frozen=True)
class Saved:
    """A checkpoint in memory."""

    digest: str  # of dataset, settings and model: what the training is of
    step: int
    seconds: float  # spent on steps so far
    precision: str
    trained: dict[str, torch.Tensor]
    optimizer: dict[str, Any]


def save(path: Path, trainer: Trainer, *, digest: str, seconds: float) -> None:
    """Write the trainer's state to `path`. Raises `OutputError` when the system refuses."""
    state = {
        "version": VERSION,
        "digest": digest,
        "step": trainer.step,
        "seconds": seconds,
        "precision": trainer.precision,
        "trained": trainer.trained.state(),
        "optimizer": trainer.optimizer.state_dict(),
    }
    # By way of memory: torch's own file writer turns a full disk into a RuntimeError without its cause.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


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
        fields = {name: state[name] for name in Saved.__dataclass_fields__}
    except (
        OSError,
        RuntimeError,
        EOFError,
        KeyError,
        TypeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        log.warning("%s: not a checkpoint of this program (%s); training starts afresh", path, error)
        return None
    return Saved(**fields)


def restore(trainer: Trainer, saved: Saved) -> None:
    """Put a checkpoint's weights, optimizer state and step into a trainer built with the same settings."""
    trainer.trained.load(saved.trained)
    trainer.optimizer.load_state_dict(saved.optimizer)
    trainer.step = saved.step
