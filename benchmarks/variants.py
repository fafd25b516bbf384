"""Datasets made of the samples for an experiment: fewer images, other captions, other settings.

They are written under `out/`, never committed; images are linked where the system can, else copied.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.files import write_text
from training.curate.views import look, read_known
from training.folders import caption_of, images_in
from training.schema import Concept, read_dataset_file

SAMPLES: Mapping[str, Path] = {
    "iris": Path("samples/characters/iris"),
    "otto": Path("samples/characters/otto"),
    "VaultHall": Path("samples/places/vaulthall"),
    "VaultFilm": Path("samples/styles/vaultfilm"),
}
_BESIDE = ("engine", "depth", "pose")


@dataclass(frozen=True)
class Still:
    """An image of a sample dataset."""

    path: Path
    caption: str
    view: str | None


@dataclass(frozen=True)
class Part:
    """A sample's images as a variant takes them: which, and with which captions."""

    trigger: str
    keep: Callable[[Sequence[Still]], Sequence[Still]] = list
    said: Callable[[str], str] = str
    invariant: bool = True
    """Whether the file lists the invariants; captions that name them are refused where it does."""
    init_text: str | None = None
    """What a new word starts as; None: its class."""


@dataclass(frozen=True)
class Variant:
    """One dataset: its parts, whether each concept gets its share or each image, and training settings."""

    name: str
    parts: tuple[Part, ...]
    by_folder: bool = False
    """Every image once an epoch, so that a concept's share is its folder's size."""
    train: Mapping[str, int | float | str] = field(default_factory=dict)


def stills(trigger: str) -> list[Still]:
    """The images of a sample dataset, with the views that `lookdev dataset audit` sees."""
    root = SAMPLES[trigger]
    known = read_known(root / "images")
    found = []
    for path in images_in(root / "images", str(root)):
        caption = caption_of(path)
        found.append(Still(path, caption, look(path.stem, caption, known, trigger=trigger).view))
    return found


def is_profile(still: Still) -> bool:
    """Whether the image shows a profile, from either side."""
    return still.view in ("profile left", "profile right")


def write_variant(variant: Variant, out: Path) -> Path:
    """Write a dataset's folders and file under `out/<name>`, in place of what is there; returns the file.

    Raises DatasetError for a part without images, OutputError where the system refuses.
    """
    root = out / variant.name
    if root.exists():
        shutil.rmtree(root)
    concepts = []
    for part in variant.parts:
        source = SAMPLES[part.trigger]
        kept = part.keep(stills(part.trigger))
        if not kept:
            raise DatasetError(f"{variant.name}: no image of {part.trigger} is kept")
        for still in kept:
            write_text(
                root / part.trigger / "images" / f"{still.path.stem}.txt", part.said(still.caption) + "\n"
            )
            for folder in ("images", *_BESIDE):
                _link(source / folder / still.path.name, root / part.trigger / folder / still.path.name)
        shutil.copyfile(source / "joints.json", root / part.trigger / "joints.json")
        concepts.append(
            _table(read_dataset_file(source / "dataset.toml").concept[0], part, variant.by_folder)
        )
    settings = read_dataset_file(SAMPLES[variant.parts[0].trigger] / "dataset.toml").train
    values = settings.model_dump(include=settings.model_fields_set) | dict(variant.train)
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    text = [f'model = "mini"\nname = "{variant.name}"\n', *concepts, "[train]", *lines]
    path = root / "dataset.toml"
    write_text(path, "\n".join(text) + "\n")
    return path


def _table(concept: Concept, part: Part, by_folder: bool) -> str:
    values: dict[str, object] = {
        "trigger": concept.trigger,
        "class": concept.class_word,
        "kind": concept.kind,
        "images": f"{part.trigger}/images",
        "engine": f"{part.trigger}/engine",
        "invariant": list(concept.invariant) if part.invariant else [],
    }
    if part.init_text is not None:
        values["init_text"] = part.init_text
    if by_folder:
        values["repeats"] = 1
    return "\n".join(["[[concept]]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or a system without hard links
        shutil.copyfile(source, target)
