"""TensorBoard: loss, learning rates, validation and samples, for those who ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DatasetError
from pipeline.files import writing
from pipeline.image import read_png


def check_tensorboard() -> None:
    """Raise `DatasetError` unless the package is there; asked before a model is loaded."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise DatasetError(
            "train.tensorboard: the package tensorboard is not installed; pip install 'lookdev[train]', "
            "or take tensorboard out"
        ) from None


class Board:
    """Writes event files under a folder, or nothing where that is None.

    What an interrupted run wrote beyond `step` is taken back.
    """

    def __init__(self, folder: Path | None, *, step: int) -> None:
        self._folder = folder
        self._writer: Any = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            with writing(folder):
                self._writer = SummaryWriter(log_dir=str(folder), purge_step=step + 1)

    def step(self, step: int, loss: float, rates: Mapping[str, float]) -> None:
        """One step's loss and the learning rate of each role."""
        if self._writer is None:
            return
        self._writer.add_scalar("loss", loss, step)
        for role, rate in rates.items():
            self._writer.add_scalar(f"lr/{role}", rate, step)

    def judged(self, step: int, score: str, values: Mapping[str, float]) -> None:
        """A score of the held-out images, concept by concept."""
        for trigger, value in values.items() if self._writer is not None else ():
            self._writer.add_scalar(f"{score}/{trigger}", value, step)

    def samples(self, step: int, sheet: Path) -> None:
        """A contact sheet, PNG."""
        if self._writer is not None:
            self._writer.add_image("samples", read_png(sheet), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left. Raises `OutputError`."""
        if self._writer is not None and self._folder is not None:
            with writing(self._folder):
                self._writer.close()
