"""`training.json`: what a training was of, what it did, what it wrote. The last file of a training."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import file_digest, write_text
from pipeline.output.record import package_versions
from training.adapters.trained import Role
from training.order import realised
from training.steps import Run

log = logging.getLogger(__name__)

VERSION = 1
LOSS_POINTS = 200  # means over as many stretches of the run


@dataclass(frozen=True)
class Finished:
    """A training that is done: the main file or folder, and the seconds spent on steps, over all runs."""

    result: Path
    seconds: float


def write_record(run: Run, outputs: Sequence[Path], *, stamp: str, weights: str, picked: int) -> None:
    """Write the record beside the results.

    The last of `outputs` is the main one. `weights` is the model's digest, `picked` the result's step.

    Paths are relative to the results' folder. Raises OutputError.
    """
    trainer, file = run.trainer, run.data.file
    settings = file.train
    record = {
        "version": VERSION,
        "stamp": stamp,
        "name": file.name,
        "kind": settings.kind,
        "model": {"name": file.model, "family": trainer.model.family.name, "digest": weights},
        "dataset": {"file": run.data.path.name, "digest": run.data.digest()},
        "settings": settings.model_dump(mode="json"),
        "concepts": [concept.model_dump(mode="json", by_alias=True) for concept in file.concept],
        "trained": {role: _count(run, role) for role in trainer.trained.parameters},
        "exposure": exposure(run),
        "steps": trainer.step,
        "picked": picked,
        "losses": mean_losses(run.losses),
        "validation": [{"step": each.step, **each.losses} for each in run.history],
        "distances": [{"step": each.step, **each.distances} for each in run.history if each.distances],
        "seconds": round(run.seconds, 3),
        "images_per_second": round(trainer.step * settings.step_images / max(run.seconds, 1e-9), 3),
        "device": str(trainer.device),
        "processes": trainer.workers.count,
        "precision": trainer.precision,
        "versions": package_versions(),
        "result": outputs[-1].relative_to(run.results.folder).as_posix(),
        "outputs": digests(run.results.folder, outputs),
    }
    write_text(run.results.record, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_finished(path: Path, *, stamp: str) -> Finished | None:
    """A training with this stamp, all of whose files are there and whole; None otherwise."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["version"] != VERSION or record["stamp"] != stamp:
            return None
        outputs: dict[str, str] = record["outputs"]
        whole = all(file_digest(path.parent / name) == digest for name, digest in outputs.items())
        found = Finished(path.parent / record["result"], float(record["seconds"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: is no whole record of a training (%s); the results are made again", path, error)
        return None
    return found if whole else None


def exposure(run: Run) -> dict[str, Any]:
    """How often each image was shown, by trigger: {"shown": n, "share": of all, "images": {name: n}}."""
    trainer = run.trainer
    training, _ = run.data.split()
    shown = realised(trainer.order, len(training.examples), trainer.step * trainer.settings.step_images)
    concepts: dict[str, Any] = {}
    for index, concept in enumerate(run.data.file.concept):
        own = Counter[str]()  # an image and its mirror image are one
        for example, times in zip(training.examples, shown, strict=True):
            if example.concept == index:
                own[example.path.name] += times
        total = sum(own.values())
        concepts[concept.trigger] = {
            "shown": total,
            "share": round(total / max(1, sum(shown)), 4),
            "images": dict(own),
        }
    return concepts


def mean_losses(losses: Sequence[float]) -> list[list[float]]:
    """[last step of a stretch, mean loss over it], at most `LOSS_POINTS`."""
    stretch = max(1, -(-len(losses) // LOSS_POINTS))
    points = []
    for start in range(0, len(losses), stretch):
        part = losses[start : start + stretch]
        points.append([start + len(part), round(sum(part) / len(part), 6)])
    return points


def digests(folder: Path, outputs: Sequence[Path]) -> dict[str, str]:
    """sha256 of each file, of folders of all in them, by path relative to `folder`."""
    files = [
        file
        for output in outputs
        for file in (sorted(p for p in output.rglob("*") if p.is_file()) if output.is_dir() else [output])
    ]
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def _count(run: Run, role: Role) -> int:
    """Numbers that learn."""
    return sum(int(parameter.numel()) for parameter in run.trainer.trained.parameters[role])
