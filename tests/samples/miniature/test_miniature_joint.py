"""The miniature's loss lies on img2img's own way, and its training goes on exactly where it was stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from samples.miniature import joint, model
from samples.miniature.data import Words

CAPTIONS = ["a person, red shirt, walking, closeup", "a person, bald, standing, in a red room, film look"]
SMALL = 8  # latent pixels: the networks are convolutional


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bpe")


@pytest.fixture(scope="module")
def scheduler() -> object:
    return model.build_scheduler()


def batch(size: int, *, restyle: bool, seed: int = 0) -> joint.Batch:
    rng = torch.Generator().manual_seed(seed)
    clean, start = (torch.randn(size, 4, SMALL, SMALL, generator=rng) for _ in range(2))
    depth, pose = (torch.rand(size, 3, 4 * SMALL, 4 * SMALL, generator=rng) for _ in range(2))
    tokens = torch.randint(0, 200, (size, model.CONTEXT_TOKENS), generator=rng)
    return joint.Batch(clean, start if restyle else clean, torch.full((size,), restyle), tokens, depth, pose)


def drawn(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same draws as `noisy_and_target`'s: where plain samples are, where img2img starts, the noise."""
    rng = torch.Generator().manual_seed(seed)
    plain, begin, _along = (torch.rand(size, generator=rng) for _ in range(3))
    noise = torch.randn(size, 4, SMALL, SMALL, generator=rng)
    start = (0.25 + 0.72 * begin).mul(1000).long()
    return plain.mul(1000).long(), start, noise


def test_plain_samples_are_diffusers_own(scheduler: object) -> None:
    plain = batch(64, restyle=False)
    alphas = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    t, noisy, target, weight = joint.noisy_and_target(plain, alphas, torch.Generator().manual_seed(3))
    expected_t, _, noise = drawn(64, 3)
    assert torch.equal(t, expected_t)
    # float32 in another order of operations
    add_noise, velocity = scheduler.add_noise, scheduler.get_velocity  # type: ignore[attr-defined]
    torch.testing.assert_close(noisy, add_noise(plain.clean, noise, t), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(target, velocity(plain.clean, noise, t), rtol=1e-5, atol=1e-5)
    assert torch.equal(weight, torch.ones(64))


def test_restyling_samples_lie_on_the_way_of_img2img(scheduler: object) -> None:
    """Noise the engine latents at T, take one DDIM step to t that knows the film latents: the training point.

    Song et al. 2021, equation 12 with sigma 0: x_t = a_t x0 + s_t (x_T - a_T x0) / s_T.
    """
    restyle = batch(64, restyle=True)
    bars = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    t, noisy, _, weight = joint.noisy_and_target(restyle, bars, torch.Generator().manual_seed(5))
    _, start, noise = drawn(64, 5)
    assert (t <= start).all() and (t < start).any() and (t == start).any()
    begun = scheduler.add_noise(restyle.start, noise, start)  # type: ignore[attr-defined]
    bar, bar_start = (bars[index].double()[:, None, None, None] for index in (t, start))
    eps = (begun - bar_start.sqrt() * restyle.clean) / (1 - bar_start).sqrt()
    expected = bar.sqrt() * restyle.clean + (1 - bar).sqrt() * eps
    torch.testing.assert_close(noisy.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weight, 1 - bars[start], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("restyle", [False, True])
def test_the_target_leads_to_the_clean_latents(scheduler: object, restyle: bool) -> None:
    """diffusers turns the target into the picture that is wanted, from wherever the sample is."""
    scheduler.set_timesteps(1000)  # type: ignore[attr-defined]
    samples = batch(12, restyle=restyle)
    bars = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    t, noisy, target, _ = joint.noisy_and_target(samples, bars, torch.Generator().manual_seed(7))
    for i in range(12):
        out = scheduler.step(target[i], int(t[i]), noisy[i])  # type: ignore[attr-defined]
        torch.testing.assert_close(out.pred_original_sample, samples.clean[i], rtol=1e-3, atol=1e-3)


def tiny(folder: Path, seed: int = 0) -> joint.Trainer:
    return joint.Trainer.fresh(model.build(CAPTIONS, folder, seed=seed), "cpu")


def descend(trainer: joint.Trainer, step: int) -> None:
    alphas = trainer.parts.scheduler.alphas_cumprod
    kinds = joint.CONTROL_CHOICES[step % 4]
    rng = torch.Generator().manual_seed(100 + step)
    trainer.descend(batch(2, restyle=step % 2 == 0, seed=step), alphas, rng, kinds, "fp32")
    trainer.advance(joint.rate_at(0.1, trainer.step))
    trainer.meet(1)


def test_a_stopped_training_goes_on_to_the_same_bits(tokenizer_folder: Path, tmp_path: Path) -> None:
    straight = tiny(tokenizer_folder)
    descend(straight, 0)
    straight.seconds, straight.samples = 12.5, 2
    straight.save(tmp_path / "state.pt")
    descend(straight, 1)

    resumed = tiny(tokenizer_folder, seed=9)  # other weights: everything must come from the file
    resumed.load(tmp_path / "state.pt")
    assert (resumed.step, resumed.seconds, resumed.samples) == (1, 12.5, 2)
    descend(resumed, 1)
    for ours, theirs in ((straight.parts, resumed.parts), (straight.average, resumed.average)):
        for one, other in zip(joint.modules(ours), joint.modules(theirs), strict=True):
            expected, found = one.state_dict(), other.state_dict()
            assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_trains_what_took_part(tokenizer_folder: Path, frozen: bool) -> None:
    trainer = tiny(tokenizer_folder)
    if frozen:
        trainer.freeze_controls()
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in joint.modules(trainer.parts)]
    descend(trainer, 1)  # depth alone
    moved = [
        any(not torch.equal(old[name], value) for name, value in module.state_dict().items())
        for old, module in zip(before, joint.modules(trainer.parts), strict=True)
    ]
    assert moved == [True, True, not frozen, False]  # UNet, text encoder, depth; pose was left out


def test_rate_warms_up_holds_and_falls() -> None:
    assert joint.rate_at(0.0, 0) == pytest.approx(joint.PEAK_RATE / 200)
    assert joint.rate_at(0.39, 500) == joint.PEAK_RATE
    assert joint.rate_at(0.7, 500) == pytest.approx(0.5 * joint.PEAK_RATE)
    assert joint.rate_at(1.0, 500) == pytest.approx(0.02 * joint.PEAK_RATE)
    assert joint.rate_at(0.7, 500, peak=1e-3) == pytest.approx(5e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_group_norms_compute_in_float32(tokenizer_folder: Path, precision: str) -> None:
    """A CPU's backward pass of group norm is many times slower in bfloat16; convolutions keep bf16."""
    trainer = joint.Trainer.fresh(model.build(CAPTIONS, tokenizer_folder), "cpu", precision)
    met: dict[type, set[torch.dtype]] = {torch.nn.GroupNorm: set(), torch.nn.Conv2d: set()}
    for module in trainer.parts.unet.modules():
        if type(module) in met:
            module.register_forward_hook(lambda layer, _, said: met[type(layer)].add(said.dtype))
    alphas = trainer.parts.scheduler.alphas_cumprod
    trainer.descend(batch(2, restyle=True), alphas, torch.Generator().manual_seed(0), ("depth",), precision)
    assert met[torch.nn.GroupNorm] == {torch.float32}
    assert met[torch.nn.Conv2d] == {torch.float32 if precision == "fp32" else torch.bfloat16}


def test_batches_show_every_image_once_before_any_twice(tokenizer_folder: Path) -> None:
    tokenizer = model.build_tokenizer(CAPTIONS, tokenizer_folder)
    num = 12
    film = torch.arange(num, dtype=torch.float16)[:, None, None, None].expand(num, 4, 2, 2).clone()
    words = [Words([["red shirt"]], ["walking", "film look"], ["walking", "engine look"])] * num
    depth = np.full((num, 8, 8), 255, np.uint8)
    pose = np.zeros((num, 8, 8, 3), np.uint8)
    data = joint.LatentSet(film, film + 100, depth, pose, words)
    source = joint.batches(data, tokenizer, np.random.default_rng(0), 4, "cpu")
    for _ in range(2):
        epoch = [next(source) for _ in range(3)]
        seen = torch.cat([b.clean[:, 0, 0, 0] % 100 for b in epoch])
        assert sorted(seen.tolist()) == list(range(num))
        for b in epoch:
            # restyling starts at the engine look and ends at the film look; the others start where they end
            assert torch.equal(b.start - b.clean == 100, b.restyle[:, None, None, None].expand_as(b.clean))
            assert torch.equal((b.start == b.clean).all(dim=(1, 2, 3)), ~b.restyle)
            assert (b.depth == 1.0).all() and b.depth.shape == (4, 3, 8, 8) and not b.pose.any()


def test_tokenizer_keeps_every_caption(tokenizer_folder: Path) -> None:
    """Ids back to the lower-cased text, words never seen too; and the fast path is the tokenizer's own."""
    tokenizer = model.build_tokenizer(CAPTIONS, tokenizer_folder)
    texts = [*CAPTIONS, "zyxquw wears a 7 m cloak", "", "Iris in VaultHall", " ".join(["torso"] * 100)]
    own = tokenizer(
        texts, padding="max_length", max_length=model.CONTEXT_TOKENS, truncation=True, return_tensors="pt"
    )
    assert torch.equal(joint.tokenize(tokenizer, texts), own.input_ids)
    for text in texts[:3]:
        back = tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)
        assert back.replace(" ,", ",") == text.lower()
