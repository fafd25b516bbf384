"""Sample images of a training as one contact sheet: what it learns from, its controls, before and after.

The samples are pure text-to-image under control (img2img at strength 1 on grey frames), so nothing of the
training image itself helps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.diffuse import ControlUse, Img2ImgSettings, img2img
from pipeline.image import UInt8Array
from pipeline.models import Model
from pipeline.output import write_contact_sheet
from training.adapters.trained import Trained
from training.dataset import Dataset
from training.example import Example

NUM_SAMPLES = 4
STEPS, GUIDANCE = 10, 2.0  # the miniature's presets have 1: here the difference should show
_GREY = 128
_CELL_HEIGHT = 256  # pixels; the miniature's 128 are too small to judge


@dataclass(frozen=True)
class Sample:
    """One sample image to draw: a prompt, and the example that lends its controls."""

    prompt: str
    example: Example


def choose_samples(dataset: Dataset) -> list[Sample]:
    """The dataset's own prompts if it names any; captions of examples spread evenly over it otherwise."""
    examples = dataset.examples
    prompts = dataset.file.train.samples
    count = len(prompts) or min(NUM_SAMPLES, len(examples))
    spread = [examples[i * len(examples) // count] for i in range(count)]
    return [Sample(prompts[i] if prompts else example.caption, example) for i, example in enumerate(spread)]


def draw_samples(model: Model, samples: list[Sample], *, seed: int) -> list[UInt8Array]:
    """One image per sample with the model as it is now, uint8 RGB [H, W, 3], of its example's size."""
    images = []
    for number, sample in enumerate(samples):
        controls: Mapping[str, UInt8Array] = {kind: c[None] for kind, c in sample.example.controls.items()}
        settings = Img2ImgSettings(
            prompt=sample.prompt,
            negative="",
            strength=1.0,
            steps=STEPS,
            guidance=GUIDANCE,
            scheduler="ddim",
            controls=tuple(ControlUse(kind=kind, weight=1.0, start=0.0, end=1.0) for kind in controls),
        )
        grey = np.full((1, *sample.example.image.shape), _GREY, np.uint8)
        images.append(img2img(model, grey, controls, settings, [seed + number])[0])
    return images


def write_sheet(trained: Trained, dataset: Dataset, path: Path) -> None:
    """Draw the samples without and with what is trained and write the sheet. Raises OutputError."""
    samples = choose_samples(dataset)
    seed = dataset.file.train.seed
    trained.model.said.clear()  # steps may have changed what a prompt means
    after = draw_samples(trained.model, samples, seed=seed)
    with trained.disabled():
        before = draw_samples(trained.model, samples, seed=seed)
    columns = ["training image", *dataset.control_kinds, "before", "after"]
    rows = [
        [
            sample.example.image,
            *(sample.example.controls.get(kind, np.zeros_like(after[i])) for kind in dataset.control_kinds),
            before[i],
            after[i],
        ]
        for i, sample in enumerate(samples)
    ]
    write_contact_sheet(path, rows, columns, height=_CELL_HEIGHT)
