"""What prompts become: plain ones against diffusers' own pipelines, the rest against sums by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from small_clip import WIDTHS, small_sd15, small_sdxl

from pipeline.errors import ModelError
from pipeline.models import Conditioning, Model, encode_prompts, encode_text, load_model
from pipeline.models.chunks import chunk_prompt

PROMPTS = ["a photo of a cat", "", "a red room, 3 men. Don't look back", " ".join(["cat"] * 75)]
LONG = ", ".join(["a red cat in a room"] * 20)  # 120 tokens: two chunks


@pytest.fixture(scope="module")
def sd15(random_model: Path) -> Model:
    return small_sd15(random_model)


@pytest.fixture(scope="module")
def sdxl(random_model: Path) -> Model:
    return small_sdxl(random_model)


def of_diffusers(
    model: Model, prompts: list[str], clip_skip: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """tokens and pooled as diffusers' pipeline makes them; it counts clip_skip from none."""
    skip: dict[str, Any] = {"clip_skip": None if clip_skip == 1 else clip_skip - 1}
    parts = {name: getattr(model, name) for name in ("vae", "unet", "text_encoder", "tokenizer")}
    scheduler = DDIMScheduler(steps_offset=1, clip_sample=False)  # as diffusers demands; unused
    asked = {"device": torch.device("cpu"), "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    if model.text_encoder_2 is None:
        sd = StableDiffusionPipeline(
            **parts,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        return sd.encode_prompt(prompts, **asked, **skip)[0], None
    xl = StableDiffusionXLPipeline(
        **parts, scheduler=scheduler, text_encoder_2=model.text_encoder_2, tokenizer_2=model.tokenizer_2
    )
    tokens, _, pooled, _ = xl.encode_prompt(prompts, **asked, **skip)
    return tokens, pooled


def close(found: torch.Tensor | None, expected: torch.Tensor | None) -> None:
    assert found is not None and expected is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # float32, other batches


@torch.no_grad()
@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_plain_prompts_are_diffusers_sd15(sd15: Model, clip_skip: int) -> None:
    # diffusers' line for clip_skip asks for `text_model`, which transformers 5.6 dropped
    object.__setattr__(sd15.text_encoder, "text_model", sd15.text_encoder)
    made = encode_prompts(sd15, PROMPTS, clip_skip=clip_skip)
    close(made.tokens, of_diffusers(sd15, PROMPTS, clip_skip)[0])
    assert made.pooled is None and made.tokens.shape == (4, 77, WIDTHS[0])


@torch.no_grad()
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_plain_prompts_are_diffusers_sdxl(random_model: Path, clip_skip: int, legacy: bool) -> None:
    model = small_sdxl(random_model, legacy=legacy)
    made = encode_prompts(model, PROMPTS, clip_skip=clip_skip)
    tokens, pooled = of_diffusers(model, PROMPTS, clip_skip)
    close(made.tokens, tokens)
    close(made.pooled, pooled)
    assert made.tokens.shape == (4, 77, sum(WIDTHS)) and made.pooled is not None
    assert made.pooled.shape == (4, 40)


def test_plain_prompts_are_what_training_reads(random_model: Path) -> None:
    model = load_model(random_model, controls=())
    prompts = ["a man in a red room", "", "a woman"]
    with torch.no_grad():
        assert torch.equal(encode_prompts(model, prompts).tokens, encode_text(model, prompts))


@pytest.mark.parametrize("kind", [small_sd15, small_sdxl])
def test_equal_prompts_and_empty_chunks_are_encoded_once(random_model: Path, kind: Any) -> None:
    model = kind(random_model)
    batches: list[int] = []
    hook = model.text_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(args[0])), with_kwargs=True
    )
    made = encode_prompts(model, [LONG, "a cat", "(a cat:1.3)", LONG, ""])
    hook.remove()
    assert batches == [4]  # two of LONG, one of the cat whatever it weighs, one empty
    assert made.tokens.shape[:2] == (5, 2 * 77)
    assert torch.equal(made.tokens[0], made.tokens[3])


@pytest.mark.parametrize("kind", [small_sd15, small_sdxl])
def test_long_prompts_are_their_chunks_one_after_the_other(random_model: Path, kind: Any) -> None:
    model = kind(random_model)
    chunks = chunk_prompt(LONG, model.tokenizer, length=77)
    assert len(chunks) == 2
    texts = [model.tokenizer.decode(chunk.ids, skip_special_tokens=True) for chunk in chunks]
    alone = encode_prompts(model, [*texts, ""])
    both = encode_prompts(model, [LONG, "a cat", f"{texts[0]} BREAK {texts[1]}"])
    close(both.tokens[0], torch.cat([alone.tokens[0], alone.tokens[1]]))
    close(both.tokens[1, 77:], alone.tokens[2])  # filled up with the empty prompt
    assert torch.equal(both.tokens[0], both.tokens[2])
    if both.pooled is not None and alone.pooled is not None:
        close(both.pooled[0], alone.pooled[0])  # of the first chunk


def test_weights_multiply_the_states_and_the_mean_is_kept(sd15: Model, sdxl: Model) -> None:
    for model, parts in ((sd15, WIDTHS[:1]), (sdxl, WIDTHS)):
        made = encode_prompts(model, ["a photo of a cat", "a (photo:1.5) of [a cat]"])
        plain, weighed = (row.double().split(parts, dim=-1) for row in made.tokens)
        weights = torch.ones(77, 1, dtype=torch.float64)
        weights[2], weights[4:6] = 1.5, 1 / 1.1
        for before, after in zip(plain, weighed, strict=True):  # each encoder by itself
            expected = before * weights
            expected *= before.mean() / expected.mean()
            torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)  # float32 sums of a small mean
        if made.pooled is not None:
            assert torch.equal(made.pooled[0], made.pooled[1])  # weights do not reach it, as in A1111


def test_weights_of_one_chunk_leave_the_others_alone(sd15: Model) -> None:
    made = encode_prompts(sd15, ["a cat BREAK a dog", "a cat BREAK (a dog:1.4)"]).tokens
    assert torch.equal(made[0, :77], made[1, :77])
    assert not torch.allclose(made[0, 77:], made[1, 77:], atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_s_dtype(random_model: Path, dtype: torch.dtype) -> None:
    model = load_model(random_model, controls=(), dtype=dtype)
    made = encode_prompts(model, ["a (man:1.2)", "a room"])
    assert made.tokens.dtype == dtype and made.tokens.isfinite().all()


def test_bad_requests_are_one_line(sd15: Model, sdxl: Model) -> None:
    with pytest.raises(ModelError, match="clip_skip is 5; the text encoder has 4 layers: expected 1 to 4"):
        encode_prompts(sd15, ["a"], clip_skip=5)
    with pytest.raises(ModelError, match="clip_skip is 4; the text encoder has 4 layers: expected 1 to 3"):
        encode_prompts(sdxl, ["a"], clip_skip=4)
    with pytest.raises(ModelError, match=r"write a \[\[lora\]\] table"):
        encode_prompts(sd15, ["a", "<lora:iris:1>"])
    with pytest.raises(ModelError, match="a part weighs 9999; expected weights up to 1000"):
        encode_prompts(sd15, ["(a:9999)"])


def test_conditioning_is_a_value() -> None:
    tokens = torch.zeros(1, 77, 8)
    assert Conditioning(tokens).pooled is None
