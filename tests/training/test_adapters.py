"""Each kind of training: it learns, it resumes exactly, the base stays what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from small_material import CONCEPT, small_material

from pipeline.models import load_model
from training import checkpoint
from training.adapters.table import KINDS, build
from training.loop import Trainer
from training.schema import TrainSettings


def new_trainer(folder: Path, kind: str, **settings: object) -> Trainer:
    wanted = {"rank": 2, "batch": 1, "steps": 3, "text_lr": 1e-3, "kind": kind} | settings
    train = TrainSettings.model_validate(wanted)
    trained = build(load_model(folder, controls=()), train, [CONCEPT])
    return Trainer(trained, small_material(), train, precision="fp32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_cut_off_and_resumed_ends_with_the_bits_of_an_uninterrupted_one(
    random_model: Path, tmp_path: Path, kind: str
) -> None:
    whole = new_trainer(random_model, kind, prior_weight=0.5)
    start = whole.trained.state()
    whole.take_step()
    checkpoint.save(tmp_path / "c.pt", whole, digest="d", seconds=0.0)
    whole.take_step()
    whole.take_step()
    saved = checkpoint.read(tmp_path / "c.pt")
    assert saved is not None
    resumed = new_trainer(random_model, kind, prior_weight=0.5)
    checkpoint.restore(resumed, saved)
    resumed.take_step()
    resumed.take_step()
    ours, theirs = whole.trained.state(), resumed.trained.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert any(not torch.equal(ours[key], start[key]) for key in ours)


def test_a_layout_that_cannot_hold_a_kind_is_told() -> None:
    with pytest.raises(
        ValidationError, match="layout 'peft' cannot hold kind 'loha', only lora, dora and pivotal"
    ):
        TrainSettings(kind="loha", layout="peft")
