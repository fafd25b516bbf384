"""What a model's family decides of a training, and what is said of keys without use."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from small_material import CONCEPT

from pipeline.models import FAMILIES
from training.adapters.table import KINDS
from training.resolve import UNUSED, resolved
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
    assert resolved(Path("d.toml"), given, FAMILIES[family]) == given
    prodigy = file_of(kind="lora", optimizer="prodigy")
    assert resolved(Path("d.toml"), prodigy, FAMILIES[family]).train.lr == 1.0


def test_keys_without_use_are_said_and_only_those(caplog: pytest.LogCaptureFixture) -> None:
    resolved(Path("d.toml"), file_of(kind="embedding", rank=4, vectors=2, text_lr=1e-4), FAMILIES["mini"])
    assert caplog.messages == [
        "d.toml:train.rank: not used by kind 'embedding'",
        "d.toml:train.text_lr: not used by kind 'embedding'",
    ]
    caplog.clear()
    resolved(Path("d.toml"), file_of(kind="lora", rank=4, text_lr=1e-4, steps=3), FAMILIES["mini"])
    assert caplog.messages == []


def test_every_kind_has_a_builder_and_its_keys() -> None:
    assert set(KINDS) == set(UNUSED) == set(get_args(Kind))
    assert all(keys <= set(TrainSettings.model_fields) for keys in UNUSED.values())
