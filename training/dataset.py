"""A dataset on disk: images with their captions beside them, and control images in folders beside the images.

    iris/dataset.toml
    iris/images/0001.png   iris/images/0001.txt
    iris/depth/0001.png    iris/pose/0001.png       optional: control images
    iris/engine/0001.png                            the folder that `engine` names, if any

Everything is checked before a model is trained, and the first fault is told with the file's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.image import UInt8Array, read_image, resize
from training.captions import lint, without_trigger
from training.schema import Concept, DatasetFile

BESIDE_THE_LORA = {"checkpoint_every", "sample_every", "samples"}  # settings that change none of its weights
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Example:
    """One training image, cut to the model's square size."""

    path: Path
    image: UInt8Array  # [H, W, 3] RGB
    caption: str
    concept: int  # index into the file's concepts
    controls: Mapping[str, UInt8Array]  # kind -> [H, W, 3] RGB
    engine: UInt8Array | None = None  # [H, W, 3] RGB, what img2img would start from


@dataclass(frozen=True)
class Dataset:
    """Checked examples, in the order of the concepts and then of the file names."""

    path: Path
    file: DatasetFile
    examples: tuple[Example, ...]
    size: int

    @property
    def control_kinds(self) -> tuple[str, ...]:
        """The control kinds that at least one example has, sorted."""
        return tuple(sorted({kind for example in self.examples for kind in example.controls}))

    def with_steps(self, steps: int) -> Dataset:
        """The same dataset with another number of training steps."""
        train = self.file.train.model_copy(update={"steps": steps})
        return replace(self, file=self.file.model_copy(update={"train": train}))

    def digest(self) -> str:
        """sha256 over settings, captions and pixels: equal digests train equal LoRAs."""
        settings = self.file.model_dump_json(by_alias=True, exclude={"train": BESIDE_THE_LORA})
        state = hashlib.sha256(settings.encode())
        for example in self.examples:
            state.update(f"\0{example.path.name}\0{example.concept}\0{example.caption}\0".encode())
            state.update(example.image.tobytes())
            for kind in sorted(example.controls):
                state.update(kind.encode())
                state.update(example.controls[kind].tobytes())
            if example.engine is not None:
                state.update(b"engine" + example.engine.tobytes())
        return state.hexdigest()


def load_dataset(path: Path, file: DatasetFile, *, size: int, control_kinds: Sequence[str]) -> Dataset:
    """Read all that the dataset file at `path` names, for a model of `size` pixels that knows these controls.

    Raises `DatasetError`, one line, on the first fault: see the module's tests for the list.
    """
    examples: list[Example] = []
    for index, concept in enumerate(file.concept):
        where = f"{path}:concept[{index + 1}]"
        examples += _read_concept(path.parent, concept, index, size=size, kinds=control_kinds, where=where)
    return Dataset(path=path, file=file, examples=tuple(examples), size=size)


def check_captions(dataset: Dataset, *, count_tokens: Callable[[str], int], max_tokens: int) -> None:
    """Lint all that training and its samples will encode, with the model's own tokenizer.

    That is every caption; with the class word for the trigger too where there is a prior weight; and the
    sample prompts. Raises `DatasetError` with the first fault.
    """
    faults = [
        f"{example.path.with_suffix('.txt')}: {fault}"
        for example in dataset.examples
        for fault in lint(
            example.caption,
            trigger=dataset.file.concept[example.concept].trigger,
            invariant=dataset.file.concept[example.concept].invariant,
            count_tokens=count_tokens,
            max_tokens=max_tokens,
        )
    ]
    reads = f"tokens, the text encoder reads {max_tokens}; shorten"
    if dataset.file.train.prior_weight > 0:
        for example in dataset.examples:
            concept = dataset.file.concept[example.concept]
            plain = without_trigger(example.caption, trigger=concept.trigger, class_word=concept.class_word)
            if (found := count_tokens(plain)) > max_tokens:
                where = (
                    f"{example.path.with_suffix('.txt')}: with '{concept.class_word}' for '{concept.trigger}'"
                )
                faults.append(f"{where} (train.prior_weight) {found} {reads} the caption")
    for number, prompt in enumerate(dataset.file.train.samples, start=1):
        if (found := count_tokens(prompt)) > max_tokens:
            faults.append(f"{dataset.path}:train.samples[{number}]: {found} {reads} the prompt")
    _raise_first(faults)


def _read_concept(
    root: Path, concept: Concept, index: int, *, size: int, kinds: Sequence[str], where: str
) -> list[Example]:
    folder = root / concept.images
    images = _images_in(folder, where)
    captions = {path: _caption_of(path, concept) for path in images}
    _raise_first(
        [
            f"{path.with_suffix('.txt')}: {fault}"
            for path, caption in captions.items()
            for fault in lint(caption, trigger=concept.trigger, invariant=concept.invariant)
        ]
    )
    used = _control_kinds(folder, concept, kinds, where)
    renders = _engine_folder(root, concept, where)
    examples = []
    for path in images:
        whole = read_image(path, error=DatasetError)
        height, width = whole.shape[:2]
        if min(height, width) < size:
            raise DatasetError(
                f"{path}: {width}x{height} pixels, the model trains at {size}x{size}; use a larger image"
            )
        controls = {
            kind: _read_beside(
                folder.parent / kind,
                path,
                whole,
                size=size,
                advice=f"{path.name} needs its control image, or take '{kind}' out of {where}.controls",
            )
            for kind in used
        }
        engine = None
        if renders is not None:
            advice = f"{path.name} needs the engine's render of it, or take engine out of {where}"
            engine = _read_beside(renders, path, whole, size=size, advice=advice)
        examples.append(Example(path, _square(whole, size), captions[path], index, controls, engine))
    return examples


def _images_in(folder: Path, where: str) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{where}.images: no folder {folder}; put the training images there")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    texts = {path.stem: path for path in files if path.suffix.lower() == ".txt"}
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
    _raise_first(
        [f"{path}: no caption; write {path.stem}.txt beside it" for path in images if path.stem not in texts]
    )
    _raise_first(
        [
            f"{path}: a caption without an image; add it or delete it"
            for stem, path in texts.items()
            if stem not in stems
        ]
    )
    return images


def _caption_of(image: Path, concept: Concept) -> str:
    path = image.with_suffix(".txt")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: cannot be read as UTF-8 text ({error}); save the caption again"
        ) from None
    return " ".join(text.split())


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


def _engine_folder(root: Path, concept: Concept, where: str) -> Path | None:
    if concept.engine is None:
        return None
    folder = root / concept.engine
    if not folder.is_dir():
        raise DatasetError(
            f"{where}.engine: no folder {folder}; put the engine's render of each image there, or drop engine"
        )
    return folder


def _read_beside(folder: Path, image: Path, whole: UInt8Array, *, size: int, advice: str) -> UInt8Array:
    """The picture of the same stem and size in another folder, cut alike; `advice`: if there is none."""
    path = folder / f"{image.stem}.png"
    if not path.is_file():
        raise DatasetError(f"{path}: missing; {advice}")
    picture = read_image(path, error=DatasetError)
    if picture.shape != whole.shape:
        found, wanted = (f"{array.shape[1]}x{array.shape[0]}" for array in (picture, whole))
        raise DatasetError(f"{path}: {found} pixels, but {image.name} has {wanted}; make it the same size")
    return _square(picture, size)


def _square(image: UInt8Array, size: int) -> UInt8Array:
    """The centred square of an image, area-averaged down to `size`; never enlarged."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square: UInt8Array = resize(image[top : top + side, left : left + side], height=size, width=size)
    return square


def _raise_first(faults: list[str]) -> None:
    if faults:
        more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
        raise DatasetError(faults[0] + more)
