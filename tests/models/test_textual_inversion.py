"""Textual inversions: every layout of file read back, refused where it does not fit, and used by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from small_clip import WIDTHS, small_sd15, small_sdxl

from pipeline.errors import ModelError
from pipeline.models import EmbeddingUse, Model, encode_prompts, encode_text, load_embeddings, load_model
from pipeline.models.embedding_layout import check_embedding_family
from pipeline.models.families import FAMILIES
from pipeline.models.textual_inversion import read_embedding


def vectors(count: int, width: int = WIDTHS[0], *, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


A, B = vectors(3), vectors(3, WIDTHS[1], seed=1)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"emb_params": A}, (A,)),
        ({"emb_params": A.half()}, (A.half().float(),)),
        ({"clip_l": A, "clip_g": B}, (A, B)),
        ({"clip_g": B, "clip_l": A}, (A, B)),
        ({"text_encoders_0": A, "text_encoders_1": B}, (A, B)),
        ({"<iris>": A}, (A,)),
        ({"<iris>": A[0].clone()}, (A[:1],)),  # diffusers keeps a single vector flat
    ],
)
def test_safetensors_of_every_layout(tmp_path: Path, state: Any, expected: tuple[torch.Tensor, ...]) -> None:
    save_file(state, tmp_path / "e.safetensors")
    read = read_embedding(tmp_path / "e.safetensors")
    assert len(read) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(read, expected, strict=True))


def of_a1111(params: Any) -> dict[str, Any]:
    return {
        "string_to_token": {"*": 265},
        "string_to_param": params,
        "name": "iris",
        "step": 500,
        "sd_checkpoint": None,
    }


@pytest.mark.parametrize(
    "state",
    [
        of_a1111({"*": A}),
        of_a1111({"*": torch.nn.Parameter(A)}),
        of_a1111(torch.nn.ParameterDict({"*": torch.nn.Parameter(A)})),
        {"<iris>": A},
        {"emb_params": A},
    ],
)
def test_pickles_only_where_they_are_allowed(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "iris.pt"
    torch.save(state, path)
    with pytest.raises(ModelError, match="is a pickle, which can run code; expected safetensors"):
        read_embedding(path)
    (read,) = read_embedding(path, allow_pickle=True)
    assert torch.equal(read, A) and not read.requires_grad


def test_torch_s_old_format_of_pickles(tmp_path: Path) -> None:
    torch.save(of_a1111({"*": A}), tmp_path / "iris.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(read_embedding(tmp_path / "iris.bin", allow_pickle=True)[0], A)


class _Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"*": A, "more": _Hostile()}, tmp_path / "e.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="the pickle is damaged or holds more than tensors") as caught:
        read_embedding(tmp_path / "e.pt", allow_pickle=True)
    assert not (tmp_path / "ran").exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_one_line(tmp_path: Path, zipped: bool) -> None:
    save_file({"emb_params": A}, tmp_path / "whole.safetensors")
    torch.save(of_a1111({"*": A}), tmp_path / "whole.pt", _use_new_zipfile_serialization=zipped)
    for name in ("whole.safetensors", "whole.pt"):
        data = (tmp_path / name).read_bytes()
        for length in (0, 1, 2, 4, 9, 40, 120, len(data) // 2, len(data) - 1):
            (tmp_path / "cut").write_bytes(data[:length])
            with pytest.raises(ModelError) as caught:
                read_embedding(tmp_path / "cut", allow_pickle=True)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"emb_params": torch.full((2, 32), torch.nan)}, "emb_params holds numbers that are not finite"),
        (
            {"emb_params": torch.zeros(1, 2, 32)},
            r"emb_params has shape \[1, 2, 32\]; expected \[vectors, width\]",
        ),
        ({"emb_params": torch.tensor(1.0)}, r"has shape \[\]"),
        ({"emb_params": torch.zeros(0, 32)}, r"has shape \[0, 32\]"),
        ({"emb_params": torch.zeros(2, 32, dtype=torch.int64)}, "no tensor of floating-point numbers"),
        ({"a": A, "b": A.clone()}, "holds 2 tensors .a, b.; expected emb_params"),
        ({}, "holds 0 tensors .none."),
        ({"emb_params": vectors(2, 48)}, "vectors of width 48; model 'mini' reads 32"),
        (
            {"emb_params": vectors(1, 1024)},
            r"width 1024 \(made for Stable Diffusion 2.x\); model 'mini' reads 32",
        ),
        ({"clip_l": A, "clip_g": B}, r"vectors of width 32 \+ 48; model 'mini' reads 32"),
        ({"emb_params": vectors(76)}, "76 vectors; model 'mini' reads 75 tokens at once"),
    ],
)
def test_what_fits_no_model_is_refused(random_model: Path, tmp_path: Path, state: Any, message: str) -> None:
    model = small_sd15(random_model)
    save_file(state, tmp_path / "bad.safetensors")
    save_file({"emb_params": A}, tmp_path / "good.safetensors")
    uses = [EmbeddingUse(tmp_path / f"{name}.safetensors", name) for name in ("good", "bad")]
    with pytest.raises(ModelError, match=message) as caught:
        load_embeddings(model, uses)
    assert "\n" not in str(caught.value) and str(tmp_path / "bad.safetensors") in str(caught.value)
    assert model.embedding_ids == {} and model.text_encoder.config.vocab_size == 49408  # nothing half-loaded


def test_names(random_model: Path, tmp_path: Path) -> None:
    model = small_sd15(random_model)
    path = tmp_path / "e.safetensors"
    save_file({"emb_params": A}, path)
    for name in ("", "  ", "123", "<->"):
        with pytest.raises(ModelError, match="has no letter"):
            EmbeddingUse(path, name)
    with pytest.raises(ModelError, match="the name 'IRIS' is taken"):
        load_embeddings(model, [EmbeddingUse(path, "iris"), EmbeddingUse(path, "IRIS")])
    load_embeddings(model, [EmbeddingUse(path, "iris")])
    with pytest.raises(ModelError, match="the name 'Iris' is taken"):
        load_embeddings(model, [EmbeddingUse(path, "Iris")])
    with pytest.raises(ModelError, match="cannot be read"):
        load_embeddings(model, [EmbeddingUse(tmp_path / "no.safetensors", "otto")])


def test_two_encoders_need_as_many_vectors(random_model: Path, tmp_path: Path) -> None:
    model = small_sdxl(random_model)
    path = tmp_path / "e.safetensors"
    save_file({"clip_l": A, "clip_g": vectors(2, WIDTHS[1])}, path)
    with pytest.raises(ModelError, match="3 and 2 vectors for the two text encoders"):
        load_embeddings(model, [EmbeddingUse(path, "iris")])
    save_file({"emb_params": A}, path)
    with pytest.raises(ModelError, match=r"vectors of width 32; model 'mini' reads 32 \+ 48"):
        load_embeddings(model, [EmbeddingUse(path, "iris")])


def with_words(model: Model, folder: Path) -> Model:
    """iris: the vectors of "a red cat"; otto: three of its own."""
    words = {"iris": [320, 736, 2368], "otto": None}
    for word, ids in words.items():
        parts = {}
        for name, encoder in (("clip_l", model.text_encoder), ("clip_g", model.text_encoder_2)):
            if encoder is not None:
                table = encoder.get_input_embeddings().weight
                parts[name] = table[ids].clone() if ids else vectors(3, table.shape[1], seed=7) * table.std()
        state = parts if len(parts) > 1 else {"emb_params": parts["clip_l"]}
        save_file(state, folder / f"{word}.safetensors")
    load_embeddings(model, [EmbeddingUse(folder / f"{word}.safetensors", word) for word in words])
    return model


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", [small_sd15, small_sdxl])
def test_a_word_is_its_vectors(random_model: Path, tmp_path: Path, kind: Any, legacy: bool) -> None:
    """A name whose vectors are those of known words encodes as the words do, pooling included."""
    plain = encode_prompts(kind(random_model, legacy=legacy), ["photo of a red cat, (a red cat:1.3)", "otto"])
    model = with_words(kind(random_model, legacy=legacy), tmp_path)
    said = encode_prompts(model, ["photo of IRIS, (iris:1.3)", "otto", "irisotto", "a red cat"])
    torch.testing.assert_close(said.tokens[0], plain.tokens[0], rtol=0, atol=1e-6)
    assert not torch.allclose(said.tokens[1], plain.tokens[1], atol=1e-2)
    if said.pooled is not None and plain.pooled is not None:
        torch.testing.assert_close(said.pooled[0], plain.pooled[0], rtol=0, atol=1e-6)
        assert not torch.allclose(said.pooled[1], plain.pooled[1], atol=1e-2)
    before = encode_prompts(kind(random_model, legacy=legacy), ["irisotto", "a red cat"])
    torch.testing.assert_close(said.tokens[2:], before.tokens, rtol=0, atol=1e-6)


def test_the_same_as_diffusers_textual_inversion(random_model: Path, tmp_path: Path) -> None:
    """diffusers puts the vectors into the tokenizer's vocabulary; the states are the same."""
    path = tmp_path / "iris.safetensors"
    ours, theirs = small_sd15(random_model), small_sd15(random_model)
    save_file({"emb_params": A * 0.02}, path)
    load_embeddings(ours, [EmbeddingUse(path, "iris")])
    pipe = StableDiffusionPipeline(
        **{name: getattr(theirs, name) for name in ("vae", "unet", "text_encoder", "tokenizer")},
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.load_textual_inversion(str(path), token="iris")
    prompt = "a photo of iris in a room"
    with torch.no_grad():
        expected = pipe.encode_prompt(prompt, torch.device("cpu"), 1, False)[0]
    torch.testing.assert_close(encode_prompts(ours, [prompt]).tokens, expected, rtol=0, atol=1e-6)


def test_training_reads_plain_text_as_before(random_model: Path, tmp_path: Path) -> None:
    model = load_model(random_model, controls=())
    with torch.no_grad():
        before = encode_text(model, ["a man in a red room"])
        save_file({"emb_params": vectors(2, 128)}, tmp_path / "e.safetensors")
        load_embeddings(model, [EmbeddingUse(tmp_path / "e.safetensors", "man")])
        assert torch.equal(encode_text(model, ["a man in a red room"]), before)
    assert not any(parameter.requires_grad for parameter in model.text_encoder.parameters())


@pytest.mark.parametrize(
    ("widths", "fits"), [((128,), "mini"), ((768,), "sd15"), ((768, 1280), "sdxl"), ((1024,), None)]
)
def test_the_header_tells_the_family(tmp_path: Path, widths: tuple[int, ...], fits: str | None) -> None:
    keys = ["emb_params"] if len(widths) == 1 else ["clip_l", "clip_g"]
    path = tmp_path / "e.safetensors"
    state = {
        key: torch.zeros(2, width, dtype=torch.bfloat16) for key, width in zip(keys, widths, strict=True)
    }
    save_file(state, path)
    for name, family in FAMILIES.items():
        if name == fits:
            check_embedding_family(path, family, allow_pickle=False, where="here")
        else:
            with pytest.raises(ModelError, match=f"here: vectors of width .* model '{name}' reads"):
                check_embedding_family(path, family, allow_pickle=False, where="here")


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_header_that_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "e.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="here: ") as caught:
        check_embedding_family(tmp_path / "e.safetensors", FAMILIES["sd15"], allow_pickle=False, where="here")
    assert "\n" not in str(caught.value)
