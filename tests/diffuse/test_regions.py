"""Regions: against a slow loop that loads each part's LoRAs afresh, and what they may not cost or change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lora_samples import kohya_layers, make_pairs, write_pairs
from torch.nn import functional as F

from pipeline.diffuse import ControlUse, Img2ImgSettings, KnownPixels, Region, Regions
from pipeline.diffuse.condition import condition
from pipeline.diffuse.denoise import denoise
from pipeline.diffuse.guide import Guide
from pipeline.diffuse.regions import Composite
from pipeline.diffuse.schedulers import build_scheduler, executed_timesteps, step_arguments
from pipeline.models import LoraStack, LoraUse, Model, apply_loras, encode_images, load_model, remove_loras
from pipeline.models.lora_layers import layers_of

SIZE, BATCH = 32, 3
SEEDS = (11, 12, 13)
SETTINGS = Img2ImgSettings(
    "a man in a red room",
    negative="dark",
    strength=0.6,
    steps=5,
    guidance=3.0,
    controls=(ControlUse("depth", 1.0), ControlUse("pose", 0.7, 0.0, 0.7)),
)
SAID = ("a woman walks", "a man, front view")
OFF, A, B = ((0.0, 0.0), (0.0, 0.0)), ((0.8, 0.5), (0.0, 0.0)), ((0.0, 0.0), (1.0, 0.0))


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (BATCH, SIZE // 8, SIZE // 8, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


FRAMES = picture(0)
CONTROLS = {"depth": picture(1), "pose": picture(2)}


def masks() -> np.ndarray:
    """[2, B, H, W]: left and right, with edges in between; the second one is in no frame but the first."""
    left, right = np.zeros((2, BATCH, SIZE, SIZE), np.float32)
    left[:, :, :12] = 1.0
    left[:, :, 12:16] = 0.25
    right[0, :, 20:] = 1.0
    right[0, :, 14:20] = 0.5
    return np.stack([left, right])


@pytest.fixture(scope="module")
def model(random_model: Path) -> Model:
    return load_model(random_model)


@pytest.fixture(scope="module")
def paths(model: Model, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two LoRAs of the UNet and the text encoder with different numbers."""
    folder = tmp_path_factory.mktemp("loras")
    parts = {"unet": model.unet, "text_encoder": model.text_encoder}
    layers = kohya_layers((layer for layer, _ in layers_of(parts)), text=True)
    pairs = {a: (0.1 * down, 0.3 * up, alpha) for a, (down, up, alpha) in make_pairs(layers).items()}
    other = {a: (-down.flip(0), up, alpha) for a, (down, up, alpha) in pairs.items()}
    return [
        write_pairs("kohya", "mini", own, folder / f"{n}.safetensors") for n, own in enumerate((pairs, other))
    ]


@pytest.fixture
def stack(model: Model, paths: list[Path]) -> LoraStack:
    remove_loras(model)
    return LoraStack(model, paths)


def regions(stack: LoraStack, chosen: np.ndarray | None = None) -> Regions:
    areas = masks() if chosen is None else chosen
    told = [((said, "dark"),) * BATCH for said in SAID]
    parts = [Region(said, w, m) for said, w, m in zip(told, (A, B), areas, strict=False)]
    return Regions(tuple(parts), stack, OFF)


def run(model: Model, given: Regions | None, settings: Img2ImgSettings = SETTINGS) -> torch.Tensor:
    if given is not None:
        given.stack.wear(given.loras)
    return denoise(model, FRAMES, CONTROLS, settings, SEEDS, regions=given)


@torch.inference_mode()
def slow(model: Model, paths: list[Path], settings: Img2ImgSettings) -> torch.Tensor:
    """The same by the book: for every step and part, its LoRAs read and merged, the whole batch predicted."""
    scheduler = build_scheduler(settings.scheduler, model.scheduler_config)
    clean = encode_images(model, FRAMES)
    timesteps = executed_timesteps(scheduler, steps=5, executed=3, device=model.device)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    noise = torch.stack([torch.randn(clean.shape[1:], generator=g) for g in generators])
    latents = scheduler.add_noise(clean, noise, timesteps[0].repeat(BATCH))
    further = step_arguments(settings.scheduler, generators)
    own = F.interpolate(torch.from_numpy(masks()), size=clean.shape[-2:], mode="area")[:, :, None]
    shares = [1.0 - own[0] - own[1], *own]
    said = (settings.prompt, *SAID)
    for step, t in enumerate(timesteps):
        noisy = scheduler.scale_model_input(latents, t)
        predicted = torch.zeros_like(latents)
        for text, weights, share in zip(said, (OFF, A, B), shares, strict=True):
            with torch.inference_mode(False):
                uses = [LoraUse(path, *w) for path, w in zip(paths, weights, strict=True)]
                apply_loras(model, uses)
            guide = Guide.prepare(model, CONTROLS, replace(settings, prompt=text), FRAMES.shape[:3])
            with guide.hints_given():
                predicted += share * guide.predict(noisy, t, step, len(timesteps))
        latents = scheduler.step(predicted, t, latents, return_dict=False, **further)[0]
    remove_loras(model)
    return latents


@pytest.mark.parametrize(
    ("scheduler", "guidance"), [("ddim", 3.0), ("ddim", 1.0), ("dpmpp_2m", 3.0), ("euler_a", 1.0)]
)
def test_latents_are_those_of_the_slow_loop(
    model: Model, paths: list[Path], stack: LoraStack, scheduler: str, guidance: float
) -> None:
    settings = replace(SETTINGS, scheduler=scheduler, guidance=guidance)
    ours = run(model, regions(stack), settings)
    stack.wear(OFF)
    theirs = slow(model, paths, settings)
    # another number of rows shares a pass: 4e-6 a pass on a CPU
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert (ours - run(model, None, settings)).abs().max() > 0.1


def test_weights_that_do_not_fit_into_memory_give_the_same_bits(model: Model, stack: LoraStack) -> None:
    held = run(model, regions(stack))
    assert stack._held and stack.release() and not stack._held
    assert torch.equal(run(model, regions(stack)), held)
    assert not stack._held and not stack.release()


def test_a_region_of_the_whole_frame_is_the_frame_under_its_prompt(model: Model, stack: LoraStack) -> None:
    whole = np.ones((1, BATCH, SIZE, SIZE), np.float32)
    ours = run(model, regions(stack, whole))
    stack.wear(A)
    assert torch.equal(ours, denoise(model, FRAMES, CONTROLS, replace(SETTINGS, prompt=SAID[0]), SEEDS))


def test_a_region_may_be_told_other_words_in_each_frame(model: Model, stack: LoraStack) -> None:
    given = regions(stack)
    first, *rest = given.parts
    words = (first.prompts[0], (SAID[1], "dark"), first.prompts[0])
    mixed = run(model, replace(given, parts=(replace(first, prompts=words), *rest)))
    alike = run(model, given)
    other = run(model, replace(given, parts=(replace(first, prompts=(words[1],) * BATCH), *rest)))
    assert torch.equal(mixed[::2], alike[::2]) and torch.equal(mixed[1], other[1])
    assert (alike[1] - other[1]).abs().max() > 0.01


def test_frames_that_look_at_each_other_are_all_predicted(model: Model, stack: LoraStack) -> None:
    """A part that is in one of them has a row for each, in order; none of the others' latents changes."""
    given, shape = regions(stack), FRAMES.shape[:3]
    stack.wear(OFF)
    size = encode_images(model, FRAMES).shape[-2:]
    with torch.inference_mode():
        whole = Guide.prepare(model, CONTROLS, SETTINGS, shape)
        apart = Composite.prepare(whole, given, SETTINGS, shape, size=size)
        together = Composite.prepare(whole, given, SETTINGS, shape, size=size, together=True)
        noisy = torch.randn(BATCH, 4, *size, generator=torch.Generator().manual_seed(1))
        predictions = []
        for composite in (apart, together):
            with composite.hints_given():
                predictions.append(composite.predict(noisy, torch.tensor(500), 0, 3))
    assert [len(part.rows) for part in apart.parts] == [3, 3, 1]
    assert [len(part.rows) for part in together.parts] == [3, 3, 3]
    torch.testing.assert_close(*predictions, rtol=0, atol=1e-5)


def test_a_part_costs_a_pass_only_where_it_is(
    model: Model, stack: LoraStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, forward = [], type(model.unet).forward
    monkeypatch.setattr(
        type(model.unet),
        "forward",
        lambda self, x, *a, **k: (rows.append(len(x)), forward(self, x, *a, **k))[1],
    )
    settings = replace(SETTINGS, guidance=1.0)
    run(model, regions(stack), settings)
    assert rows == [3, 3, 1] * 3  # the rest of each frame, the left of each, the right of the first
    rows.clear()
    run(model, regions(stack, np.ones((1, BATCH, SIZE, SIZE), np.float32)), settings)
    assert rows == [3] * 3  # nothing is left of the frame


def test_the_rest_of_the_frame_is_told_nothing_of_a_region(model: Model, stack: LoraStack) -> None:
    """One step, hard masks: latents outside a region are those without it, to the bit."""
    settings = replace(SETTINGS, strength=0.4, steps=3)
    area = np.zeros((1, BATCH, SIZE, SIZE), np.float32)
    area[..., :16] = 1.0
    ours = run(model, regions(stack, area), settings)
    stack.wear(OFF)
    plain = run(model, None, settings)
    middle = ours.shape[-1] // 2
    assert torch.equal(ours[..., middle:], plain[..., middle:])
    assert (ours[..., :middle] - plain[..., :middle]).abs().max() > 0.1


def test_known_pixels_and_regions_together(model: Model, stack: LoraStack) -> None:
    known = KnownPixels(FRAMES, np.ones((BATCH, SIZE, SIZE), np.float32), until=1.0)
    given = regions(stack)
    stack.wear(OFF)
    held = denoise(model, FRAMES, CONTROLS, SETTINGS, SEEDS, known=known, regions=given)
    clean = encode_images(model, FRAMES)
    free = run(model, given)
    assert (held - clean).square().mean() < (free - clean).square().mean()


def test_the_same_texts_under_other_text_weights_are_read_anew(model: Model, stack: LoraStack) -> None:
    """A region whose LoRA changes the text encoder: the frame's own words are not taken from its cache."""
    stack.wear(OFF)
    plain = condition(model, [SAID[0]], 1).tokens
    stack.wear(A)
    assert (condition(model, [SAID[0]], 1).tokens - plain).abs().max() > 1e-3
    run(model, regions(stack))
    stack.wear(OFF)
    assert torch.equal(condition(model, [SAID[0]], 1).tokens, plain)


def test_a_mask_of_another_shape_is_refused(model: Model, stack: LoraStack) -> None:
    with pytest.raises(ValueError, match=r"a region's mask is \(2, 32, 32\); expected \(3, 32, 32\)"):
        run(model, regions(stack, masks()[:1, :2]))


def test_some_frames_of_a_guide_keep_what_sdxl_is_told(model: Model) -> None:
    """Rows are [negative of B frames, prompt of B frames], in everything that the networks get."""
    told = torch.arange(2.0 * BATCH)[:, None]
    added = {"added_cond_kwargs": {"text_embeds": told, "time_ids": 10.0 * told}}
    guide = Guide(model=model, text=told[:, :, None], added=added, steers=(), guidance=2.0)
    some = guide.of(torch.tensor([2, 0]))
    assert some.text.flatten().tolist() == [2.0, 0.0, 5.0, 3.0]
    kept = some.added["added_cond_kwargs"]
    assert kept["text_embeds"].flatten().tolist() == [2.0, 0.0, 5.0, 3.0]
    assert torch.equal(kept["time_ids"], 10.0 * kept["text_embeds"])
