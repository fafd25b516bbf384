"""The progress line of a training: step, loss, images/s, time left."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SMOOTHING = 0.95  # one batch's loss says little: most of its spread is the timestep drawn


class TrainProgress:
    """A rich progress bar on stderr; with `shown=False` it only keeps the smoothed loss."""

    def __init__(self, title: str, *, num_steps: int, done: int, batch: int, shown: bool) -> None:
        self.loss: float | None = None
        self._batch = batch
        self._images, self._seconds = 0, 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}{task.fields[judged]}  {task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task(title, total=num_steps, completed=done, loss="-", rate="-", judged="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step: int, loss: float, seconds: float) -> None:
        """`step` steps are done; the last one had this loss and took this long."""
        self.loss = loss if self.loss is None else _SMOOTHING * self.loss + (1.0 - _SMOOTHING) * loss
        self._images += self._batch
        self._seconds += seconds
        rate = f"{self._images / self._seconds:.1f}" if self._seconds > 0 else "-"
        self._bar.update(self._task, completed=step, loss=f"{self.loss:.4f}", rate=rate)

    def judged(self, loss: float, distance: float | None) -> None:
        """The held-out images had this loss and, where they were rendered, this distance."""
        rendered = "" if distance is None else f", distance {distance:.4f}"
        self._bar.update(self._task, judged=f"  held out {loss:.4f}{rendered}")
