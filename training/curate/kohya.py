"""Datasets of kohya's sd-scripts: `N_concept/` folders with .txt or .caption files, and its dataset TOML.

What is read is told, file by file where something is left out: a caption that is not used is never silent.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.errors import DatasetError
from training.folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES, read_text
from training.schema import MAX_REPEATS

_REPEATS = re.compile(r"^(\d+)_(.+)$")  # kohya: "<repeats>_<trigger> <class>"
_CAPTION_SUFFIXES = (".txt", ".caption")
# What a kohya TOML says that this project's file says too; anything else is told as not read.
_ANYWHERE = {"num_repeats", "class_tokens", "caption_extension", "flip_aug", "subsets"}
_IN_A_SUBSET = {"image_dir", "is_reg"}


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
    is_class: bool = False
    """Whether these are regularisation images: the class `class_word` without a concept, no trigger."""
    class_images: tuple[Taken, ...] = ()
    """Regularisation images of the same class; their captions may be ""."""


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
    never = [folder for folder in folders if folder.name.startswith("0_")]  # as kohya has it
    found = [_read_folder(folder, caption_suffix) for folder in folders if folder not in never]
    if not found:
        raise DatasetError(f"{path}: all its folders say 0 repeats, which is never; expected numbers from 1")
    others = [f"{each} is not used: no N_concept folder" for each in inside if each not in folders]
    others += [f"{each} is not used: 0 repeats" for each in never]
    return (*found[:-1], replace(found[-1], notes=(*found[-1].notes, *others)))


def _read_folder(folder: Path, suffix: str | None) -> KohyaConcept:
    match = _REPEATS.match(folder.name)
    assert match is not None, "the caller matched the name"
    return _read_images(folder, _checked(int(match[1]), str(folder)), match[2], suffix, [])


def _checked(repeats: object, where: str) -> int:
    """The number of repeats, if this project takes it. Raises `DatasetError`."""
    if isinstance(repeats, int) and not isinstance(repeats, bool) and 1 <= repeats <= MAX_REPEATS:
        return repeats
    raise DatasetError(
        f"{where}: {repeats!r} repeats; expected a whole number from 1 to {MAX_REPEATS}; "
        "only the ratio between folders counts"
    )


def _read_toml(path: Path, suffix: str | None) -> tuple[KohyaConcept, ...]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DatasetError(f"{path}: not readable as TOML ({error}); expected kohya's dataset file") from None
    general = table.get("general", {})
    datasets = table.get("datasets")
    if not isinstance(datasets, list) or not isinstance(general, dict):
        raise DatasetError(f"{path}: no [[datasets]] in it; expected kohya's dataset file")
    found = []
    for number, dataset in enumerate(datasets, start=1):
        if not isinstance(dataset, dict):
            raise DatasetError(f"{path}:datasets[{number}]: {dataset!r}; expected a [[datasets]] section")
        for place, subset in enumerate(_subsets(dataset, f"{path}:datasets[{number}]"), start=1):
            where = f"{path}:datasets[{number}].subsets[{place}]"
            above = {**general, **{key: value for key, value in dataset.items() if key != "subsets"}}
            one = _read_subset(path.parent, where, subset, above, suffix)
            if place == 1:
                one = replace(one, notes=(*_not_read(dataset, f"{path}:datasets[{number}]"), *one.notes))
            found.append(one)
    if not found:
        raise DatasetError(f"{path}: no [[datasets.subsets]] in it; nothing to import")
    if all(each.is_class for each in found):
        raise DatasetError(f"{path}: nothing but regularisation images (is_reg); expected a concept's too")
    found[0] = replace(found[0], notes=(*_not_read(general, f"{path}:general"), *found[0].notes))
    return tuple(found)


def _not_read(table: Mapping[str, Any], where: str, *, also: Set[str] = frozenset()) -> list[str]:
    """A note for each key that has no meaning here, once, where it stands; `also` are read besides."""
    notes = [f"{where}.{key} is not read" for key in table if key not in _ANYWHERE | also]
    if table.get("flip_aug"):
        notes.append(f"{where}.flip_aug is not read; mirror = true in the concept does it")
    return notes


def _subsets(dataset: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    subsets = dataset.get("subsets", [])
    if not isinstance(subsets, list) or not all(isinstance(each, dict) for each in subsets):
        raise DatasetError(f"{where}.subsets: {subsets!r}; expected [[datasets.subsets]] sections")
    return subsets


def _read_subset(
    root: Path, where: str, subset: Mapping[str, Any], above: Mapping[str, Any], suffix: str | None
) -> KohyaConcept:
    settings = {**above, **subset}
    name = subset.get("image_dir")
    if not isinstance(name, str):
        found = "missing" if name is None else repr(name)
        raise DatasetError(f"{where}.image_dir: {found}; expected the folder of the images")
    folder = root / name
    if not folder.is_dir():
        raise DatasetError(f"{where}.image_dir: no folder {folder}; check the path")
    match = _REPEATS.match(folder.name)
    repeats = _checked(settings.get("num_repeats", 1), f"{where}.num_repeats")
    words = settings.get("class_tokens", "")
    if not isinstance(words, str):
        raise DatasetError(f'{where}.class_tokens: {words!r}; expected words in quotes, like "iris woman"')
    words = words.strip() or (match[2] if match else folder.name)
    notes = _not_read(subset, where, also=_IN_A_SUBSET)
    extension = suffix or settings.get("caption_extension")
    if extension is not None and extension not in _CAPTION_SUFFIXES:
        raise DatasetError(f"{where}.caption_extension: {extension!r}; expected .txt or .caption")
    is_class = subset.get("is_reg", False)
    if not isinstance(is_class, bool):
        raise DatasetError(f"{where}.is_reg: {is_class!r}; expected true or false")
    return _read_images(folder, repeats, words, extension, notes, is_class=is_class)


def _read_images(
    folder: Path,
    repeats: int,
    words: str,
    suffix: str | None,
    notes: Sequence[str],
    *,
    is_class: bool = False,
) -> KohyaConcept:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not pictures:
        raise DatasetError(f"{folder}: no images in it; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    words = " ".join(words.split())
    if not words:
        raise DatasetError(f"{folder}: no trigger in its name; expected N_concept, like '10_iris woman'")
    trigger, _, class_word = ("", "", words) if is_class else words.partition(" ")
    told = list(notes)
    if not class_word:
        told.append(f"'{words}' names no class: 'thing' stands in; write the class into dataset.toml")
    taken: list[Taken] = []
    stems: set[str] = set()
    for picture in pictures:
        one = _take(picture, "" if is_class else words, suffix, told)
        if picture.stem.casefold() in stems:  # a caption belongs to one image here
            one = replace(one, name=f"{picture.stem}_{picture.suffix[1:]}{picture.suffix}")
            told.append(f"{picture} becomes {one.name}: another image has its name")
        stems.add(Path(one.new_name).stem.casefold())
        taken.append(one)
    told += _passed_over(folder, files, {picture.stem for picture in pictures})
    return KohyaConcept(
        folder, repeats, trigger, class_word or "thing", tuple(taken), tuple(told), is_class=is_class
    )


def _take(picture: Path, words: str, suffix: str | None, told: list[str]) -> Taken:
    """An image with its caption, or the folder's words for one, as kohya has it."""
    present = [picture.with_suffix(each) for each in _CAPTION_SUFFIXES if picture.with_suffix(each).is_file()]
    if suffix is None and len(present) > 1:
        raise DatasetError(
            f"{picture}: has a .txt and a .caption file; choose with --caption .txt or --caption .caption"
        )
    chosen = [path for path in present if suffix is None or path.suffix == suffix]
    told += [f"{path} is not used: captions end in {suffix}" for path in present if path not in chosen]
    if chosen:
        return Taken(picture, _caption(chosen[0], told), chosen[0])
    if words:
        told.append(f"{picture} has no caption: it gets the folder's words '{words}'")
    return Taken(picture, words, None)


def _passed_over(folder: Path, files: Sequence[Path], stems: Set[str]) -> Iterator[str]:
    """A note for all in a folder that is neither an image nor an image's caption."""
    others: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in _CAPTION_SUFFIXES:
            if path.stem not in stems:
                yield f"{path} is not used: no image of that name"
            elif path.suffix not in _CAPTION_SUFFIXES:
                yield f"{path} is not used: captions end in {path.suffix.lower()}, rename it"
        elif path.suffix.lower() in UNREAD_SUFFIXES:
            yield f"{path} is not used: {path.suffix} images are not read, save it as PNG"
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            others.setdefault(path.suffix, []).append(path)
    for suffix, paths in others.items():  # kohya leaves a .npz beside each image
        if len(paths) == 1:
            yield f"{paths[0]} is not used: neither an image nor a caption"
        else:
            yield f"{folder}: {len(paths)} files *{suffix} are not used: neither images nor captions"
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield f"{path} is not used: folders inside are not read"


def _caption(path: Path, told: list[str]) -> str:
    """A caption file on one line; what is odd about it is told."""
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        told.append(f"{path} is empty; describe the picture in it")
    elif len(lines) > 1:
        told.append(
            f"{path} has {len(lines)} lines, of which kohya reads the first; here they are one caption"
        )
    return " ".join(" ".join(lines).split())
