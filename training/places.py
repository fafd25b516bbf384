"""Whether a training can write its results: asked before the first step, not found out after the last."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.models.save_model import NOTE
from training.adapters.embedding import FOLDER
from training.dataset import Dataset
from training.steps import Results


def check_places(results: Results, data: Dataset) -> None:
    """Raise `OutputError` where the folder cannot be made or written to, or a result's name is taken.

    A file of that name is no fault, it is an earlier result; a folder is.
    """
    place = results.folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        what = "a link to nothing" if place.is_symlink() else "a file"
        raise OutputError(f"{place}: is {what}; expected a folder to write to; choose another with --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{place}: no permission to write there; choose another folder with --out")
    for path in _files(results, data):
        if path.is_dir():
            raise OutputError(
                f"{path}: is a folder, where the training writes a file; move it away, or choose another "
                "folder with --out"
            )
    whole = results.folder / results.name
    if data.file.train.kind == "full" and os.path.lexists(whole) and not (whole / NOTE).is_file():
        raise OutputError(
            f"{whole}: is there already and no result of a training; move it away, or choose another folder "
            "with --out"
        )


def _files(results: Results, data: Dataset) -> list[Path]:
    train = data.file.train
    files = [results.record, results.samples, results.checkpoint, results.cache]
    if train.kind in ("embedding", "pivotal"):
        folder = results.folder / FOLDER
        files += [folder / f"{concept.trigger}.safetensors" for concept in data.file.concept]
    if train.kind != "embedding" and (train.kind != "full" or train.single_file):
        files.append(results.folder / f"{results.name}.safetensors")
    if train.kind not in ("embedding", "full"):
        files.append(results.folder / f"{results.name}.json")
    return files
