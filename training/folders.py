"""A concept's folders: images with a caption beside each, and pictures of the same stem elsewhere."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.files import write_bytes
from pipeline.image import UInt8Array, read_image, resize
from training.buckets import crop_box

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
CAPTION_SUFFIXES = (".txt", ".caption")
UNREAD_SUFFIXES = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".exr")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file's name or place; `rule` as in docs/datasets.md."""

    rule: str
    path: Path
    text: str


@dataclass(frozen=True)
class Listing:
    """What lies in a folder of images. No pixels and no captions are read."""

    images: tuple[Path, ...]
    """By name, those with a fault too."""
    faults: tuple[Fault, ...]


def list_folder(folder: Path) -> Listing:
    """The images of a folder that is there, and every file in it that training would pass over."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in entries if path.is_file()]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    faults = [*_same_names(images)]
    captions = {path.stem: path for path in entries if path.suffix.lower() == ".txt"}
    stems = {path.stem: path for path in images}
    faults += [
        Fault("no-caption", path, f"no caption; write {path.stem}.txt beside it{_meant(path, captions)}")
        for path in images
        if path.stem not in captions
    ]
    for path in entries:
        if path.is_symlink() and not path.exists():
            faults.append(Fault("unread-image", path, "is a link to nothing; put the file there"))
        elif path.suffix.lower() in (*IMAGE_SUFFIXES, *CAPTION_SUFFIXES) and path not in files:
            what = "folder" if path.is_dir() else "device or pipe"
            faults.append(Fault("unread-image", path, f"is a {what}, no file; rename it or take it out"))
        elif path.is_dir() and _has_images(path):
            faults.append(Fault("unread-image", path, "folders inside are not read; move its images up"))
        elif path.suffix.lower() in UNREAD_SUFFIXES:
            text = f"{path.suffix} images are not read; save it as {path.stem}.png"
            faults.append(Fault("unread-image", path, text))
        elif path in files and path.suffix.lower() in CAPTION_SUFFIXES:
            faults += _unused_caption(path, stems)
    return Listing(tuple(images), tuple(faults))


def _has_images(folder: Path) -> bool:
    """Whether there are images in a folder or below it. Raises OSError where that cannot be seen."""

    def fail(error: OSError) -> None:
        raise error

    inside = (name for _, _, names in os.walk(folder, onerror=fail) for name in names)
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in inside)


def _same_names(images: Sequence[Path]) -> Iterator[Fault]:
    """Images that share a caption, or whose names are one on disks that know no case (macOS, Windows)."""
    seen: dict[str, Path] = {}
    for path in images:
        first = seen.setdefault(_folded(path.stem), path)
        if first is path:
            continue
        if first.stem == path.stem:
            text = f"{first.name} has the same stem, so they share a caption; rename one"
        else:
            text = f"{first.name} is the same name but for case or accents' encoding; rename one"
        yield Fault("same-stem", path, text)


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _meant(image: Path, captions: Mapping[str, Path]) -> str:
    """A hint at a caption whose name is the image's but for case or the encoding of accents."""
    near = [path for stem, path in captions.items() if _folded(stem) == _folded(image.stem)]
    return f" ('{near[0].name}' differs in case or in accents' encoding)" if near else ""


def _unused_caption(path: Path, stems: Mapping[str, Path]) -> Iterator[Fault]:
    if path.stem not in stems:
        yield Fault("no-image", path, "a caption without an image; add it or delete it")
    elif path.suffix != ".txt":
        text = f"captions ending in {path.suffix} are not read; rename it to {path.stem}.txt"
        yield Fault("unused-caption", path, text)


def images_in(folder: Path, where: str) -> list[Path]:
    """The images of a folder, by name. Raises `DatasetError`: each needs its caption, each file its use."""
    if not folder.is_dir():
        raise DatasetError(f"{where}.images: no folder {folder}; put the training images there")
    listing = list_folder(folder)
    if not listing.images and not listing.faults:
        expected = ", ".join(IMAGE_SUFFIXES)
        raise DatasetError(f"{where}.images: no images in {folder}; expected files ending in {expected}")
    raise_first([f"{fault.path}: {fault.text}" for fault in listing.faults])
    return list(listing.images)


def caption_of(image: Path) -> str:
    """The caption beside an image on one line. Raises `DatasetError` where it is not UTF-8 text."""
    return " ".join(read_text(image.with_suffix(".txt")).split())


def read_text(path: Path) -> str:
    """A caption file as it is. Raises `DatasetError` where it is not UTF-8 text."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark in front
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: cannot be read as UTF-8 text ({error}); save the caption again"
        ) from None
    if "\0" in text:  # UTF-16 without its mark is UTF-8 to the letter
        raise DatasetError(f"{path}: holds NUL characters, as UTF-16 does; save the caption as UTF-8 text")
    return text


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all. Raises `DatasetError` by the source, `OutputError` by the target."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DatasetError(f"{source}: cannot be read ({error.strerror}); check the file") from None
    write_bytes(target, content)


def folder_beside(root: Path, name: str | None, key: str, where: str, *, advice: str) -> Path | None:
    """The folder that a concept's key names, None where it names none. Raises `DatasetError`: not there."""
    if name is None:
        return None
    folder = root / name
    if not folder.is_dir():
        raise DatasetError(f"{where}.{key}: no folder {folder}; put {advice} there, or drop {key}")
    return folder


def read_beside(
    folder: Path, image: Path, whole: UInt8Array, *, bucket: tuple[int, int], advice: str
) -> UInt8Array:
    """The picture of the same stem and size in another folder, cut alike; `advice`: if there is none."""
    path = folder / f"{image.stem}.png"
    if not path.is_file():
        raise DatasetError(f"{path}: missing; {advice}")
    picture = read_image(path, error=DatasetError)
    if picture.shape != whole.shape:
        found, wanted = (f"{array.shape[1]}x{array.shape[0]}" for array in (picture, whole))
        raise DatasetError(f"{path}: {found} pixels, but {image.name} has {wanted}; make it the same size")
    return cut(picture, bucket)


def cut(image: UInt8Array, bucket: tuple[int, int]) -> UInt8Array:
    """The centred part of an image with the bucket's aspect, area-averaged down to it; never enlarged."""
    top, left, tall, wide = crop_box(*image.shape[:2], bucket=bucket)
    part: UInt8Array = resize(image[top : top + tall, left : left + wide], height=bucket[0], width=bucket[1])
    return part


def raise_first(faults: list[str]) -> None:
    """Raise `DatasetError` with the first fault and the number of the others, if there are any."""
    if faults:
        others = len(faults) - 1
        more = f" (and {others} more {'fault' if others == 1 else 'faults'})" if others else ""
        raise DatasetError(faults[0] + more)
