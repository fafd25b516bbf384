"""Datasets of kohya's sd-scripts: `N_concept/` folders with .txt or .caption files, and its dataset TOML.

What is read is told, file by file where something is left out: a caption that is not used is never silent.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.errors import DatasetError
from training.folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES

_REPEATS = re.compile(r"^(\d+)_(.+)$")  # kohya: "<repeats>_<trigger> <class>"
_CAPTION_SUFFIXES = (".txt", ".caption")
# What a kohya TOML says that this project's file says too; anything else is told as not read.
_SUBSET_KEYS = {"image_dir", "num_repeats", "class_tokens", "caption_extension", "is_reg", "flip_aug"}


@dataclass(frozen=True)
class Taken:
    """One image and its caption; `caption_from` is None where the folder's words stand in, as in kohya."""

    image: Path
    caption: str
    caption_from: Path | None
    name: str = ""
    """What the image is called here; "": as before."""

    @property
    def new_name(self) -> str:
        """The file's name in the new dataset."""
        return self.name or self.image.name


@dataclass(frozen=True)
class KohyaConcept:
    """One folder of images."""

    folder: Path
    repeats: int
    trigger: str
    class_word: str
    images: tuple[Taken, ...]
    notes: tuple[str, ...] = field(default=())
    """What was found and is not used, a line each."""


def read_kohya(path: Path, *, caption_suffix: str | None = None) -> tuple[KohyaConcept, ...]:
    """Read a folder of `N_concept` folders, one such folder, or a kohya dataset TOML.

    `caption_suffix` is ".txt" or ".caption"; None takes whichever an image has.
    Raises `DatasetError`: nothing there, no such folders, an image with both kinds of caption and no choice.
    """
    if path.is_file():
        return _read_toml(path, caption_suffix)
    if not path.is_dir():
        raise DatasetError(f"{path}: not there; give kohya's image folder or its dataset TOML")
    if _REPEATS.match(path.name):
        return (_read_folder(path, caption_suffix),)
    inside = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    folders = [each for each in inside if each.is_dir() and _REPEATS.match(each.name)]
    if not folders:
        raise DatasetError(f"{path}: no folders named like '10_iris woman' in it; expected kohya's N_concept")
    found = [_read_folder(folder, caption_suffix) for folder in folders]
    others = tuple(f"{each} is not used: no N_concept folder" for each in inside if each not in folders)
    return (*found[:-1], replace(found[-1], notes=(*found[-1].notes, *others)))


def _read_folder(folder: Path, suffix: str | None) -> KohyaConcept:
    match = _REPEATS.match(folder.name)
    assert match is not None, "the caller matched the name"
    return _read_images(folder, int(match[1]), match[2], suffix, [])


def _read_toml(path: Path, suffix: str | None) -> tuple[KohyaConcept, ...]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DatasetError(f"{path}: not readable as TOML ({error}); expected kohya's dataset file") from None
    general = table.get("general", {})
    datasets = table.get("datasets")
    if not isinstance(datasets, list) or not isinstance(general, dict):
        raise DatasetError(f"{path}: no [[datasets]] in it; expected kohya's dataset file")
    found = []
    for number, dataset in enumerate(datasets, start=1):
        for place, subset in enumerate(_tables(dataset, "subsets"), start=1):
            where = f"{path}:datasets[{number}].subsets[{place}]"
            above = {**general, **{key: value for key, value in dataset.items() if key != "subsets"}}
            found.append(_read_subset(path.parent, where, subset, above, suffix))
    if not found:
        raise DatasetError(f"{path}: no [[datasets.subsets]] in it; nothing to import")
    return tuple(found)


def _tables(value: Any, key: str) -> list[dict[str, Any]]:
    items = value.get(key, []) if isinstance(value, dict) else []
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _read_subset(
    root: Path, where: str, subset: Mapping[str, Any], above: Mapping[str, Any], suffix: str | None
) -> KohyaConcept:
    settings = {**above, **subset}
    name = subset.get("image_dir")
    if not isinstance(name, str):
        raise DatasetError(f"{where}.image_dir: missing; expected the folder of the images")
    folder = root / name
    if not folder.is_dir():
        raise DatasetError(f"{where}.image_dir: no folder {folder}; check the path")
    match = _REPEATS.match(folder.name)
    repeats = settings.get("num_repeats", 1)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise DatasetError(f"{where}.num_repeats: {repeats!r}; expected a whole number from 1")
    words = settings.get("class_tokens") or (match[2] if match else folder.name)
    notes = [f"{where}.{key} is not read" for key in settings if key not in _SUBSET_KEYS]
    if settings.get("flip_aug"):
        notes.append(f"{where}.flip_aug is not read; mirror = true in the concept does it")
    if settings.get("is_reg"):
        notes.append(f"{where}: is_reg: imported as a concept of its own; regularisation images are not used")
    extension = suffix or settings.get("caption_extension")
    if extension is not None and extension not in _CAPTION_SUFFIXES:
        raise DatasetError(f"{where}.caption_extension: {extension!r}; expected .txt or .caption")
    return _read_images(folder, repeats, str(words), extension, notes)


def _read_images(
    folder: Path, repeats: int, words: str, suffix: str | None, notes: Sequence[str]
) -> KohyaConcept:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not pictures:
        raise DatasetError(f"{folder}: no images in it; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    trigger, _, class_word = words.partition(" ")
    told = list(notes)
    taken = []
    for picture in pictures:
        present = [
            picture.with_suffix(each) for each in _CAPTION_SUFFIXES if picture.with_suffix(each).is_file()
        ]
        if suffix is None and len(present) > 1:
            raise DatasetError(
                f"{picture}: has a .txt and a .caption file; choose with --caption .txt or --caption .caption"
            )
        chosen = [path for path in present if suffix is None or path.suffix == suffix]
        told += [f"{path} is not used: captions end in {suffix}" for path in present if path not in chosen]
        if chosen:
            taken.append(Taken(picture, _caption(chosen[0]), chosen[0]))
        else:
            told.append(f"{picture} has no caption: it gets the folder's words '{words}'")
            taken.append(Taken(picture, words, None))
    stems = {picture.stem for picture in pictures}
    told += [
        f"{path} is not used: no image of that name"
        for path in files
        if path.suffix.lower() in _CAPTION_SUFFIXES and path.stem not in stems
    ]
    told += [
        f"{path} is not used: {path.suffix} images are not read, save it as PNG"
        for path in files
        if path.suffix.lower() in UNREAD_SUFFIXES
    ]
    told += [
        f"{path} is not used: folders inside are not read"
        for path in sorted(folder.iterdir())
        if path.is_dir()
    ]
    return KohyaConcept(folder, repeats, trigger, class_word or "thing", tuple(taken), tuple(told))


def _caption(path: Path) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as UTF-8 text ({error}); save it again") from None
