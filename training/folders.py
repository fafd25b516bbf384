"""A concept's folders: images with a caption beside each, and pictures of the same stem elsewhere."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.image import UInt8Array, read_image, resize

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def images_in(folder: Path, where: str) -> list[Path]:
    """The images of a folder, by name. Raises `DatasetError` unless each has its caption."""
    if not folder.is_dir():
        raise DatasetError(f"{where}.images: no folder {folder}; put the training images there")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    texts = {path.stem: path for path in files if path.suffix.lower() == ".txt"}
    raise_first(
        [
            f"{path}: captions ending in .caption are not read; rename it to {path.stem}.txt"
            for path in files
            if path.suffix.lower() == ".caption"
        ]
    )
    if not images:
        expected = ", ".join(IMAGE_SUFFIXES)
        raise DatasetError(f"{where}.images: no images in {folder}; expected files ending in {expected}")
    stems: dict[str, Path] = {}
    for path in images:
        if path.stem in stems:
            raise DatasetError(
                f"{path}: {stems[path.stem].name} has the same stem, so they share a caption; rename one"
            )
        stems[path.stem] = path
    raise_first(
        [f"{path}: no caption; write {path.stem}.txt beside it" for path in images if path.stem not in texts]
    )
    raise_first(
        [
            f"{path}: a caption without an image; add it or delete it"
            for stem, path in texts.items()
            if stem not in stems
        ]
    )
    return images


def caption_of(image: Path) -> str:
    """The caption beside an image on one line. Raises `DatasetError` where it is not UTF-8 text."""
    path = image.with_suffix(".txt")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: cannot be read as UTF-8 text ({error}); save the caption again"
        ) from None
    return " ".join(text.split())


def folder_beside(root: Path, name: str | None, key: str, where: str, *, advice: str) -> Path | None:
    """The folder that a concept's key names, None where it names none. Raises `DatasetError`: not there."""
    if name is None:
        return None
    folder = root / name
    if not folder.is_dir():
        raise DatasetError(f"{where}.{key}: no folder {folder}; put {advice} there, or drop {key}")
    return folder


def read_beside(folder: Path, image: Path, whole: UInt8Array, *, size: int, advice: str) -> UInt8Array:
    """The picture of the same stem and size in another folder, cut alike; `advice`: if there is none."""
    path = folder / f"{image.stem}.png"
    if not path.is_file():
        raise DatasetError(f"{path}: missing; {advice}")
    picture = read_image(path, error=DatasetError)
    if picture.shape != whole.shape:
        found, wanted = (f"{array.shape[1]}x{array.shape[0]}" for array in (picture, whole))
        raise DatasetError(f"{path}: {found} pixels, but {image.name} has {wanted}; make it the same size")
    return square(picture, size)


def square(image: UInt8Array, size: int) -> UInt8Array:
    """The centred square of an image, area-averaged down to `size`; never enlarged."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square: UInt8Array = resize(image[top : top + side, left : left + side], height=size, width=size)
    return square


def raise_first(faults: list[str]) -> None:
    """Raise `DatasetError` with the first fault and the number of the others, if there are any."""
    if faults:
        more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
        raise DatasetError(faults[0] + more)
