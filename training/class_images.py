"""Class images (DreamBooth's prior preservation, Ruiz et al. 2022): the class as it was, without the concept.

    iris/persons/0001.png   iris/persons/0001.txt       the caption is optional; without one: the class

In each step every image of a concept that has them brings one along, which weighs `train.prior_weight`.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DatasetError
from training.buckets import choose_bucket
from training.captions import names
from training.dataset import Dataset, cut_example
from training.example import Example
from training.folders import IMAGE_SUFFIXES, caption_of
from training.pictures import read_picture

log = logging.getLogger(__name__)


def with_class_images(data: Dataset, *, bucket_step: int) -> Dataset:
    """The dataset with the class images of all concepts that have some. Raises `DatasetError`."""
    priors = [
        example
        for index, concept in enumerate(data.file.concept)
        if concept.prior_images is not None
        for example in _of_concept(data, index, bucket_step=bucket_step)
    ]
    return replace(data, priors=tuple(priors))


def _of_concept(data: Dataset, index: int, *, bucket_step: int) -> list[Example]:
    concept = data.file.concept[index]
    folder = data.path.parent / str(concept.prior_images)
    images = _images(folder, f"{data.path}:concept[{index + 1}].prior_images", concept.class_word)
    choose = functools.partial(choose_bucket, base=data.size, step=bucket_step)
    examples = []
    for image in images:
        caption = caption_of(image) if image.with_suffix(".txt").is_file() else ""
        if names(caption, concept.trigger):
            raise DatasetError(
                f"{image.with_suffix('.txt')}: says the trigger '{concept.trigger}'; class images are those "
                "that do not show it: take the word out, or the image"
            )
        read = read_picture(image)
        for note in read.notes:
            log.warning("%s: %s", image, note)
        text = caption or concept.class_word
        examples.append(cut_example(image, read.pixels, text, index, choose=choose, size=data.size))
    return examples


def _images(folder: Path, where: str, class_word: str) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{where}: no folder {folder}; put images of '{class_word}' there")
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not images:
        raise DatasetError(f"{where}: no images in {folder}; expected {', '.join(IMAGE_SUFFIXES)}")
    return images
