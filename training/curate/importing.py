"""Write what was read of a foreign dataset as one of this project's: images, captions, dataset.toml."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DatasetError, OutputError
from pipeline.files import whole_file, write_text
from training.captions import names
from training.curate.kohya import KohyaConcept
from training.schema import NAME_PATTERN, ConceptKind, read_dataset_file

_BASE = "dataset.toml"


def write_import(concepts: Sequence[KohyaConcept], out: Path, *, name: str, kind: ConceptKind) -> Path:
    """Copy images and captions under `out` and write its dataset.toml; returns that file's path.

    The originals stay as they are. Raises `DatasetError` for a bad name or two concepts of one
    trigger, `OutputError` where `out` holds a dataset already or the system refuses.
    """
    if not re.match(NAME_PATTERN, name):
        raise DatasetError(f"--name '{name}': expected letters, digits, '_', '.', '-'")
    triggers = [concept.trigger.lower() for concept in concepts]
    for concept in concepts:
        if triggers.count(concept.trigger.lower()) > 1:
            raise DatasetError(
                f"{concept.folder}: another folder has the trigger '{concept.trigger}' too; join them"
            )
    target = out / _BASE
    if target.exists():
        raise OutputError(f"{target}: is there already; choose another folder with --out")
    folders = _folders(concepts)
    for concept, folder in zip(concepts, folders, strict=True):
        for taken in concept.images:
            with whole_file(out / folder / taken.image.name) as partial:
                shutil.copyfile(taken.image, partial)
            write_text((out / folder / taken.image.name).with_suffix(".txt"), taken.caption + "\n")
    text = f'model = "mini"\nname = {json.dumps(name)}\n'
    for concept, folder in zip(concepts, folders, strict=True):
        text += (
            f"\n[[concept]]\ntrigger = {_toml(concept.trigger)}\nclass = {_toml(concept.class_word)}\n"
            f'kind = "{kind}"\nimages = {_toml(folder)}\nrepeats = {concept.repeats}\n'
            "invariant = []  # what belongs to the concept and is never captioned: fill this in\n"
            "variable = []  # what changes from image to image and is captioned\n"
        )
    with whole_file(target) as partial:
        partial.write_text(text + "\n[train]\n", encoding="utf-8")
        read_dataset_file(partial)
    return target


def echo(concepts: Sequence[KohyaConcept]) -> list[str]:
    """What was read, a line for each concept, and a line for each thing that is not used."""
    lines = []
    for concept in concepts:
        captions = sum(taken.caption_from is not None for taken in concept.images)
        lines.append(
            f"{concept.folder}: trigger '{concept.trigger}', class '{concept.class_word}', "
            f"{len(concept.images)} images, {captions} captions, repeats {concept.repeats}"
        )
        without = sum(not names(taken.caption, concept.trigger) for taken in concept.images)
        notes = [*concept.notes]
        if without:
            notes.append(f"{without} captions do not name the trigger; see lookdev dataset lint --fix")
        lines += [f"  note: {note}" for note in notes]
    return lines


def _folders(concepts: Sequence[KohyaConcept]) -> list[str]:
    """A folder name for each concept: images/<trigger>, numbered where two would be the same."""
    folders: list[str] = []
    for concept in concepts:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", concept.trigger).strip("_") or "concept"
        number, folder = 2, f"{plain}/images"
        while folder in folders:
            folder, number = f"{plain}_{number}/images", number + 1
        folders.append(folder)
    return folders


def _toml(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's, which also wants DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
