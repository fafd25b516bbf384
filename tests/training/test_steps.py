"""How a step is taken: what weighs how much, what is averaged, what stops, and that all of it resumes."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from small_material import small_material

from pipeline.errors import DatasetError
from pipeline.models import load_model
from training import checkpoint, losses, optimizers
from training.adapters.table import build
from training.draws import draw, parts, run_order, step_indices
from training.loop import Trainer
from training.material import Material
from training.precision import resolve_precision
from training.schema import TrainSettings

CPU = torch.device("cpu")


def material(*sizes: tuple[int, int]) -> Material:
    """Examples of noise in these latent sizes."""
    rng = torch.Generator().manual_seed(5)
    latents = tuple(torch.randn(4, h, w, generator=rng) for h, w in sizes)
    count = len(sizes)
    return replace(
        small_material(),
        latents=latents,
        engine=latents,
        has_engine=torch.zeros(count, dtype=torch.bool),
        sizes=torch.zeros(count, 6),
        captions=tuple(f"irisbot woman {i}" for i in range(count)),
        triggers=("irisbot",) * count,
        plain=("woman",) * count,
        concepts=(0,) * count,
    )


SQUARES = material((16, 16), (16, 16))


def new_trainer(folder: Path, data: Material = SQUARES, **settings: object) -> Trainer:
    wanted = TrainSettings.model_validate({"rank": 2, "batch": 2, "steps": 6, "alpha": 2.0} | settings)
    return Trainer(build(load_model(folder, controls=()), wanted), data, wanted, precision="fp32")


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [each.detach().clone() for each in trainer.parameters]


def close(ours: list[torch.Tensor], theirs: list[torch.Tensor], *, atol: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=atol)


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_batches_that_add_up_are_one_large_batch(random_model: Path) -> None:
    data = material(*[(16, 16)] * 4)
    results = []
    for batch, accumulate in ((4, 1), (2, 2), (1, 4)):
        trainer = new_trainer(random_model, data, batch=batch, accumulate=accumulate)
        before = weights(trainer)
        trainer.take_step()
        results.append(weights(trainer))
        assert not same(before, results[-1])
    # Adam's first step is lr * sign(gradient) / 1; where a gradient is next to nothing its sign is rounding.
    for other in results[1:]:
        off = torch.cat([(a - b).abs().flatten() for a, b in zip(results[0], other, strict=True)])
        assert float((off > 1e-5).float().mean()) < 0.01


def test_an_image_of_an_odd_shape_weighs_in_a_step_what_the_others_weigh(random_model: Path) -> None:
    """The trap of field-notes 2: three squares and a wide one, each a quarter of the gradient."""
    trainer = new_trainer(random_model, material((16, 16), (16, 24), (16, 16), (16, 16)), batch=4)
    indices = [0, 1, 2, 3]
    chosen = draw(trainer.material, indices, 0, trainer.settings, 1000)
    assert [one.indices for one in parts(chosen, batch=4)] == [[0, 2, 3], [1]]
    assert [one.indices for one in parts(chosen, batch=2)] == [[0, 2], [3], [1]]
    trainer.optimizer.zero_grad()
    trainer._gradients(chosen)
    ours = [p.grad.clone() for p in trainer.parameters if p.grad is not None]
    by_hand = [torch.zeros_like(each) for each in ours]
    for row in indices:
        trainer.optimizer.zero_grad()
        trainer.loss(chosen.of([row])).backward()  # type: ignore[no-untyped-call]
        grads = [p.grad for p in trainer.parameters if p.grad is not None]
        by_hand = [total + grad / 4 for total, grad in zip(by_hand, grads, strict=True)]
    for a, b in zip(ours, by_hand, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)  # float32 sums in another order


def test_the_average_is_the_recursion_and_goes_in_and_out_to_the_bit(random_model: Path) -> None:
    trainer = new_trainer(random_model, ema=0.95)
    average = weights(trainer)
    for step in range(1, 4):
        trainer.take_step()
        decay = min(0.95, (1 + step) / (10 + step))
        average = [decay * a + (1 - decay) * p for a, p in zip(average, weights(trainer), strict=True)]
    raw = weights(trainer)
    with trainer.result():
        close(weights(trainer), average, atol=1e-6)
        state = trainer.trained.state()
    assert same(weights(trainer), raw)
    assert not all(torch.equal(value, trainer.trained.state()[key]) for key, value in state.items())


def test_looking_at_a_schedule_free_result_changes_no_later_step(random_model: Path) -> None:
    plain, watched = (new_trainer(random_model, optimizer="schedulefree", lr=0.01) for _ in range(2))
    for _ in range(3):
        plain.take_step()
        watched.take_step()
        raw = weights(watched)
        with watched.result():
            assert not same(weights(watched), raw) or watched.step == 1
        assert same(weights(watched), raw)
    assert same(weights(plain), weights(watched))


def test_the_text_encoder_stops_in_time(random_model: Path) -> None:
    trainer = new_trainer(random_model, text_lr=1e-3, text_stop=0.5)
    text, unet = (list(trainer.trained.parameters[role]) for role in ("text", "unet"))
    seen = []
    for _ in range(6):
        before = [p.detach().clone() for p in (*text, *unet)]
        assert trainer.text_learns == (trainer.step < 3)
        trainer.take_step()
        after = [p.detach() for p in (*text, *unet)]
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        seen.append((any(moved[: len(text)]), any(moved[len(text) :])))
    assert seen == [(True, True)] * 3 + [(False, True)] * 3


def test_recomputed_activations_give_the_same_gradients(random_model: Path) -> None:
    plain = new_trainer(random_model, text_lr=1e-3)
    saving = new_trainer(random_model, text_lr=1e-3, gradient_checkpointing=True)
    assert plain.take_step() == pytest.approx(saving.take_step(), rel=1e-6)
    close(weights(plain), weights(saving), atol=1e-6)


EXACT = {
    "adamw": {"ema": 0.9, "text_lr": 1e-3, "text_stop": 0.5, "accumulate": 2, "noise_offset": 0.1},
    "prodigy": {"optimizer": "prodigy", "lr": 1.0, "weight_decay": 0.1},
    "schedulefree": {"optimizer": "schedulefree", "lr": 0.01},
    "linear": {"schedule": "linear", "warmup": 0.3, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("name", EXACT)
def test_stopped_anywhere_and_resumed_is_the_same_to_the_bit(
    random_model: Path, tmp_path: Path, name: str
) -> None:
    whole = new_trainer(random_model, **EXACT[name])
    for _ in range(6):
        whole.take_step()
    resumed = new_trainer(random_model, **EXACT[name])
    for _ in range(6):
        resumed.take_step()
        checkpoint.save(tmp_path / "c.pt", resumed, digest="", seconds=0.0)
        resumed = new_trainer(random_model, **EXACT[name])
        saved = checkpoint.read(tmp_path / "c.pt")
        assert saved is not None
        checkpoint.restore(resumed, saved)
    assert same(weights(whole), weights(resumed))
    with whole.result(), resumed.result():
        assert same(weights(whole), weights(resumed))


def test_a_rate_of_prodigy_is_one_unless_it_is_said() -> None:
    assert TrainSettings.model_validate({"optimizer": "prodigy"}).lr == 1.0
    assert TrainSettings.model_validate({"optimizer": "prodigy", "lr": 0.5}).lr == 0.5
    assert TrainSettings().lr == 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "schedulefree", "schedule": "cosine"}, "which needs none; take it out"),
        ({"optimizer": "prodigy", "text_lr": 1e-4}, "text_lr must be lr or 0"),
        ({"pick": "validation"}, "without held-out images; add validation"),
        ({"pick": "likeness"}, "pick = 'likeness' without held-out images; add validation"),
        ({"validation": 1.5}, "expected a whole number of images, or a share below 1"),
        ({"optimizer": "sgd"}, "adamw8bit"),
    ],
)
def test_settings_that_do_not_fit_together_are_told(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSettings.model_validate(settings)


def test_what_cannot_run_here_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"train\.optimizer: 'adamw8bit' needs a CUDA GPU"):
        optimizers.check_optimizer("adamw8bit", CPU)
    with pytest.raises(DatasetError, match=r"train\.precision: 'fp16' needs a CUDA GPU"):
        resolve_precision("fp16", CPU)
    optimizers.check_optimizer("prodigy", CPU)
    plain = importlib.import_module

    def missing(name: str) -> object:
        if name == "prodigyopt":
            raise ImportError("No module named 'prodigyopt'")
        return plain(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DatasetError, match=r"'prodigy' needs the package prodigyopt .*lookdev\[train\]"):
        optimizers.check_optimizer("prodigy", CPU)


def test_offset_noise_is_shared_by_a_channels_pixels_and_nothing_else_changes() -> None:
    plain, offset = (TrainSettings(batch=2, steps=4, noise_offset=size) for size in (0.0, 0.3))
    indices = step_indices(run_order(SQUARES, plain), 0, plain)
    a, b = (draw(SQUARES, indices, 0, settings, 1000) for settings in (plain, offset))
    assert torch.equal(a.timesteps, b.timesteps) and a.keep_caption == b.keep_caption
    for before, after in zip(a.noise, b.noise, strict=True):
        added = after - before  # [C, h, w]
        torch.testing.assert_close(added, added[:, :1, :1].expand_as(added), rtol=0.0, atol=1e-6)
        assert len({round(float(each), 4) for each in added[:, 0, 0]}) == 4


def test_a_mask_weighs_places_and_not_examples(random_model: Path) -> None:
    """A small mask and a large one: the same error everywhere is the same loss."""
    small, large = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    small[:, :2, :2], large[:, :7, :7] = 1.0, 1.0
    area = losses.mask_area(torch.stack([small, large]), outside=0.0)
    said, wanted, weight = torch.ones(2, 4, 8, 8), torch.zeros(2, 4, 8, 8), torch.ones(2)
    assert float(losses.weighted_mse(said, wanted, weight, area)) == pytest.approx(1.0)
    said[0, :, 2:] = 100.0  # outside of the small mask
    assert float(losses.weighted_mse(said, wanted, weight, area)) == pytest.approx(1.0)
    data = replace(SQUARES, masks=(torch.zeros(1, 16, 16), torch.ones(1, 16, 16)))
    data.masks[0][:, :4] = 1.0  # type: ignore[index]
    masked = new_trainer(random_model, data, mask_outside=0.25)
    plain = new_trainer(random_model, SQUARES)
    chosen = draw(data, [0, 1], 0, masked.settings, 1000)
    with torch.no_grad():
        for row in (0, 1):
            one = chosen.of([row])
            noisy, wanted, weight, _ = masked._task(data, one)
            said = masked.predict(noisy, [data.captions[row]], one)
            counts = torch.full((1, 1, 16, 16), 0.25 if row == 0 else 1.0)
            counts[:, :, :4] = 1.0
            error = (said - wanted).square().mean(dim=1, keepdim=True)
            expected = float(weight * (counts * error).sum() / counts.sum())
            assert float(masked.loss(one)) == pytest.approx(expected, rel=1e-4)
        assert float(masked.loss(chosen.of([1]))) == pytest.approx(
            float(plain.loss(chosen.of([1]))), rel=1e-6
        )


def test_weights_that_are_not_finite_are_not_saved(random_model: Path, tmp_path: Path) -> None:
    trainer = new_trainer(random_model)
    checkpoint.save(tmp_path / "c.pt", trainer, digest="", seconds=0.0)
    good = (tmp_path / "c.pt").read_bytes()
    with torch.no_grad():
        trainer.parameters[0][0, 0] = float("nan")
    with pytest.raises(DatasetError, match=r"train\.lr: the weights are not finite after step 0; lower lr"):
        checkpoint.save(tmp_path / "c.pt", trainer, digest="", seconds=0.0)
    assert (tmp_path / "c.pt").read_bytes() == good
