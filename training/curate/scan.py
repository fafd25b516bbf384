"""What lies in the folders of a dataset, faults included: the checks tell all of them, not only the first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError
from training.curate.findings import Finding
from training.folders import IMAGE_SUFFIXES, caption_of, list_folder
from training.schema import Concept, DatasetFile


@dataclass(frozen=True)
class Still:
    """One image file and its caption; "" where the caption is missing, empty or unreadable."""

    path: Path
    caption: str

    @property
    def caption_path(self) -> Path:
        """Where the caption is, or should be."""
        return self.path.with_suffix(".txt")


@dataclass(frozen=True)
class Folder:
    """The images of one concept, in the order of their names."""

    concept: Concept
    where: str
    """`dataset.toml:concept[1]`"""
    root: Path
    """Where the dataset file is."""
    stills: tuple[Still, ...]
    faults: tuple[Finding, ...]

    @property
    def path(self) -> Path:
        """The folder of the images."""
        return self.root / self.concept.images

    @property
    def captioned(self) -> tuple[Still, ...]:
        """The images whose caption says something."""
        return tuple(still for still in self.stills if still.caption)


def scan(path: Path, file: DatasetFile) -> tuple[Folder, ...]:
    """List every concept's images and captions. Reads no pixels and raises for no fault in a folder."""
    return tuple(
        _scan_concept(path.parent, concept, f"{path}:concept[{number}]")
        for number, concept in enumerate(file.concept, start=1)
    )


def _scan_concept(root: Path, concept: Concept, where: str) -> Folder:
    folder = root / concept.images
    if not folder.is_dir():
        fault = Finding("error", "no-images", where, f"no folder {folder}; put the images there")
        return Folder(concept, where, root, (), (fault,))
    listing = list_folder(folder)
    faults = [Finding("error", fault.rule, str(fault.path), fault.text) for fault in listing.faults]
    if not listing.images:
        expected = ", ".join(IMAGE_SUFFIXES)
        text = f"no images in {folder}; expected files ending in {expected}"
        faults.append(Finding("error", "no-images", where, text))
    stills = []
    for image in listing.images:
        caption, found = _read_caption(image, concept)
        stills.append(Still(image, caption))
        faults += found
    return Folder(concept, where, root, tuple(stills), tuple(faults))


def _read_caption(image: Path, concept: Concept) -> tuple[str, list[Finding]]:
    path = image.with_suffix(".txt")
    if not path.is_file():
        return "", []  # told already
    try:
        caption = caption_of(image)
    except DatasetError as error:
        text = str(error).removeprefix(f"{path}: ")
        return "", [Finding("error", "unreadable-caption", str(path), text)]
    if caption:
        return caption, []
    text = f"empty caption; describe the picture and name the trigger '{concept.trigger}'"
    return "", [Finding("error", "empty-caption", str(path), text)]
