"""float16's scaled gradients. Only GPUs are offered it; a CPU computes the same, so it can be tried here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_material import small_material

from pipeline.errors import DatasetError
from pipeline.models import load_model
from training import checkpoint
from training.adapters.table import build
from training.loop import Trainer
from training.schema import TrainSettings


def new_trainer(folder: Path, precision: str) -> Trainer:
    settings = TrainSettings(rank=2, batch=1, accumulate=2, steps=4, ema=0.9, text_lr=1e-3)
    model = load_model(folder, controls=())
    return Trainer(build(model, settings), small_material(), settings, precision=precision)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [each.detach().clone() for each in trainer.parameters]


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_scaled_gradients_are_clipped_at_their_own_size_and_resume_exactly(
    random_model: Path, tmp_path: Path
) -> None:
    exact, whole = new_trainer(random_model, "fp32"), new_trainer(random_model, "fp16")
    assert whole.take_step() == pytest.approx(exact.take_step(), rel=0.02)
    # Adam's first moment is a tenth of the clipped gradient.
    ours, theirs = (
        torch.cat([each.optimizer.state[p]["exp_avg"].flatten() for p in each.parameters])
        for each in (whole, exact)
    )
    assert float((ours - theirs).norm() / theirs.norm()) < 0.1
    checkpoint.save(tmp_path / "c.pt", whole, digest="", seconds=0.0)
    resumed = new_trainer(random_model, "fp16")
    saved = checkpoint.read(tmp_path / "c.pt")
    assert saved is not None and saved.scaler["scale"] == whole.scaler.get_scale()
    checkpoint.restore(resumed, saved)
    whole.take_step()
    resumed.take_step()
    assert same(weights(whole), weights(resumed))
    with whole.result(), resumed.result():
        assert same(weights(whole), weights(resumed))


def test_steps_that_overflow_are_skipped_and_told_where_they_do_not_end(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(random_model, "fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    plain = Trainer.loss
    monkeypatch.setattr(Trainer, "loss", lambda self, part: 1e30 * plain(self, part))
    before = weights(trainer)
    trainer.take_step()
    assert same(before, weights(trainer)) and trainer.scaler.get_scale() == 1.0
    with pytest.raises(DatasetError, match=r"train\.precision: gradients overflow float16 at step 2, how"):
        trainer.take_step()
    assert same(before, weights(trainer))
