"""Write what was read of a foreign dataset as one of this project's: images, captions, dataset.toml."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DatasetError, OutputError
from pipeline.files import whole_file, write_text
from training.captions import names
from training.curate.kohya import KohyaConcept, Taken
from training.folders import copy_file
from training.schema import NAME_PATTERN, ConceptKind, read_dataset_file

_BASE = "dataset.toml"


def write_import(concepts: Sequence[KohyaConcept], out: Path, *, name: str, kind: ConceptKind) -> Path:
    """Copy images and captions under `out` and write its dataset.toml; returns that file's path.

    The originals stay as they are; `concepts` are `joined`. Raises `DatasetError` for a bad name,
    `OutputError` where `out` holds a dataset already or the system refuses.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise DatasetError(
            f"--name '{name}' (the folder's, if you gave none): expected letters, digits, '_', '.' and '-', "
            "first a letter or digit"
        )
    for origin in {each.folder.resolve() for each in concepts}:
        if origin in (out.resolve(), *out.resolve().parents):
            raise OutputError(f"{out}: lies in {origin}, which stays as it is; choose another with --out")
    target = out / _BASE
    if target.exists():
        raise OutputError(f"{target}: is there already; choose another folder with --out")
    folders = _folders(concepts)
    text = f'model = "mini"  # your checkpoint: a file or folder, from here on\nname = {json.dumps(name)}\n'
    for concept, folder in zip(concepts, folders, strict=True):
        text += (
            f"\n[[concept]]\ntrigger = {_toml(concept.trigger)}\nclass = {_toml(concept.class_word)}\n"
            f'kind = "{kind}"\nimages = {_toml(f"{folder}/images")}\nrepeats = {concept.repeats}\n'
            "invariant = []  # what belongs to the concept and is never captioned: fill this in\n"
            "variable = []  # what changes from image to image and is captioned\n"
        )
        if concept.class_images:
            text += f"prior_images = {_toml(f'{folder}/class')}\n"
    text += "\n[train]\n"
    if any(concept.class_images for concept in concepts):
        text += "prior_weight = 1.0  # of class images, as kohya has it; else of the base's own prediction\n"
    with whole_file(target) as partial:
        partial.write_text(text, encoding="utf-8")
        read_dataset_file(partial)
        for concept, folder in zip(concepts, folders, strict=True):
            _copy(concept.images, out / folder / "images")
            _copy(concept.class_images, out / folder / "class")
    return target


def _copy(images: Sequence[Taken], folder: Path) -> None:
    for taken in images:
        copy_file(taken.image, folder / taken.new_name)
        if taken.caption or taken.caption_from is not None:
            write_text((folder / taken.new_name).with_suffix(".txt"), taken.caption + "\n")


def joined(concepts: Sequence[KohyaConcept]) -> tuple[KohyaConcept, ...]:
    """Folders of one trigger as one concept, as kohya's subsets are often meant; what changes is noted.

    Images whose names meet get their folder's name in front. Raises `DatasetError` where folders of one
    trigger differ in their class.
    """
    by_trigger: dict[str, list[KohyaConcept]] = {}
    for concept in concepts:
        if not concept.is_class:
            by_trigger.setdefault(concept.trigger.lower(), []).append(concept)
    found = [_join(parts) if len(parts) > 1 else parts[0] for parts in by_trigger.values()]
    for of_class in (concept for concept in concepts if concept.is_class):
        found = _with_class(found, of_class)
    return tuple(found)


def _with_class(concepts: Sequence[KohyaConcept], of_class: KohyaConcept) -> list[KohyaConcept]:
    """Regularisation images go to every concept of their class; where there is none, that is said."""
    word, folder, notes = of_class.class_word, of_class.folder, of_class.notes
    fitting = [each for each in concepts if each.class_word.casefold() == word.casefold()]
    told = f"{folder}: {len(of_class.images)} regularisation images of '{word}'"
    if not fitting:
        told += " are not used: no concept has this class"
        return [*concepts[:-1], replace(concepts[-1], notes=(*concepts[-1].notes, *notes, told))]
    told += " become its class images (prior_images); their repeats are not read"
    found = []
    for concept in concepts:
        if concept in fitting:
            if concept.class_images:
                raise DatasetError(
                    f"{folder}: a second folder of regularisation images of '{word}'; join them"
                )
            more = notes if concept is fitting[0] else ()
            concept = replace(concept, class_images=of_class.images, notes=(*concept.notes, *more, told))
        found.append(concept)
    return found


def _join(parts: Sequence[KohyaConcept]) -> KohyaConcept:
    first = parts[0]
    for part in parts[1:]:
        if (part.trigger, part.class_word) != (first.trigger, first.class_word):
            raise DatasetError(
                f"{part.folder}: has the trigger '{part.trigger}' of {first.folder} with another spelling or "
                f"class ('{part.class_word}', '{first.class_word}'); make them the same, or two triggers"
            )
    images: list[Taken] = []
    notes = [note for part in parts for note in part.notes]
    notes.append("joined: " + ", ".join(str(part.folder) for part in parts))
    stems: set[str] = set()
    for part in parts:
        for taken in part.images:
            if Path(taken.new_name).stem.casefold() in stems:
                prefix = re.sub(r"[^\w-]+", "_", part.folder.name)
                taken = replace(taken, name=f"{prefix}_{taken.new_name}")
                notes.append(f"{taken.image} becomes {taken.new_name}: another image has its name")
            stems.add(Path(taken.new_name).stem.casefold())
            images.append(taken)
    shown = sum(part.repeats * len(part.images) for part in parts)
    repeats = max(1, round(shown / len(images)))
    if any(part.repeats != repeats for part in parts):
        counts = ", ".join(str(part.repeats) for part in parts)
        notes.append(f"repeats {counts}: every image now counts {repeats}, as often on the average")
    return replace(first, images=tuple(images), repeats=repeats, notes=tuple(notes))


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
    """A folder's name for each concept: its trigger, numbered where two would be the same."""
    folders: list[str] = []
    for concept in concepts:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", concept.trigger).strip("_") or "concept"
        number, folder = 2, plain
        while folder in folders:
            folder, number = f"{plain}_{number}", number + 1
        folders.append(folder)
    return folders


def _toml(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's, which also wants DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
