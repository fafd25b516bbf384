"""The heavy half of a training, once its dataset is known to be good: everything here needs torch.

load model -> encode -> [ step, checkpoint, sample ] -> contact sheet -> export
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.models import Model, count_tokens, load_model
from pipeline.output import check_space
from training import checkpoint, export, sheet
from training.adapters import table
from training.adapters.trained import Job
from training.dataset import Dataset, check_captions
from training.interrupt import deferred_interrupt
from training.loop import Trainer, prepare, resolve_precision
from training.progress import TrainProgress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """Where a training's files lie."""

    folder: Path
    name: str

    @property
    def lora(self) -> Path:
        """Written last: where it bears a training's stamp, the other files are that training's too."""
        return self.folder / f"{self.name}.safetensors"

    @property
    def sidecar(self) -> Path:
        """A1111's, beside the LoRA."""
        return self.lora.with_suffix(".json")

    @property
    def samples(self) -> Path:
        """The contact sheet."""
        return self.folder / "samples.png"

    @property
    def checkpoint(self) -> Path:
        """Where the next run goes on."""
        return self.folder / "checkpoint.pt"


def seconds_if_finished(data: Dataset, results: Results, *, digest: str) -> float | None:
    """The seconds that a finished training took; None where steps or files are left to do. Loads no model."""
    if not (results.lora.is_file() and results.sidecar.is_file() and results.samples.is_file()):
        return None
    if export.read_stamp(results.lora) != _stamp(data, digest):
        return None
    saved = checkpoint.read(results.checkpoint)
    if saved is None or saved.digest != digest or saved.step < data.file.train.steps:
        return None
    return saved.seconds


def train(
    data: Dataset,
    model_path: str | Path,
    results: Results,
    *,
    digest: str,
    progress: bool,
    device: str | None,
) -> float:
    """Train, or go on, and write all results; returns the seconds spent on steps, over all runs."""
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(model_path, controls=data.control_kinds, device=place)
    check_captions(
        data,
        count_tokens=lambda text: count_tokens(model, text),
        max_tokens=int(model.tokenizer.model_max_length),
    )
    check_space(results.folder, _needed_bytes(model))
    trainer, seconds = _begin(model, data, results.checkpoint, digest=digest)
    seconds = _take_steps(trainer, data, results, digest=digest, seconds=seconds, progress=progress)
    sheet.write_sheet(trainer.trained, data, results.samples)
    trainer.trained.export(Job(folder=results.folder, dataset=data, stamp=_stamp(data, digest)))
    return seconds


def _stamp(data: Dataset, digest: str) -> str:
    """What all the results are of: the training, and the prompts of its contact sheet."""
    return hashlib.sha256(f"{digest} {json.dumps(data.file.train.samples)}".encode()).hexdigest()


def _needed_bytes(model: Model) -> int:
    """An upper estimate of what a training writes: a LoRA and its optimizer are smaller than the UNet."""
    return sum(int(p.numel()) * 4 for p in model.unet.parameters()) + (16 << 20)


def _begin(model: Model, data: Dataset, path: Path, *, digest: str) -> tuple[Trainer, float]:
    """A trainer at its checkpoint's step, or at step 0; and the seconds already spent."""
    settings = data.file.train
    saved = checkpoint.read(path)
    if saved is not None and saved.digest != digest:
        log.warning("%s: of other images, settings or model; training starts afresh", path)
        saved = None
    precision = saved.precision if saved else resolve_precision(settings.precision, model.device)
    material = prepare(model, data)
    trained = table.build(model, settings, data.file.concept)
    trainer = Trainer(trained, material, settings, precision=precision)
    if saved is None:
        return trainer, 0.0
    checkpoint.restore(trainer, saved)
    log.info("%s: going on at step %d of %d", path, trainer.step, settings.steps)
    return trainer, saved.seconds


def _take_steps(
    trainer: Trainer, data: Dataset, results: Results, *, digest: str, seconds: float, progress: bool
) -> float:
    """Take the steps that are left; returns the seconds spent on all of them."""
    settings = data.file.train
    bar = TrainProgress(
        f"training {data.file.name}",
        num_steps=settings.steps,
        done=trainer.step,
        batch=settings.batch,
        shown=progress,
    )
    with bar, deferred_interrupt() as asked:
        while trainer.step < settings.steps:
            loss, spent = trainer.timed_step()
            seconds += spent
            bar.update(trainer.step, loss, spent)
            done = trainer.step == settings.steps
            if done or asked.is_set() or trainer.step % settings.checkpoint_every == 0:
                checkpoint.save(results.checkpoint, trainer, digest=digest, seconds=seconds)
            if asked.is_set() and not done:
                raise KeyboardInterrupt
            if settings.sample_every and trainer.step % settings.sample_every == 0 and not done:
                picture = results.folder / "samples" / f"step_{trainer.step:06d}.png"
                sheet.write_sheet(trainer.trained, data, picture)
    return seconds
