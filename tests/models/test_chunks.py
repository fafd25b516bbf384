from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models import load_model
from pipeline.models.chunks import Chunk, chunk_prompt, empty_chunk
from pipeline.models.tokenizer import clip_tokenizer

TOKENIZER = clip_tokenizer()
CAT, DOG, COMMA, BOS, EOS = 2368, 1929, 267, 49406, 49407


def cut(text: str, tokenizer: Any = TOKENIZER, **more: Any) -> tuple[Chunk, ...]:
    chunks = chunk_prompt(text, tokenizer, length=77, **more)
    for chunk in chunks:
        assert len(chunk.ids) == len(chunk.weights) == 77 and chunk.ids[0] == BOS and EOS in chunk.ids
    return chunks


def said(chunk: Chunk) -> list[int]:
    """The ids between the marks."""
    return list(chunk.ids[1 : chunk.ids.index(EOS)])


@pytest.mark.parametrize("pad_token", ["<|endoftext|>", "!"])
@pytest.mark.parametrize("text", ["", "a cat", "a cat, a dog in a red room", " ".join(["cat"] * 75)])
def test_a_short_prompt_is_what_the_tokenizer_makes_of_it(text: str, pad_token: str) -> None:
    tokenizer = clip_tokenizer(pad_token=pad_token)
    (chunk,) = cut(text, tokenizer)
    assert list(chunk.ids) == tokenizer(text, padding="max_length").input_ids
    assert set(chunk.weights) == {1.0}
    assert cut("", tokenizer) == (empty_chunk(tokenizer, length=77),)


def test_weights_stand_at_their_tokens() -> None:
    (chunk,) = cut("a (cat, dog:1.5) [dog]")
    assert said(chunk) == [320, CAT, COMMA, DOG, DOG]
    assert chunk.weights[:7] == pytest.approx((1.0, 1.0, 1.5, 1.5, 1.5, 1 / 1.1, 1.0))
    assert set(chunk.weights[6:]) == {1.0}


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        (" ".join(["cat"] * 76), [75, 1]),
        (" ".join(["cat"] * 151), [75, 75, 1]),
        # a comma at place 56 of 75 is the 20th from the end: what follows goes to the next chunk
        (" ".join(["cat"] * 55 + [","] + ["dog"] * 20), [56, 20]),
        (" ".join(["cat"] * 54 + [","] + ["dog"] * 21), [75, 1]),  # one earlier: too far
        (" ".join(["cat"] * 55 + [","] + ["dog"] * 19), [75]),  # fits
        (" ".join(["cat"] * 74 + [","] + ["dog"]), [75, 1]),
        (" ".join(["cat"] * 60 + [","] + ["dog"] * 14 + [",", "dog"]), [75, 2]),  # a comma cuts nothing off
        (" ".join(["cat"] * 60 + [","] + ["dog"] * 75), [61, 75]),
        ("cat BREAK dog", [1, 1]),
        ("BREAK dog", [0, 1]),
        ("cat BREAK", [1]),
        (" ".join(["cat"] * 75) + " BREAK dog", [75, 1]),
    ],
)
def test_long_prompts_break_as_in_a1111(text: str, lengths: list[int]) -> None:
    chunks = cut(text)
    assert [len(said(chunk)) for chunk in chunks] == lengths
    whole = TOKENIZER(text.replace("BREAK", ""), add_special_tokens=False, verbose=False).input_ids
    assert [token for chunk in chunks for token in said(chunk)] == whole


def test_weights_move_with_their_tokens() -> None:
    first, second = cut(" ".join(["cat"] * 60) + ", (" + " ".join(["dog"] * 15) + ":1.5)")
    assert set(first.weights) == {1.0}
    assert second.weights == (1.0, *[1.5] * 15, *[1.0] * 61)


@given(
    st.lists(
        st.sampled_from(["cat", ",", "dog,", "(red", "room:1.2)", "[a]", "BREAK", "\\(x\\)"]), max_size=200
    )
)
def test_no_token_is_lost(words: list[str]) -> None:
    chunks = cut(" ".join(words))
    told = [token for chunk in chunks for token in said(chunk)]
    plain = " ".join(words).replace("BREAK", " ").replace("room:1.2)", "room").replace("(red", "red")
    plain = plain.replace("[a]", "a").replace("\\(x\\)", "(x)")
    if words.count("(red") >= words.count("room:1.2)") and _balanced(words):
        assert told == TOKENIZER(plain, add_special_tokens=False, verbose=False).input_ids


def _balanced(words: list[str]) -> bool:
    """Whether each closing bracket has its opening one before it."""
    depth = 0
    for word in words:
        depth += {"(red": 1, "room:1.2)": -1}.get(word, 0)
        if depth < 0:
            return False
    return True


WORDS = {"iris": (50000,), "iris red": (50001, 50002), "bad-hands-5": (50003,), "<otto>": (50004, 50005)}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("iris", [50000]),
        ("a IRIS, cat", [320, 50000, COMMA, CAT]),
        ("iris red", [50001, 50002]),  # the longest first
        ("Iris\n  red", [50001, 50002]),
        ("iriſ", [50000]),  # an s by Unicode's case folding, though not in lower case
        ("iris, red", [50000, COMMA, 736]),
        ("BAD-hands-5", [50003]),
        ("(<otto>:1.5)", [50004, 50005]),
        ("cat<otto>cat", [CAT, 50004, 50005, CAT]),  # a name's own marks part it from others
    ],
)
def test_words_stand_for_their_vectors(text: str, ids: list[int]) -> None:
    assert said(cut(text, words=WORDS)[0]) == ids


@pytest.mark.parametrize("text", ["irisbot", "an_iris", "bad-hands-55", "<ott>"])
def test_parts_of_longer_words_stand_for_nothing(text: str) -> None:
    assert max(said(cut(text, words=WORDS)[0])) < BOS


def test_the_vectors_of_a_word_stay_together() -> None:
    words = {"iris": tuple(range(50000, 50010))}
    first, second = cut(" ".join(["cat"] * 66) + " (iris:1.2) dog", words=words)
    assert said(first) == [CAT] * 66
    assert said(second) == [*range(50000, 50010), DOG]
    assert second.weights[1:12] == (*[1.2] * 10, 1.0)
    (fits,) = cut(" ".join(["cat"] * 65) + " iris", words=words)
    assert len(said(fits)) == 75


def test_the_miniature_s_tokenizer(random_model: Path) -> None:
    tokenizer = load_model(random_model, controls=()).tokenizer
    text = " ".join(["a man, in a red room,"] * 12)
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    chunks = chunk_prompt(text, tokenizer, length=64)
    assert len(chunks) == 2
    rejoined = [
        token
        for chunk in chunks
        for token in chunk.ids
        if token not in (tokenizer.bos_token_id, tokenizer.eos_token_id)
    ]
    assert rejoined == ids
