"""A run's steps, and what happens between them: judge, keep, checkpoint, sample, show."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from pipeline.errors import DatasetError
from training import checkpoint, sheet
from training.adapters.trained import Job
from training.board import Board
from training.dataset import Dataset
from training.divergence import divergence
from training.example import Example
from training.interrupt import deferred_interrupt
from training.loop import Trainer
from training.material import Material
from training.order import realised
from training.progress import TrainProgress
from training.rendered import distances
from training.validation import Validation, best, validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """Where a training's files lie."""

    folder: Path
    name: str

    @property
    def record(self) -> Path:
        """Written last: where it bears a training's stamp, the other files are that training's too."""
        return self.folder / "training.json"

    @property
    def samples(self) -> Path:
        """The contact sheet."""
        return self.folder / "samples.png"

    @property
    def checkpoint(self) -> Path:
        """Where the next run goes on."""
        return self.folder / "checkpoint.pt"

    def best(self, step: int) -> Path:
        """The weights after `step`, while they are the best by what `train.pick` goes by.

        Those of the last checkpoint's best stay until the next checkpoint: a run that goes on from there may
        judge otherwise, where its numbers are not the same to the bit.
        """
        return self.folder / f"best-{step:06d}.pt"

    def drop_best_but(self, step: int | None) -> None:
        """Remove the weights that were the best before."""
        for path in self.folder.glob("best-*.pt"):
            if step is None or path != self.best(step):
                path.unlink()

    @property
    def cache(self) -> Path:
        """Latents and text embeddings."""
        return self.folder / "cache.safetensors"

    @property
    def kept(self) -> Path:
        """The folder of LoRAs kept on the way."""
        return self.folder / "checkpoints"


@dataclass
class Run:
    """One training under way."""

    data: Dataset  # whole: what is exported and sampled
    results: Results
    base: Path  # the folder or file of the model
    digest: str
    trainer: Trainer
    held_out: Material | None
    to_render: tuple[Example, ...] = ()  # of what is held out
    seconds: float = 0.0
    history: list[Validation] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of each step
    saved_step: int = 0  # of the checkpoint on disk

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.trainer.workers.leads


def take_steps(run: Run, *, progress: bool) -> None:
    """Take the steps that are left."""
    trainer, settings = run.trainer, run.data.file.train
    bar = TrainProgress(
        f"training {run.data.file.name}",
        num_steps=settings.steps,
        done=trainer.step,
        batch=settings.step_images,
        shown=progress and run.leads,
    )
    with bar, deferred_interrupt() as asked, _board(run) as board:
        while trainer.step < settings.steps:
            loss, spent = _step(run)
            run.seconds += spent
            run.losses.append(loss)
            told = divergence(run.losses, images=settings.step_images)
            if run.leads and told is not None:
                log.warning("step %d: %s", trainer.step, told)
            bar.update(trainer.step, loss, spent)
            board.step(trainer.step, loss, trainer.rates)
            stop = trainer.workers.any(asked.is_set(), trainer.device)
            _look_back(run, bar, board)
            done = trainer.step == settings.steps
            if run.leads and (done or stop or trainer.step % settings.checkpoint_every == 0):
                _save(run)
            if stop and not done:
                raise KeyboardInterrupt
            if settings.sample_every and trainer.step % settings.sample_every == 0 and not done:
                _sample(run, board)


def _step(run: Run) -> tuple[float, float]:
    """One step; where it cannot be taken, what is left is said."""
    try:
        return run.trainer.timed_step()
    except DatasetError as error:
        fault = str(error)
    except torch.OutOfMemoryError:
        fault = (
            f"train.batch: step {run.trainer.step + 1} does not fit into the device's memory; set "
            "gradient_checkpointing = true, or a smaller batch (and accumulate more of them)"
        )
    saved = run.results.checkpoint
    left = f"{saved} is of step {run.saved_step} and intact" if run.saved_step else "nothing was saved yet"
    raise DatasetError(f"{fault}; {left}")


def _save(run: Run) -> None:
    checkpoint.save(
        run.results.checkpoint,
        run.trainer,
        digest=run.digest,
        seconds=run.seconds,
        history=run.history,
        losses=run.losses,
    )
    run.saved_step = run.trainer.step
    leader = best(run.history, run.data.file.train.pick)
    run.results.drop_best_but(None if leader is None else leader.step)


def _look_back(run: Run, bar: TrainProgress, board: Board) -> None:
    """Judge what was learned, and keep it, where it is time to."""
    trainer, settings = run.trainer, run.data.file.train
    if run.held_out is not None and settings.validates_at(trainer.step):
        judged = validate(trainer, run.held_out)
        if run.to_render:
            judged = replace(judged, distances=_rendered_distances(run))
        run.history.append(judged)
        bar.judged(judged.mean, judged.distance)
        board.judged(trainer.step, "validation", judged.losses)
        board.judged(trainer.step, "distance", judged.distances)
        if run.leads and best(run.history, settings.pick) is judged:
            with trainer.result():
                checkpoint.save_best(run.results.best(trainer.step), trainer, digest=run.digest)
    if run.leads and settings.keep_every and trainer.step % settings.keep_every == 0:
        mark = f"-{trainer.step:06d}"
        with trainer.result():
            kept = Job(run.results.kept, run.data, run.base, stamp=run.digest, mark=mark, step=trainer.step)
            trainer.trained.export(kept)


def _rendered_distances(run: Run) -> dict[str, float]:
    """How far the held-out images are from what they should be when they are rendered now, by trigger."""
    with run.trainer.result():
        return distances(
            run.trainer.model, run.to_render, run.data.file.concept, seed=run.data.file.train.seed
        )


def _sample(run: Run, board: Board) -> None:
    """Sample images as they are now."""
    picture = run.results.folder / "samples" / f"step_{run.trainer.step:06d}.png"
    if run.leads:
        with run.trainer.result():
            sheet.write_sheet(run.trainer.trained, run.data, picture)
        board.samples(run.trainer.step, picture)
    run.trainer.workers.wait()


@contextlib.contextmanager
def _board(run: Run) -> Iterator[Board]:
    """TensorBoard's files, or a board that forgets all."""
    wanted = run.data.file.train.tensorboard and run.leads
    board = Board(run.results.folder / "tensorboard" if wanted else None, step=run.trainer.step)
    try:
        yield board
    finally:
        board.close()


def log_exposure(run: Run) -> None:
    """Say how often the images were shown, concept by concept."""
    trainer = run.trainer
    material = trainer.material
    shown = realised(trainer.order, len(material.captions), trainer.step * trainer.settings.step_images)
    for index, concept in enumerate(run.data.file.concept):
        times = [n for n, of in zip(shown, material.concepts, strict=True) if of == index]
        log.info(
            "'%s': %d exposures of %d images, %d to %d each",
            concept.trigger, sum(times), len(times), min(times), max(times),
        )  # fmt: skip
