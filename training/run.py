"""One training from its dataset file to the LoRA file: the spine.

read dataset -> load model -> encode -> [ step, checkpoint, sample ] -> export -> contact sheet

OUT/<name>.safetensors   the LoRA, kohya format       OUT/<name>.json   A1111's sidecar
OUT/samples.png          what it does                 OUT/samples/      the same while training, if asked for
OUT/checkpoint.pt        where the next run goes on
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.errors import DatasetError
from pipeline.models import FAMILIES, Model, count_tokens, find_model, load_model
from pipeline.output import check_space
from training import checkpoint, export, sheet
from training.dataset import Dataset, check_captions, load_dataset
from training.interrupt import deferred_interrupt
from training.loop import Trainer, prepare, resolve_precision
from training.progress import TrainProgress
from training.schema import read_dataset_file

log = logging.getLogger(__name__)

DEFAULT_OUT = Path("out") / "loras"


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind."""

    lora: Path
    steps: int
    seconds: float
    """Spent on steps, over all the runs that this training took."""
    images_per_second: float
    samples: Path
    """A contact sheet, PNG: training image | controls | without LoRA | with LoRA."""


def train_from_file(
    dataset: Path,
    *,
    out: Path | None = None,
    steps: int | None = None,
    progress: bool = True,
    device: str | None = None,
) -> TrainResult:
    """Train the LoRA that a dataset file describes, or go on with it, or return at once if it is done.

    `out` is the folder of the results, `out/loras/<name>` if None; `steps` overrides the file's;
    `device` None is "cuda" where there is one, else "cpu". An unfinished training of the same images,
    settings and model goes on at its step and ends with the bytes of an uninterrupted one; any other
    starts afresh.

    Raises `DatasetError`, `ModelError` and `OutputError`; KeyboardInterrupt after the checkpoint is saved.
    """
    data, model_path = _read(dataset, steps)
    out = out if out is not None else DEFAULT_OUT / data.file.name
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(model_path, controls=data.control_kinds, device=place)
    check_captions(
        data,
        count_tokens=lambda text: count_tokens(model, text),
        max_tokens=int(model.tokenizer.model_max_length),
    )
    digest = hashlib.sha256(f"{data.digest()} {checkpoint.model_digest(model)}".encode()).hexdigest()
    check_space(out, _needed_bytes(model))
    trainer, seconds = _begin(model, data, out / "checkpoint.pt", digest=digest)
    seconds = _train(trainer, data, out, digest=digest, seconds=seconds, progress=progress)
    lora = out / f"{data.file.name}.safetensors"
    export.write(lora, model, data)
    samples = out / "samples.png"
    sheet.write_sheet(model, data, samples)
    settings = data.file.train
    return TrainResult(
        lora=lora,
        steps=settings.steps,
        seconds=seconds,
        images_per_second=settings.steps * settings.batch / max(seconds, 1e-9),
        samples=samples,
    )


def _read(path: Path, steps: int | None) -> tuple[Dataset, str | Path]:
    """The checked dataset, and the model's name or path. Loads no weights."""
    file = read_dataset_file(path)
    if steps is not None and steps < 1:
        raise DatasetError(f"--steps {steps}: expected 1 or more")
    model_path: str | Path = file.model if file.model in FAMILIES else path.parent / file.model
    family, _ = find_model(model_path)
    data = load_dataset(path, file, size=family.default_size, control_kinds=family.control_kinds)
    return data if steps is None else data.with_steps(steps), model_path


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
    trainer = Trainer(model, prepare(model, data), settings, precision=precision)
    if saved is None:
        return trainer, 0.0
    checkpoint.restore(trainer, saved)
    log.info("%s: going on at step %d of %d", path, trainer.step, settings.steps)
    return trainer, saved.seconds


def _train(
    trainer: Trainer, data: Dataset, out: Path, *, digest: str, seconds: float, progress: bool
) -> float:
    """Take the steps that are left; returns the seconds spent on all of them."""
    settings, path = data.file.train, out / "checkpoint.pt"
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
                checkpoint.save(path, trainer, digest=digest, seconds=seconds)
            if asked.is_set() and not done:
                raise KeyboardInterrupt
            if settings.sample_every and trainer.step % settings.sample_every == 0 and not done:
                sheet.write_sheet(trainer.model, data, out / "samples" / f"step_{trainer.step:06d}.png")
    return seconds
