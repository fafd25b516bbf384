"""Mirrored images: what is turned round, what is left out, and that none of it is counted twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import DatasetError
from training.caption_check import check_captions
from training.dataset import Dataset
from training.draws import run_order
from training.example import Example
from training.material import Material
from training.mirror import mirrored, mirrored_caption
from training.resolve import with_steps
from training.schema import Concept, DatasetFile, TrainSettings


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def example(number: int, concept: int = 0) -> Example:
    return Example(
        path=Path(f"{number}.png"),
        image=picture(number),
        caption="a hall, light from the left, Grade" if concept == 0 else "a hall, Other",
        concept=concept,
        controls={"depth": picture(50), "pose": picture(51), "normal": picture(52)},
        engine=picture(53),
        mask=picture(54)[..., 0],
    )


def dataset(*, mirror: bool, train: dict[str, object] | None = None) -> Dataset:
    concepts = tuple(
        Concept.model_validate({"trigger": t, "class": "look", "kind": "style", "mirror": mirror and not i})
        for i, t in enumerate(("Grade", "Other"))
    )
    file = DatasetFile(name="x", concept=concepts, train=TrainSettings.model_validate(train or {}))
    examples = tuple(example(number, concept=number % 2) for number in range(8))
    return Dataset(Path("d.toml"), file, examples, size=8, weights=(1.0, 1.0))


def test_pictures_turn_round_and_words_with_them() -> None:
    one = example(1)
    turned = mirrored(one)
    np.testing.assert_array_equal(turned.image, one.image[:, ::-1])
    assert turned.engine is not None and one.engine is not None
    np.testing.assert_array_equal(turned.engine, one.engine[:, ::-1])
    assert turned.mask is not None and one.mask is not None
    np.testing.assert_array_equal(turned.mask, one.mask[:, ::-1])
    assert turned.caption == "a hall, light from the right, Grade"
    again = mirrored(turned)
    np.testing.assert_array_equal(again.image, one.image)
    assert again.caption == one.caption


def test_a_control_with_sides_is_left_out() -> None:
    # Mirrored, a skeleton's left arm has the right one's colour, and a normal points the wrong way.
    one = example(1)
    turned = mirrored(one)
    assert set(turned.controls) == {"depth"}
    np.testing.assert_array_equal(turned.controls["depth"], one.controls["depth"][:, ::-1])


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("profile left, Right hand up", "profile right, Left hand up"),
        ("LEFT of the leftmost door", "RIGHT of the rightmost door"),
        ("a leftover, bright, cleft", "a leftover, bright, cleft"),
    ],
)
def test_left_and_right_change_places_in_a_caption(said: str, wanted: str) -> None:
    assert mirrored_caption(said) == wanted
    assert mirrored_caption(wanted) == said


def test_only_what_is_trained_on_and_asks_for_it_is_mirrored() -> None:
    plain, _ = dataset(mirror=False).split()
    assert not any(one.is_mirrored for one in plain.examples)
    training, held_out = dataset(mirror=True, train={"validation": 1.0}).split()
    assert not any(one.is_mirrored for one in held_out.examples)
    turned = [one for one in training.examples if one.is_mirrored]
    kept = [one for one in training.examples if not one.is_mirrored and one.concept == 0]
    # Neither another concept's images, nor a held-out image by way of its mirror.
    assert [one.path for one in turned] == [one.path for one in kept]
    assert {one.concept for one in turned} == {0}


def test_a_mirrored_concept_gets_no_more_exposures_and_no_more_steps() -> None:
    whole = dataset(mirror=True, train={"batch": 4})
    assert (
        with_steps(whole).file.train.steps
        == with_steps(dataset(mirror=False, train={"batch": 4})).file.train.steps
    )
    training, _ = whole.split()
    material = _material(training)
    order = run_order(material, TrainSettings(steps=30, batch=4))
    times = np.bincount(order, minlength=len(training.examples))
    by_concept = [
        sum(times[i] for i, one in enumerate(training.examples) if one.concept == c) for c in (0, 1)
    ]
    assert by_concept == [60, 60]
    of_first = [int(times[i]) for i, one in enumerate(training.examples) if one.concept == 0]
    assert len(of_first) == 8 and max(of_first) - min(of_first) <= 1


def test_the_same_holds_where_the_file_counts_repeats() -> None:
    # kohya's way, as `lookdev dataset import` writes it: repeats times the images that the artist has.
    plain, _ = replace(dataset(mirror=False), weights=None).split()
    training, _ = replace(dataset(mirror=True), weights=None).split()
    assert training.shares == plain.shares == (4.0, 4.0)


def test_a_fault_of_the_mirrored_caption_alone_says_so() -> None:
    def count(text: str) -> int:  # a tokenizer that knows "left" whole, and "right" in two pieces
        return len(text.split()) + text.count("right")

    whole = dataset(mirror=True)
    check_captions(dataset(mirror=False), count_tokens=count, max_tokens=7)
    with pytest.raises(DatasetError, match=r"0\.txt: 8 tokens.*mirrored caption.*and 3 more"):
        check_captions(whole, count_tokens=count, max_tokens=7)


def test_asking_for_it_is_another_training_and_not_asking_is_not() -> None:
    assert dataset(mirror=True).digest() != dataset(mirror=False).digest()
    file = dataset(mirror=False).file
    said = replace(dataset(mirror=False), file=DatasetFile.model_validate(file.model_dump(by_alias=True)))
    assert said.digest() == dataset(mirror=False).digest()


def _material(training: Dataset) -> Material:
    """What the order of a run needs: concepts, shares and sizes."""
    count = len(training.examples)
    latents = tuple(torch.zeros(4, 1, 1) for _ in range(count))
    return Material(
        latents=latents,
        controls={},
        has_control={},
        engine=latents,
        has_engine=torch.zeros(count, dtype=torch.bool),
        masks=None,
        sizes=torch.zeros(count, 6),
        captions=tuple(one.caption for one in training.examples),
        triggers=("Grade",) * count,
        plain=("look",) * count,
        concepts=tuple(one.concept for one in training.examples),
        shares=training.shares,
    )
