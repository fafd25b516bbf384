"""The loop on a random miniature: what it trains, with what, and that it is exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import DatasetError
from pipeline.models import Model, encode_text, load_model, lora_state
from training import losses
from training.adapters.table import build
from training.dataset import Dataset, load_dataset
from training.draws import Draw, draw, run_order, step_indices
from training.loop import Trainer
from training.material import Material, prepare
from training.precision import resolve_precision
from training.predict import Networks
from training.schema import TrainSettings, read_dataset_file

MakeDataset = Callable[[str], Path]


def load(make_dataset: MakeDataset, random_model: Path, train: str) -> tuple[Model, Dataset, Material]:
    path = make_dataset(train)
    model = load_model(random_model)
    dataset = load_dataset(path, read_dataset_file(path), size=128, control_kinds=("depth", "pose"))
    return model, dataset, prepare(model, dataset)


def some_draw(material: Material, step: int, settings: TrainSettings) -> Draw:
    """What a step of a run with these settings draws."""
    indices = step_indices(run_order(material, settings), step, settings)
    return draw(material, indices, step, settings, 1000)


@pytest.fixture
def trainer(make_dataset: MakeDataset, random_model: Path) -> Trainer:
    model, dataset, material = load(make_dataset, random_model, "steps = 4\nbatch = 2\nrank = 4\nalpha = 4.0")
    return Trainer(build(model, dataset.file.train), material, dataset.file.train, precision="fp32")


def test_controls_join_with_their_probability_and_captions_drop_to_the_trigger(trainer: Trainer) -> None:
    settings = TrainSettings(batch=250, control_probability=0.7, caption_dropout=0.2)
    draws = [some_draw(trainer.material, step, settings) for step in range(4)]
    for kind in ("depth", "pose"):
        share = torch.cat([one.use_control[kind] for one in draws]).float().mean()
        assert share == pytest.approx(0.7, abs=0.06)  # 4 sigma of 1000 draws: 0.058
    both = torch.cat([one.use_control["depth"] & one.use_control["pose"] for one in draws]).float().mean()
    assert both == pytest.approx(0.49, abs=0.065)  # drawn one by one: 0.7 squared
    kept = torch.tensor([keep for one in draws for keep in one.keep_caption]).float().mean()
    assert kept == pytest.approx(0.8, abs=0.052)


def test_timesteps_cover_the_whole_range_evenly_in_every_batch(trainer: Trainer) -> None:
    for step in range(5):
        timesteps = some_draw(trainer.material, step, TrainSettings(batch=10)).timesteps
        assert sorted(int(t) // 100 for t in timesteps) == list(range(10))


def test_an_example_without_a_control_never_draws_it(trainer: Trainer) -> None:
    has = {"depth": torch.tensor([True, False, True, False])}
    material = replace(trainer.material, has_control=has)
    one = some_draw(material, 0, TrainSettings(batch=40, control_probability=1.0))
    assert [bool(used) for used in one.use_control["depth"]] == [index % 2 == 0 for index in one.indices]


def test_controlnets_run_on_their_rows_only_and_equal_the_plain_calls(trainer: Trainer) -> None:
    model, material = trainer.model, trainer.material
    one = some_draw(material, 0, TrainSettings(batch=3))
    used = {"depth": torch.tensor([True, False, True]), "pose": torch.tensor([False, False, True])}
    one = replace(one, use_control=used)
    noisy = torch.stack(one.noise)
    with torch.no_grad():
        ours = trainer.predict(noisy, [material.captions[i] for i in one.indices], one)
        for row, index in enumerate(one.indices):
            expected = reference(model, material, one, row, index)
            # The same sums in another batch size: float32 rounding only.
            torch.testing.assert_close(ours[row : row + 1], expected, rtol=1e-4, atol=1e-5)


def reference(model: Model, material: Material, one: Draw, row: int, index: int) -> Any:
    """One example through the modules by hand, controls summed as diffusers' MultiControlNet sums them."""
    noisy, time = one.noise[row][None], one.timesteps[row : row + 1]
    text = encode_text(model, [material.captions[index]])
    extra: dict[str, Any] = {}
    for kind in one.use_control:
        if not one.use_control[kind][row]:
            continue
        cond = material.controls[kind][index][None]
        down, mid = model.controlnets[kind](noisy, time, text, cond, return_dict=False)
        old_down = extra.get("down_block_additional_residuals", [torch.zeros_like(d) for d in down])
        extra["down_block_additional_residuals"] = [a + b for a, b in zip(old_down, down, strict=True)]
        extra["mid_block_additional_residual"] = mid + extra.get("mid_block_additional_residual", 0.0)
    return model.unet(noisy, time, text, return_dict=False, **extra)[0]


def test_the_loss_is_the_papers_formula(trainer: Trainer) -> None:
    one = some_draw(trainer.material, 0, trainer.settings)
    one = replace(one, use_control={}, keep_caption=[True, False])
    latents = torch.stack([trainer.material.latents[i] for i in one.indices])
    noise = torch.stack(one.noise)
    bar = trainer.alphas_cumprod[one.timesteps].view(-1, 1, 1, 1)
    noisy = bar.sqrt() * latents + (1 - bar).sqrt() * noise
    captions = [trainer.material.captions[one.indices[0]], "irisbot"]
    with torch.no_grad():
        said = trainer.model.unet(noisy, one.timesteps, encode_text(trainer.model, captions)).sample
        wanted = bar.sqrt() * noise - (1 - bar).sqrt() * latents
        snr = (bar / (1 - bar)).flatten()
        weight = torch.minimum(snr + 1, torch.tensor(5.0)) / (snr + 1)
        expected = (weight * (said - wanted).square().mean(dim=(1, 2, 3))).mean()
        torch.testing.assert_close(trainer.loss(one), expected, rtol=1e-4, atol=0.0)


def with_engine(material: Material, has: list[bool]) -> Material:
    """The material with random latents for the engine's renders of these examples."""
    rng = torch.Generator().manual_seed(7)
    there = torch.tensor(has)
    engine = tuple(
        torch.randn(each.shape, generator=rng) * used
        for each, used in zip(material.latents, there, strict=True)
    )
    return replace(material, engine=engine, has_engine=there)


def test_the_engines_renders_are_encoded_where_there_are_some(
    trainer: Trainer, make_dataset: MakeDataset
) -> None:
    path = make_dataset("")
    dataset = load_dataset(path, read_dataset_file(path), size=128, control_kinds=())
    first, second, *rest = dataset.examples
    paired = replace(dataset, examples=(first, replace(second, engine=first.image), *rest))
    material = prepare(trainer.model, paired)
    assert material.has_engine.tolist() == [False, True, False, False]
    # The same picture in another batch size: float32 rounding only.
    torch.testing.assert_close(material.engine[1], material.latents[0], rtol=1e-4, atol=1e-5)
    assert not any(material.engine[i].any() for i in (0, 2, 3))


def test_the_way_from_the_engine_starts_before_the_sample_and_only_where_there_is_a_render(
    trainer: Trainer,
) -> None:
    material = with_engine(trainer.material, [True, False, True, False])
    settings = TrainSettings(batch=250, engine_probability=0.5)
    draws = [some_draw(material, step, settings) for step in range(4)]
    has = torch.tensor([index % 2 == 0 for one in draws for index in one.indices])
    used = torch.cat([one.from_engine for one in draws])
    assert not (used & ~has).any()
    assert used[has].float().mean() == pytest.approx(0.5, abs=0.09)  # 4 sigma of 500 draws
    start, timesteps = (torch.cat([getattr(one, key) for one in draws]) for key in ("start", "timesteps"))
    assert bool((start >= timesteps).all()) and bool((start > timesteps).any())
    assert int(start.min()) >= 249 and int(start.max()) <= 999  # a quarter of 0 .. 999, rounded down


def test_the_loss_from_the_engines_render_is_the_one_computed_by_hand(trainer: Trainer) -> None:
    """At T the render is noised; the line from there to the still gives x and v at t; 1 - a_T weighs."""
    trainer.material = with_engine(trainer.material, [True] * 4)
    one = some_draw(trainer.material, 0, trainer.settings)
    one = replace(
        one,
        timesteps=torch.tensor([300, 600]),
        start=torch.tensor([500, 900]),
        from_engine=torch.tensor([True, False]),
        use_control={},
        keep_caption=[True, True],
    )
    losses_by_hand = []
    for row, index in enumerate(one.indices):
        still, render = trainer.material.latents[index], trainer.material.engine[index]
        at_t, at_start = (float(trainer.alphas_cumprod[int(t[row])]) for t in (one.timesteps, one.start))
        noise, weight = one.noise[row], min(at_t / (1 - at_t) + 1, 5.0) * (1 - at_t)
        if row == 0:
            begin = at_start**0.5 * render + (1 - at_start) ** 0.5 * noise
            noise = (begin - at_start**0.5 * still) / (1 - at_start) ** 0.5
            weight *= 1 - at_start
        noisy = at_t**0.5 * still + (1 - at_t) ** 0.5 * noise
        text = encode_text(trainer.model, [trainer.material.captions[index]])
        with torch.no_grad():
            said = trainer.model.unet(noisy[None], one.timesteps[row : row + 1], text).sample[0]
        velocity = at_t**0.5 * noise - (1 - at_t) ** 0.5 * still
        losses_by_hand.append(weight * float((said - velocity).square().mean()))
    ours = float(trainer.loss(one).detach())
    # Sums of the same float32 products in another order and batch size.
    assert ours == pytest.approx(sum(losses_by_hand) / 2, rel=1e-4)
    plain = float(trainer.loss(replace(one, from_engine=torch.tensor([False, False]))).detach())
    assert ours != pytest.approx(plain, rel=1e-3)


def test_engine_probability_zero_is_a_training_without_renders_to_the_bit(
    make_dataset: MakeDataset, random_model: Path
) -> None:
    states = []
    for has, share in (([False] * 4, 0.5), ([True] * 4, 0.0), ([True] * 4, 1.0)):
        model, dataset, material = load(
            make_dataset, random_model, f"batch = 1\nrank = 2\nsteps = 2\nengine_probability = {share}"
        )
        trainer = Trainer(
            build(model, dataset.file.train), with_engine(material, has), dataset.file.train, precision="fp32"
        )
        trainer.take_step()
        trainer.take_step()
        states.append(lora_state(model))
    without, zero, one = states
    assert all(torch.equal(without[key], zero[key]) for key in without)
    assert not all(torch.equal(without[key], one[key]) for key in without)


def test_only_the_lora_learns_and_the_loss_falls_on_one_fixed_batch(trainer: Trainer) -> None:
    frozen = {k: v.clone() for k, v in trainer.model.unet.state_dict().items() if "lora" not in k}
    one = some_draw(trainer.material, 0, trainer.settings)
    before = float(trainer.loss(one).detach())
    for _ in range(4):
        trainer.optimizer.zero_grad()
        trainer.loss(one).backward()  # type: ignore[no-untyped-call]
        trainer.optimizer.step()
    assert float(trainer.loss(one).detach()) < before
    for name, value in frozen.items():
        assert torch.equal(trainer.model.unet.state_dict()[name], value), name


def test_the_text_encoder_learns_only_when_asked(make_dataset: MakeDataset, random_model: Path) -> None:
    settings = "steps = 2\nbatch = 2\nrank = 2\ntext_lr = 0.001\ncontrol_probability = 0.0"
    model, dataset, material = load(make_dataset, random_model, settings)
    trainer = Trainer(build(model, dataset.file.train), material, dataset.file.train, precision="fp32")
    trainer.take_step()
    trainer.take_step()
    ups = [
        v for k, v in lora_state(model).items() if k.startswith("lora_te_") and k.endswith("lora_up.weight")
    ]
    assert len(ups) == 12  # 2 layers of q, k, v, out, fc1, fc2
    assert any(bool(up.abs().sum() > 0) for up in ups)


def test_prior_preservation_starts_at_zero_and_pulls_back(
    make_dataset: MakeDataset, random_model: Path
) -> None:
    model, dataset, material = load(make_dataset, random_model, "batch = 2\nrank = 2\ncaption_dropout = 0.0")
    plain = Trainer(build(model, dataset.file.train), material, dataset.file.train, precision="fp32")
    one = some_draw(material, 0, plain.settings)

    def prior_part() -> float:
        with torch.no_grad():
            without = plain.loss(one)
            settings = plain.settings
            plain.settings = settings.model_copy(update={"prior_weight": 2.0})
            with_prior = plain.loss(one)
            plain.settings = settings
        return float(with_prior - without)

    assert material.plain[0].startswith("woman, front")
    assert prior_part() == 0.0  # an untrained LoRA changes nothing, so the base predicts the same bytes
    plain.take_step()
    assert prior_part() > 0.0
    assert all(p.requires_grad for p in plain.parameters)  # switching the LoRA off and on leaves it trainable


def test_a_diverged_training_is_one_line(trainer: Trainer) -> None:
    with torch.no_grad():
        trainer.parameters[1].fill_(float("inf"))
    with pytest.raises(DatasetError, match=r"train\.lr: the loss is not finite at step 1; lower lr"):
        trainer.take_step()


def test_bf16_is_close_to_fp32_and_weights_stay_fp32(trainer: Trainer) -> None:
    one = some_draw(trainer.material, 0, trainer.settings)
    with torch.no_grad():
        exact = float(trainer.loss(one))
        trainer.networks = Networks(trainer.model, "bf16")
        rough = float(trainer.loss(one))
    assert rough == pytest.approx(exact, rel=0.02)  # bf16 keeps 8 bits: 0.4 % a number, errors average out
    assert rough != exact
    trainer.take_step()
    assert {p.dtype for p in trainer.parameters} == {torch.float32}


def test_group_norms_compute_in_float32_under_bf16_and_convolutions_do_not(
    make_dataset: MakeDataset, random_model: Path
) -> None:
    model, dataset, material = load(make_dataset, random_model, "steps = 4\nbatch = 2\nrank = 4")
    trainer = Trainer(build(model, dataset.file.train), material, dataset.file.train, precision="bf16")
    met: dict[type, set[torch.dtype]] = {torch.nn.GroupNorm: set(), torch.nn.Conv2d: set()}
    for module in model.unet.modules():
        if type(module) in met:
            module.register_forward_hook(lambda layer, _, said: met[type(layer)].add(said.dtype))
    trainer.take_step()
    assert met == {torch.nn.GroupNorm: {torch.float32}, torch.nn.Conv2d: {torch.bfloat16}}


def test_a_precision_that_is_asked_for_is_taken() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("fp32", cpu) == "fp32"
    assert resolve_precision("bf16", cpu) == "bf16"


@pytest.mark.parametrize(
    ("place", "hardware", "expected"),
    [("cpu", True, "bf16"), ("cpu", False, "fp32"), ("cuda", True, "bf16"), ("cuda", False, "fp32")],
)
def test_auto_takes_bf16_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, place: str, hardware: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    probes = {"cpu": (torch.cpu, "_is_amx_tile_supported"), "cuda": (torch.cuda, "is_bf16_supported")}
    for kind, (module, probe) in probes.items():  # the other place's hardware says the opposite
        says = hardware == (kind == place)
        monkeypatch.setattr(module, probe, lambda says=says, **_: says, raising=False)
    assert resolve_precision("auto", torch.device(place)) == expected


def test_auto_takes_bf16_on_a_cpu_with_its_vectors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert resolve_precision("auto", torch.device("cpu")) == "bf16"


def test_auto_takes_no_bf16_that_a_gpu_only_emulates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert resolve_precision("auto", torch.device("cuda")) == "fp32"


def test_auto_is_fp32_where_torch_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, probe, raising=False)
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"


def test_the_noise_schedule_is_the_models(trainer: Trainer) -> None:
    assert trainer.prediction_type == "v_prediction"
    assert float(losses.signal_to_noise(trainer.alphas_cumprod, torch.tensor([999]))) == 0.0
