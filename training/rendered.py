"""How near held-out images come when they are rendered: what `pick = "likeness"` goes by.

Each is made the way a render makes it, out of the engine's render under the image's caption and controls,
and compared with what it should be. A picture's noise is its own and always the same, so two validations
differ by the weights alone, and nothing is drawn from the training's random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.diffuse import ControlUse, Img2ImgSettings, img2img
from pipeline.errors import DatasetError
from pipeline.image import UInt8Array, resize
from training.dataset import Dataset
from training.example import Example
from training.likeness import MIN_REGION_PIXELS, distance, look_distance
from training.schema import Concept, ConceptKind

if TYPE_CHECKING:
    from pipeline.models import Model

STRENGTH, STEPS = 0.5, 10  # as presets/mini_film.toml; the other presets' 24 and 30 steps would cost thrice
SIDE = 128  # px of the shorter side, for which the measures' scales are made (docs/measures.md)
_INSIDE = 128  # of a mask's 255


def check_regions(held_out: Dataset) -> None:
    """Raise `DatasetError` where an image could not be judged by its mask."""
    for example in held_out.examples:
        concept = held_out.file.concept[example.concept]
        pixels = int(_region(example).sum())
        if concept.kind != "style" and pixels < MIN_REGION_PIXELS:
            raise DatasetError(
                f"{held_out.path}:train.pick: 'likeness' judges held-out {example.path.name} of "
                f"'{concept.trigger}' inside its mask, which has {pixels} white pixels there, fewer than "
                f"{MIN_REGION_PIXELS} of {SIDE} a side; take the image out, or try another train.seed"
            )


def distances(
    model: Model, examples: Sequence[Example], concepts: Sequence[Concept], *, seed: int
) -> dict[str, float]:
    """The mean distance of each concept's examples, by trigger, with the model as it is now: 0 is the same.

    The examples have engine renders. Raises what `img2img` raises.
    """
    of_concept: dict[str, list[float]] = {}
    for example, picture in zip(examples, render(model, examples, seed=seed), strict=True):
        concept = concepts[example.concept]
        found = of_concept.setdefault(concept.trigger, [])
        found.append(distance_to(example, picture, kind=concept.kind))
    return {trigger: float(np.mean(found)) for trigger, found in of_concept.items()}


def distance_to(example: Example, picture: UInt8Array, *, kind: ConceptKind) -> float:
    """How unlike an example's image a picture [H, W, 3] is: a style by its colours, else inside the mask.

    Both are compared at `SIDE`: at 1024 the coarse levels of the measures would be fine ones.
    """
    seen, wanted = _reduced(picture), _reduced(example.image)
    if kind == "style":
        return look_distance(seen, wanted)
    return distance(seen, wanted, mask=_region(example))


def render(model: Model, examples: Sequence[Example], *, seed: int) -> list[UInt8Array]:
    """Each example's engine render restyled, uint8 RGB [H, W, 3]; number k has noise of its own."""
    model.said.clear()  # steps may have changed what a prompt means
    pictures: dict[int, UInt8Array] = {}
    for numbers in _alike(examples, at_once=model.family.frames_at_once):
        some = [examples[number] for number in numbers]
        kinds = sorted(some[0].controls)
        settings = Img2ImgSettings(
            prompt="",
            strength=STRENGTH,
            steps=STEPS,
            guidance=model.family.guidance,
            controls=tuple(ControlUse(kind) for kind in kinds),
        )
        made = img2img(
            model,
            np.stack([_engine(example) for example in some]),
            {kind: np.stack([example.controls[kind] for example in some]) for kind in kinds},
            settings,
            [seed + number for number in numbers],
            prompts=[(example.caption, "") for example in some],
        )
        pictures |= dict(zip(numbers, made, strict=True))
    return [pictures[number] for number in range(len(examples))]


def _alike(examples: Sequence[Example], *, at_once: int) -> list[list[int]]:
    """Numbers of examples of one size with the same controls, at most `at_once` together."""
    groups: dict[object, list[int]] = {}
    for number, example in enumerate(examples):
        groups.setdefault((example.image.shape, tuple(sorted(example.controls))), []).append(number)
    return [group[i : i + at_once] for group in groups.values() for i in range(0, len(group), at_once)]


def _engine(example: Example) -> UInt8Array:
    assert example.engine is not None, "the dataset file's schema asks for engine renders"
    return example.engine


def _region(example: Example) -> NDArray[np.bool_]:
    """Where a picture is judged, bool [h, w] at `SIDE`: in the mask, everywhere without one."""
    if example.mask is None:
        return np.ones(_reduced(example.image).shape[:2], bool)
    return _reduced(example.mask) >= _INSIDE


def _reduced(picture: UInt8Array) -> UInt8Array:
    """A picture [H, W, ...] whose shorter side has `SIDE` pixels at most."""
    height, width = picture.shape[:2]
    by = SIDE / min(height, width)
    if by >= 1.0:
        return picture
    return resize(picture, height=round(by * height), width=round(by * width))
