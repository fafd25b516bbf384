"""CLIP's tokenizer from package data, against ids that OpenAI's and Hugging Face's give."""

import hashlib
import socket
from importlib import resources

import pytest

from pipeline.models.tokenizer import clip_tokenizer


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("a photograph of an astronaut riding a horse", [320, 8853, 539, 550, 18376, 6765, 320, 4558]),
        ("", []),
        ("A  PHOTO\n of a Cat", [320, 1125, 539, 320, 2368]),
        ("hello world!", [3306, 1002, 256]),
    ],
)
def test_known_prompts(text: str, ids: list[int]) -> None:
    assert clip_tokenizer()(text).input_ids == [49406, *ids, 49407]


def test_what_stable_diffusion_s_tokenizers_say_of_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    first, second = clip_tokenizer(), clip_tokenizer(pad_token="!")
    for tokenizer in (first, second):
        assert len(tokenizer) == 49408
        assert tokenizer.model_max_length == 77
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (49406, 49407)
    assert (first.pad_token_id, second.pad_token_id) == (49407, 0)
    ids = second("a cat", padding="max_length").input_ids
    assert ids == [49406, 320, 2368, 49407] + [0] * 73


def test_every_token_is_there_once() -> None:
    vocabulary = clip_tokenizer().get_vocab()
    assert sorted(vocabulary.values()) == list(range(49408))
    # corners of the table: first and last byte, the same ending a word, first and last merge
    known = {"!": 0, "Ń": 255, "!</w>": 256, "Ń</w>": 511, "in": 512, "the</w>": 518, ",</w>": 267}
    assert {token: vocabulary[token] for token in known} == known


@pytest.mark.parametrize("text", ["naïve café", "日本の猫", "🙂 ok", "don't we'll", "x1234", "\x00\x7f"])
def test_any_text_has_ids_and_reads_back(text: str) -> None:
    tokenizer = clip_tokenizer()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids and max(ids) < 49406
    read = tokenizer.decode(ids).replace(" ", "")
    assert read == text.lower().replace(" ", "")


def test_the_merges_are_those_of_openai() -> None:
    import gzip

    packed = resources.files("pipeline.models.clip").joinpath("merges.txt.gz").read_bytes()
    notice = resources.files("pipeline.models.clip").joinpath("NOTICE.txt").read_text()
    text = gzip.decompress(packed)
    assert len(text.splitlines()) == 48894
    assert hashlib.sha256(text).hexdigest() in notice
    assert "MIT License" in notice and "Copyright (c) 2021 OpenAI" in notice
