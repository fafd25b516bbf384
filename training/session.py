"""The heavy half of a training, once its dataset is known to be good: everything here needs torch.

load model -> encode -> [ step, judge, keep, checkpoint, sample ] -> pick -> contact sheet -> export
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.errors import DatasetError
from pipeline.models import Model, count_tokens, find_model, is_read_at_once, load_model
from pipeline.output import check_space
from training import checkpoint, sheet
from training.adapters import table
from training.adapters.trained import Job, trains_text
from training.board import check_tensorboard
from training.cache import Cache
from training.caption_check import check_captions
from training.dataset import Dataset
from training.loop import Trainer
from training.material import Material, prepare
from training.optimizers import check_optimizer
from training.parallel import Workers, join
from training.precision import resolve_precision
from training.record import Finished, read_finished, write_record
from training.rendered import check_regions
from training.schema import TrainSettings
from training.steps import Results, Run, log_exposure, take_steps
from training.validation import Validation, best

log = logging.getLogger(__name__)


def finished(data: Dataset, results: Results, *, digest: str) -> Finished | None:
    """A finished training; None where steps or files are left to do. Loads no model."""
    return read_finished(results.record, stamp=_stamp(data, digest))


def train(
    data: Dataset,
    model_path: str | Path,
    results: Results,
    *,
    digest: str,
    weights: str,
    progress: bool,
    device: str | None,
) -> None:
    """Train, or go on, and write all results.

    `digest` is the whole training's, `weights` the model's alone.
    """
    workers, device = join(device)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    settings = data.file.train
    check_optimizer(settings.optimizer, place)
    resolve_precision(settings.precision, place)
    if settings.tensorboard:
        check_tensorboard()
    training, held_out = data.split()
    if settings.pick == "likeness":
        check_regions(held_out)
    model = load_model(model_path, controls=data.control_kinds, device=place)
    check_captions(
        data,
        count_tokens=lambda text: count_tokens(model, text),
        max_tokens=int(model.tokenizer.model_max_length),
    )
    check_space(results.folder, _needed_bytes(model, settings.kind))
    cache = Cache.open(results.cache, model=f"{weights} {place.type} {model.dtype}")
    base = find_model(model_path)[1]
    run = _begin(model, data, training, results, base, digest=digest, cache=cache, workers=workers)
    run.held_out = prepare(model, held_out, cache=cache) if held_out.examples else None
    run.to_render = held_out.examples if settings.pick == "likeness" else ()
    if run.leads:
        cache.save()
    take_steps(run, progress=progress)
    if run.leads:
        _finish(run, weights=weights)
    workers.wait()


def _finish(run: Run, *, weights: str) -> None:
    """Write the result: the weights picked, as files and as pictures."""
    trainer, settings = run.trainer, run.data.file.train
    picked = best(run.history, settings.pick)
    log_exposure(run)
    with trainer.result():
        if picked is not None and picked.step != trainer.step:
            log.info("picked step %d by its %s", picked.step, settings.pick)
            kept = run.results.best(picked.step)
            trainer.trained.load(checkpoint.read_best(kept, digest=run.digest, step=picked.step))
        sheet.write_sheet(trainer.trained, run.data, run.results.samples)
        stamp = _stamp(run.data, run.digest)
        step = trainer.step if picked is None else picked.step
        written = trainer.trained.export(Job(run.results.folder, run.data, run.base, stamp=stamp, step=step))
    write_record(run, [run.results.samples, *written], stamp=stamp, weights=weights, picked=step)


def _stamp(data: Dataset, digest: str) -> str:
    """What all the results are of: the training, and the prompts of its contact sheet."""
    return hashlib.sha256(f"{digest} {json.dumps(data.file.train.samples)}".encode()).hexdigest()


def _needed_bytes(model: Model, kind: str) -> int:
    """An upper estimate of what a training writes: a LoRA and its optimizer are smaller than the UNet.

    A whole model is in the checkpoint three times (weights and two moments) and in the results up to twice.
    """
    times = 6 if kind == "full" else 1
    return times * sum(int(p.numel()) * 4 for p in model.unet.parameters()) + (16 << 20)


def _begin(
    model: Model,
    data: Dataset,
    training: Dataset,
    results: Results,
    base: Path,
    *,
    digest: str,
    cache: Cache,
    workers: Workers,
) -> Run:
    """A run at its checkpoint's step, or at step 0."""
    settings = data.file.train
    saved = checkpoint.read(results.checkpoint)
    if saved is not None and saved.digest != digest:
        log.warning("%s: of other images, settings or model; training starts afresh", results.checkpoint)
        saved = None
    precision = saved.precision if saved else resolve_precision(settings.precision, model.device)
    material = prepare(model, training, cache=cache)
    trained = table.build(model, settings, data.file.concept)
    _check_room(model, data)
    priors = prepare(model, replace(data, examples=data.priors), cache=cache) if data.priors else None
    trainer = Trainer(
        trained, material, settings, precision=precision, cache=cache, workers=workers, priors=priors
    )
    if not trains_text(trained):
        trainer.texts.read_ahead([*_texts(material, settings), *(priors.captions if priors else ())])
    run = Run(data, results, base, digest, trainer, held_out=None)
    if saved is not None:
        checkpoint.restore(trainer, saved)
        run.seconds, run.saved_step = saved.seconds, saved.step
        run.losses = list(saved.losses)
        run.history = [Validation(*each) for each in saved.history]
        log.info("%s: going on at step %d of %d", results.checkpoint, trainer.step, settings.steps)
    return run


def _check_room(model: Model, data: Dataset) -> None:
    """Captions fit with the vectors of words that learn. Raises `DatasetError` with the first."""
    for example in (*data.examples, *data.mirror_images, *data.priors):
        if not is_read_at_once(model, example.caption):
            raise DatasetError(
                f"{example.path.with_suffix('.txt')}: with {data.file.train.vectors} vectors for the trigger "
                "longer than the text encoder reads; shorten the caption, or lower train.vectors"
            )


def _texts(material: Material, settings: TrainSettings) -> list[str]:
    """All that a training says to a text encoder that learns nothing."""
    texts = [*material.captions, *(material.triggers if settings.caption_dropout > 0 else ())]
    return [*texts, *(material.plain if settings.prior_weight > 0 else ())]
