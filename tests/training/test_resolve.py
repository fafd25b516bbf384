"""What a model's family decides of a training, and what is said of keys without use."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from small_material import CONCEPT

from pipeline.models import FAMILIES
from training.adapters.table import KINDS
from training.dataset import Dataset
from training.example import Example
from training.resolve import UNUSED, model_of, resolved, with_steps
from training.schema import DatasetFile, Kind, TrainSettings


def file_of(**train: object) -> DatasetFile:
    return DatasetFile(name="iris", concept=(CONCEPT,), train=TrainSettings.model_validate(train))


@pytest.mark.parametrize(
    ("family", "kind", "rate"),
    [
        ("mini", "lora", 1e-3),
        ("mini", "full", 1e-4),
        ("sd15", "pivotal", 2e-4),
        ("sdxl", "lokr", 1e-4),
        ("sdxl", "full", 2e-6),
    ],
)
def test_a_learning_rate_that_is_not_given_is_the_familys(family: str, kind: str, rate: float) -> None:
    assert resolved(Path("d.toml"), file_of(kind=kind), FAMILIES[family]).train.lr == rate
    given = file_of(kind=kind, lr=0.5)
    assert resolved(Path("d.toml"), given, FAMILIES[family]).train.lr == 0.5
    prodigy = file_of(kind="lora", optimizer="prodigy")
    kept = resolved(Path("d.toml"), prodigy, FAMILIES[family]).train
    assert (kept.lr, kept.text_lr) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("family", "train", "wanted"),
    [
        ("mini", {}, (16.0, 8, 0.0, 1.0)),
        ("mini", {"rank": 4}, (4.0, 8, 0.0, 1.0)),
        ("sd15", {}, (8.0, 4, 5e-5, 0.4)),
        ("sd15", {"rank": 32, "alpha": 1.0, "batch": 2, "text_stop": 1.0}, (1.0, 2, 5e-5, 1.0)),
        ("sd15", {"kind": "pivotal"}, (8.0, 4, 0.0, 1.0)),
        ("sdxl", {}, (8.0, 4, 0.0, 0.4)),
    ],
)
def test_what_is_not_given_is_what_people_train_that_model_with(
    family: str, train: dict[str, object], wanted: tuple[float, int, float, float]
) -> None:
    found = resolved(Path("d.toml"), file_of(**train), FAMILIES[family]).train
    assert (found.alpha, found.batch, found.text_lr, found.text_stop) == wanted


def test_words_alone_never_stop_learning(caplog: pytest.LogCaptureFixture) -> None:
    found = resolved(Path("d.toml"), file_of(kind="embedding", text_stop=0.5), FAMILIES["mini"])
    assert found.train.text_steps == found.train.steps  # else nothing would learn in the steps that are left
    assert caplog.messages == ["d.toml:train.text_stop: not used by kind 'embedding'"]


@pytest.mark.parametrize(
    ("number", "train", "steps"),
    [
        (20, {}, 250),
        (3, {"batch": 2}, 150),
        (3, {"steps": 7}, 7),
        (5, {"validation": 1.0, "accumulate": 2}, 25),
    ],
)
def test_steps_that_are_not_given_show_each_image_a_hundred_times(
    number: int, train: dict[str, object], steps: int
) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    examples = tuple(Example(Path(f"{i}.png"), pixels, "irisbot", 0, {}) for i in range(number))
    data = Dataset(Path("d.toml"), file_of(**train), examples, size=8, weights=(1.0,))
    assert with_steps(data).file.train.steps == steps


def test_a_model_is_a_family_a_place_beside_the_file_or_a_hub_id(tmp_path: Path) -> None:
    def named(model: str) -> str | Path:
        return model_of(tmp_path / "d.toml", file_of().model_copy(update={"model": model}))

    assert named("mini") == "mini"
    assert named("sd15.safetensors") == tmp_path / "sd15.safetensors"
    assert named("some/model") == "some/model"
    (tmp_path / "some" / "model").mkdir(parents=True)
    assert named("some/model") == tmp_path / "some" / "model"


def test_keys_without_use_are_said_and_only_those(caplog: pytest.LogCaptureFixture) -> None:
    resolved(Path("d.toml"), file_of(kind="embedding", rank=4, vectors=2, text_lr=1e-4), FAMILIES["mini"])
    assert caplog.messages == [
        "d.toml:train.rank: not used by kind 'embedding'",
        "d.toml:train.text_lr: not used by kind 'embedding'",
    ]
    caplog.clear()
    resolved(Path("d.toml"), file_of(kind="lora", rank=4, text_lr=1e-4, steps=3), FAMILIES["mini"])
    assert caplog.messages == []


def test_words_alone_keep_their_class_without_a_prior(caplog: pytest.LogCaptureFixture) -> None:
    # Only the trigger's own vectors learn, and neither class images nor a caption without the trigger say it.
    concept = CONCEPT.model_copy(update={"prior_images": "women"})
    file = file_of(kind="embedding", prior_weight=1.0).model_copy(update={"concept": (concept,)})
    found = resolved(Path("d.toml"), file, FAMILIES["mini"])
    assert found.train.prior_weight == 0.0 and found.concept[0].prior_images is None
    assert caplog.messages == [
        "d.toml:train.prior_weight: not used by kind 'embedding'",
        "d.toml:concept[1].prior_images: not used by kind 'embedding'",
    ]
    kept = resolved(Path("d.toml"), file_of(kind="pivotal", prior_weight=1.0), FAMILIES["mini"])
    assert kept.train.prior_weight == 1.0


@pytest.mark.parametrize("kind", ["lora", "full", "pivotal", "embedding"])
def test_only_words_start_as_a_text(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    concept = CONCEPT.model_copy(update={"init_text": "steel skull"})
    file = file_of(kind=kind).model_copy(update={"concept": (concept,)})
    found = resolved(Path("d.toml"), file, FAMILIES["mini"]).concept[0].init_text
    if kind in ("pivotal", "embedding"):
        assert found == "steel skull" and caplog.messages == []
    else:
        assert found is None
        assert caplog.messages == [f"d.toml:concept[1].init_text: not used by kind '{kind}'"]


@pytest.mark.parametrize(
    ("engine", "probability", "is_told"), [("renders", 0.5, False), ("renders", 0.0, True), (None, 0.5, True)]
)
def test_strengths_that_no_step_uses_are_said(
    engine: str | None, probability: float, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    concept = CONCEPT.model_copy(update={"engine": engine})
    file = file_of(engine_strength=[0.4, 0.6], engine_probability=probability)
    resolved(Path("d.toml"), file.model_copy(update={"concept": (concept,)}), FAMILIES["mini"])
    told = "d.toml:train.engine_strength: not used; nothing trains the way from an engine's render"
    assert caplog.messages == ([told] if is_told else [])


def test_every_kind_has_a_builder_and_its_keys() -> None:
    assert set(KINDS) == set(UNUSED) == set(get_args(Kind))
    assert all(keys <= set(TrainSettings.model_fields) for keys in UNUSED.values())
