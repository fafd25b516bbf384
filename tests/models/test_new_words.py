"""Words that learn: nothing else of the text encoder changes, and the file reads back as the word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_clip import small_sd15, small_sdxl

from pipeline.errors import ModelError
from pipeline.models import EmbeddingUse, Model, encode_prompts, load_embeddings
from pipeline.models.new_words import add_words
from pipeline.models.textual_inversion import encoders_of

PROMPT = "a photo of Irisbot, (irisbot:1.2) in a hall"


@pytest.mark.parametrize(
    ("make", "keys"), [(small_sd15, {"emb_params"}), (small_sdxl, {"clip_l", "clip_g"})], ids=["sd15", "sdxl"]
)
def test_a_word_starts_as_its_class_learns_alone_and_reads_back(
    random_model: Path, tmp_path: Path, make: Callable[[Path], Model], keys: set[str]
) -> None:
    model, fresh = make(random_model), make(random_model)
    base = encode_prompts(fresh, ["a photo of person, (person:1.2) in a hall", "a woman"])
    words = add_words(model, {"irisbot": ("person", 1)})
    # "person" is one token, so a word of one vector is that token.
    assert torch.equal(encode_prompts(model, [PROMPT]).tokens[0], base.tokens[0])
    frozen = [{k: v.clone() for k, v in each.state_dict().items()} for each in encoders_of(model)]
    loss = torch.stack([each(torch.tensor([[49406, 7, 49408, 49407]]))[0].square().sum()
                        for each in encoders_of(model)]).sum()  # fmt: skip
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for vectors in words.vectors:
            assert vectors.grad is not None and bool(vectors.grad.any())
            vectors.sub_(0.1 * vectors.grad.sign())
    for encoder, before in zip(encoders_of(model), frozen, strict=True):
        after = encoder.state_dict()
        changed = [key for key in before if not torch.equal(before[key], after[key])]
        assert len(changed) == 1 and changed[0].endswith("token_embedding.new")
    model.said.clear()
    learned = encode_prompts(model, [PROMPT, "a woman"])
    assert torch.equal(learned.tokens[1], base.tokens[1])  # other prompts are as they were
    with words.unknown():
        plain = encode_prompts(model, [PROMPT]).tokens
    assert torch.equal(plain, encode_prompts(fresh, [PROMPT]).tokens)
    path = tmp_path / "irisbot.safetensors"
    words.write("irisbot", path, metadata={"a": "b"})
    assert set(load_file(path)) == keys
    load_embeddings(fresh, [EmbeddingUse(path, "irisbot")])
    again = encode_prompts(fresh, [PROMPT, "a woman"])
    assert torch.equal(again.tokens, learned.tokens)
    if learned.pooled is not None:
        assert again.pooled is not None and torch.equal(again.pooled, learned.pooled)


def test_a_class_of_several_tokens_is_spread_over_the_vectors(random_model: Path) -> None:
    model = small_sd15(random_model)
    table = model.text_encoder.get_input_embeddings().weight
    ids = model.tokenizer("film still", add_special_tokens=False).input_ids
    words = add_words(model, {"a": ("film still", 4), "b": ("film still", 1)})
    expected = table[[ids[0], ids[0], ids[1], ids[1], ids[0]]]
    assert torch.equal(words.vectors[0].detach(), expected)
    assert model.embedding_ids == {"a": ((49408, 49409, 49410, 49411),), "b": ((49412,),)}


def test_the_state_of_words_comes_back_whole_and_others_are_refused(random_model: Path) -> None:
    first = add_words(small_sd15(random_model), {"a": ("person", 2), "b": ("hall", 1)})
    second = add_words(small_sd15(random_model), {"a": ("dog", 2), "b": ("cat", 1)})
    second.load(first.state())
    assert torch.equal(first.vectors[0], second.vectors[0])
    third = add_words(small_sd15(random_model), {"a": ("dog", 3), "b": ("cat", 1)})
    with pytest.raises(ModelError, match=r"embedding state: a\.0 do not fit"):
        third.load(first.state())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"a": ("person", 1), "A": ("dog", 1)}, "trigger 'A': the word is taken"),
        ({"a": ("person", 60)}, "train.vectors is 60; model 'mini' reads 75 tokens at once"),
        ({"a": ("", 1)}, "'' has no tokens to start"),
    ],
)
def test_words_that_cannot_be_are_told_in_a_line(
    random_model: Path, words: dict[str, tuple[str, int]], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        add_words(small_sd15(random_model), words)
    assert "\n" not in str(caught.value)
