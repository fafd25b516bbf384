"""A dataset on disk: images with their captions beside them, and control images in folders beside the images.

    iris/dataset.toml
    iris/images/0001.png   iris/images/0001.txt
    iris/depth/0001.png    iris/pose/0001.png       optional: control images
    iris/engine/0001.png                            the folder that `engine` names, if any
    iris/masks/0001.png                             the folder that `masks` names, if any

Everything is checked before a model is trained, and the first fault is told with the file's name.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DatasetError
from pipeline.image import UInt8Array
from training.buckets import choose_bucket, crop_box, kept_share
from training.captions import lint
from training.example import Example
from training.exposure import balanced_repeats
from training.folders import caption_of, cut, folder_beside, images_in, raise_first, read_beside
from training.mirror import mirrored
from training.pictures import read_picture
from training.schema import Concept, DatasetFile

log = logging.getLogger(__name__)

# Settings that change none of its weights.
BESIDE_THE_LORA = {"checkpoint_every", "keep_every", "sample_every", "samples", "tensorboard"}
ONE_IMAGE = (
    "the only image of the dataset: nothing tells the concept from this one picture; add images, 15 to 30"
)
TELL_BELOW = 0.9  # share of an image that the cut keeps
_HELD_OUT = 4  # a stream of random numbers; training.schedule and training.order have the others
# Masks and shares are digested as they are; what captions may say is held by the captions themselves.
ABOUT_THE_IMAGES = {"masks", "weight", "views", "exceptions", "invariant", "variable", "mirror", "init_text"}


@dataclass(frozen=True)
class Dataset:
    """Checked examples, in the order of the concepts and then of the file names."""

    path: Path
    file: DatasetFile
    examples: tuple[Example, ...]
    size: int
    priors: tuple[Example, ...] = ()  # class images
    weights: tuple[float, ...] | None = None  # each concept's; None where the file counts repeats itself

    @property
    def control_kinds(self) -> tuple[str, ...]:
        """The control kinds that at least one example has, sorted."""
        return tuple(sorted({kind for example in self.examples for kind in example.controls}))

    @property
    def shares(self) -> tuple[float, ...]:
        """Each concept's part of all exposures, on any scale: its weight, or its repeats times its images."""
        if self.weights is not None:
            return self.weights
        concepts = self.file.concept
        own = [one.concept for one in self.examples if not one.is_mirrored]
        numbers = [own.count(index) for index in range(len(concepts))]
        return tuple(float(each.repeats * n) for each, n in zip(concepts, numbers, strict=True))

    @property
    def mirror_images(self) -> tuple[Example, ...]:
        """The examples of concepts with `mirror`, mirrored."""
        concepts = self.file.concept
        return tuple(mirrored(one) for one in self.examples if concepts[one.concept].mirror)

    def split(self) -> tuple[Dataset, Dataset]:
        """What is trained on, and what `train.validation` holds out; always the same images of a dataset.

        What is trained on has the mirrored images too, where a concept asks for them.

        Raises `DatasetError` where a concept would keep no image to train on.
        """
        asked, held = self.file.train.validation, set[int]()
        for index, concept in enumerate(self.file.concept):
            own = [i for i, one in enumerate(self.examples) if one.concept == index]
            count = int(asked) if asked >= 1 else math.ceil(asked * len(own))
            if count >= len(own):
                raise DatasetError(
                    f"{self.path}:train.validation: {asked:g} holds out {count} of the {len(own)} images of "
                    f"'{concept.trigger}'; leave at least one to train on"
                )
            order = np.random.default_rng([self.file.train.seed, _HELD_OUT, index]).permutation(len(own))
            held |= {own[place] for place in order[:count]}
        kept = (tuple(e for i, e in enumerate(self.examples) if (i in held) == out) for out in (False, True))
        training, validation = (replace(self, examples=examples) for examples in kept)
        return replace(training, examples=(*training.examples, *training.mirror_images)), validation

    def with_name(self, name: str) -> Dataset:
        """The same dataset for a result of another name."""
        return replace(self, file=self.file.model_copy(update={"name": name}))

    def with_steps(self, steps: int) -> Dataset:
        """The same dataset with another number of training steps."""
        train = self.file.train.model_copy(update={"steps": steps})
        return replace(self, file=self.file.model_copy(update={"train": train}))

    def digest(self) -> str:
        """sha256 over settings, captions and pixels: equal digests train equal LoRAs."""
        unused: dict[str, Any] = {"train": BESIDE_THE_LORA, "concept": {"__all__": ABOUT_THE_IMAGES}}
        settings = self.file.model_dump_json(by_alias=True, exclude=unused)
        state = hashlib.sha256(settings.encode())
        state.update(repr([share / sum(self.shares) for share in self.shares]).encode())
        mirrors = [concept.trigger for concept in self.file.concept if concept.mirror]
        state.update(repr(mirrors).encode() if mirrors else b"")
        starts = [(concept.trigger, concept.init_text) for concept in self.file.concept if concept.init_text]
        state.update(repr(starts).encode() if starts else b"")
        for example in (*self.examples, *self.priors):
            state.update(f"\0{example.path.name}\0{example.concept}\0{example.caption}\0".encode())
            state.update(example.image.tobytes())
            for kind in sorted(example.controls):
                state.update(kind.encode())
                state.update(example.controls[kind].tobytes())
            if example.engine is not None:
                state.update(b"engine" + example.engine.tobytes())
            if example.mask is not None:
                state.update(b"mask" + example.mask.tobytes())
        return state.hexdigest()


def load_dataset(
    path: Path, file: DatasetFile, *, size: int, control_kinds: Sequence[str], bucket_step: int = 0
) -> Dataset:
    """Read all that the dataset file at `path` names, for a model of `size` pixels that knows these controls.

    `bucket_step`: images keep their aspect with sides in steps of so many pixels; 0: centred squares.
    Raises `DatasetError`, one line, on the first fault: see the module's tests for the list.
    """
    examples: list[Example] = []
    choose = functools.partial(choose_bucket, base=size, step=bucket_step)
    for index, concept in enumerate(file.concept):
        where = f"{path}:concept[{index + 1}]"
        examples += _read_concept(
            path.parent, concept, index, choose=choose, size=size, kinds=control_kinds, where=where
        )
    for outer, inner in file.shared_triggers:
        log.warning(
            "%s:concept[%d].trigger: '%s' says the trigger '%s' of concept[%d] too; words of their own keep "
            "them apart",
            path, outer + 1, file.concept[outer].trigger, file.concept[inner].trigger, inner + 1,
        )  # fmt: skip
    if len(examples) == 1:
        raise DatasetError(f"{examples[0].path}: {ONE_IMAGE}")
    counts = [sum(example.concept == index for example in examples) for index in range(len(file.concept))]
    weights = tuple(1.0 if each.weight is None else each.weight for each in file.concept)
    return Dataset(
        path=path,
        file=_weighed(path, file, counts),
        examples=tuple(examples),
        size=size,
        weights=weights if file.is_balanced else None,
    )


def _weighed(path: Path, file: DatasetFile, counts: Sequence[int]) -> DatasetFile:
    """The file with each concept's repeats worked out from its weight, unless it counts repeats itself."""
    if not file.is_balanced:
        return file
    weights = [1.0 if concept.weight is None else concept.weight for concept in file.concept]
    try:
        repeats = balanced_repeats(weights, counts)
    except DatasetError as error:
        raise DatasetError(f"{path}:concept: {error}") from None
    for concept, times, count in zip(file.concept, repeats, counts, strict=True):
        log.info("'%s': %d images, each %d times an epoch", concept.trigger, count, times)
    concepts = zip(file.concept, repeats, strict=True)
    return file.model_copy(
        update={"concept": tuple(each.model_copy(update={"repeats": times}) for each, times in concepts)}
    )


def _read_concept(
    root: Path,
    concept: Concept,
    index: int,
    *,
    choose: Callable[[int, int], tuple[int, int] | None],
    size: int,
    kinds: Sequence[str],
    where: str,
) -> list[Example]:
    folder = root / concept.images
    images = images_in(folder, where)
    captions = {path: caption_of(path) for path in images}
    raise_first(
        [
            f"{path.with_suffix('.txt')}: {fault}"
            for path, caption in captions.items()
            for fault in lint(caption, trigger=concept.trigger, invariant=concept.invariant)
        ]
    )
    advice = "the engine's render of each image"
    beside = _Beside(
        controls={
            kind: (folder.parent / kind, f"or take '{kind}' out of {where}.controls")
            for kind in _control_kinds(folder, concept, kinds, where)
        },
        engine=folder_beside(root, concept.engine, "engine", where, advice=advice),
        masks=folder_beside(root, concept.masks, "masks", where, advice="the mask of each image"),
        where=where,
    )
    examples = []
    for path in images:
        read = read_picture(path)
        for note in read.notes:
            log.warning("%s: %s", path, note)
        one = cut_example(path, read.pixels, captions[path], index, choose=choose, size=size)
        examples.append(beside.join(one, read.pixels))
    _tell_cut(concept, examples)
    return examples


def _tell_cut(concept: Concept, examples: Sequence[Example]) -> None:
    """Say how much of the images the cut to the model's shapes leaves out, where it is worth a word."""
    kept = {
        example.path: kept_share(*example.original, bucket=example.image.shape[:2]) for example in examples
    }
    cut_off = [path for path, share in kept.items() if share < TELL_BELOW]
    if cut_off:
        least = min(cut_off, key=lambda path: kept[path])
        log.warning(
            "'%s': training sees the middle of %d of %d images, of %s %.0f %%; "
            "lookdev dataset prepare cuts around a subject",
            concept.trigger, len(cut_off), len(examples), least, 100.0 * kept[least],
        )  # fmt: skip


def cut_example(
    path: Path,
    whole: UInt8Array,
    caption: str,
    concept: int,
    *,
    choose: Callable[[int, int], tuple[int, int] | None],
    size: int,
) -> Example:
    """An image [H, W, 3] cut to its bucket. Raises `DatasetError` where it is too small."""
    height, width = whole.shape[:2]
    bucket = choose(height, width)
    if bucket is None:
        raise DatasetError(
            f"{path}: {width}x{height} pixels, the model trains at {size}x{size}; use a larger image"
        )
    top, left, tall, _ = crop_box(height, width, bucket=bucket)
    shrink = bucket[0] / tall
    return Example(
        path=path,
        image=cut(whole, bucket),
        caption=caption,
        concept=concept,
        controls={},
        original=(height, width),
        corner=(round(top * shrink), round(left * shrink)),
    )


@dataclass(frozen=True)
class _Beside:
    """The folders of pictures that belong to a concept's images; None where there is none."""

    controls: Mapping[str, tuple[Path, str]]  # kind -> folder, and what to do without it
    engine: Path | None
    masks: Path | None
    where: str

    def join(self, example: Example, whole: UInt8Array) -> Example:
        """The example with its pictures out of the folders, cut as it is. Raises `DatasetError`."""
        name = example.path.name
        bucket = (example.image.shape[0], example.image.shape[1])

        def read(folder: Path, advice: str) -> UInt8Array:
            return read_beside(folder, example.path, whole, bucket=bucket, advice=f"{name} needs {advice}")

        controls = {
            kind: read(folder, f"its control image, {otherwise}")
            for kind, (folder, otherwise) in self.controls.items()
        }
        engine = mask = None
        if self.engine is not None:
            engine = read(self.engine, f"the engine's render of it, or take engine out of {self.where}")
        if self.masks is not None:
            mask = read(self.masks, f"its mask, or take masks out of {self.where}").max(axis=2)
            if not mask.any():
                raise DatasetError(
                    f"{self.masks / example.path.stem}.png: all black where {name} is looked at; "
                    "paint the subject white, or take the image out"
                )
        return replace(example, controls=controls, engine=engine, mask=mask)


def _control_kinds(folder: Path, concept: Concept, kinds: Sequence[str], where: str) -> tuple[str, ...]:
    """The kinds to train with: those asked for, otherwise every one whose folder is there."""
    if concept.controls is None:
        return tuple(kind for kind in kinds if (folder.parent / kind).is_dir())
    for kind in concept.controls:
        if kind not in kinds:
            known = ", ".join(kinds) or "none"
            raise DatasetError(f"{where}.controls: the model has no '{kind}' control; it has: {known}")
        if not (folder.parent / kind).is_dir():
            raise DatasetError(
                f"{where}.controls: no folder {folder.parent / kind}; add it or take '{kind}' out of controls"
            )
    return concept.controls
