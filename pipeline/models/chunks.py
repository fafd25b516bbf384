"""Prompts -> chunks of token ids with weights, each as long as the text encoder reads. No torch here.

Chunks are cut as A1111 cuts them: a full chunk breaks after the last comma where that is within its last 20
tokens, an embedding of several vectors is never parted, BREAK ends a chunk. Each is framed by the start and
end marks and padded with the tokenizer's own pad token (Stable Diffusion 1.5: the end mark; SDXL's second:
id 0).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.models.prompt_syntax import parse_prompt

COMMA_REACH = 20  # A1111's comma_padding_backtrack

# The words of textual inversions -> the ids of their vectors in one text encoder.
Words = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Chunk:
    """Token ids with both marks and the padding, and the weight of each; both of the encoder's length."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def chunk_length(encoder: Any, tokenizer: Any) -> int:
    """Tokens that a text encoder reads at once, marks included; some tokenizers do not say."""
    return int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))


def chunk_prompt(text: str, tokenizer: Any, *, length: int, words: Words | None = None) -> tuple[Chunk, ...]:
    """The chunks of one prompt in A1111's syntax, at least one; `length` tokens each, marks included.

    Raises ModelError for `<lora:...>` in the prompt.
    """
    cutter = _Cutter(room=length - 2, comma=_comma(tokenizer))
    finder = _Finder(words or {})
    for number, part in enumerate(parse_prompt(text)):
        if number > 0:
            cutter.end_chunk()
        for segment in part:
            for plain, vectors in finder.split(segment.text):
                cutter.add(plain_ids(plain, tokenizer), segment.weight)
                cutter.add_word(vectors, segment.weight)
    return tuple(_framed(ids, weights, tokenizer, length) for ids, weights in cutter.finish())


def empty_chunk(tokenizer: Any, *, length: int) -> Chunk:
    """The chunk of an empty prompt; it fills up prompts with fewer chunks than others of the same call."""
    return _framed([], [], tokenizer, length)


@dataclass
class _Cutter:
    """Tokens in, chunks of at most `room` tokens out."""

    room: int
    comma: int | None
    done: list[tuple[list[int], list[float]]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    after_comma: int | None = None  # where the text after the last comma of this chunk starts

    def add(self, ids: Sequence[int], weight: float) -> None:
        for token in ids:
            if len(self.ids) == self.room:
                self._make_room(token)
            self.ids.append(token)
            self.weights.append(weight)
            if token == self.comma:
                self.after_comma = len(self.ids)

    def add_word(self, ids: Sequence[int], weight: float) -> None:
        """The vectors of an embedding, in one chunk."""
        if len(self.ids) + len(ids) > self.room:
            self.end_chunk()
        self.ids += ids
        self.weights += [weight] * len(ids)

    def end_chunk(self) -> None:
        self.done.append((self.ids, self.weights))
        self.ids, self.weights, self.after_comma = [], [], None

    def finish(self) -> list[tuple[list[int], list[float]]]:
        if self.ids or not self.done:
            self.end_chunk()
        return self.done

    def _make_room(self, token: int) -> None:
        """End the full chunk, after its last comma where that is near; a comma itself takes nothing along."""
        cut = self.after_comma
        if cut is None or token == self.comma or self.room - (cut - 1) > COMMA_REACH or cut == self.room:
            self.end_chunk()
            return
        ids, weights = self.ids[cut:], self.weights[cut:]
        self.ids, self.weights = self.ids[:cut], self.weights[:cut]
        self.end_chunk()
        self.ids, self.weights = ids, weights


class _Finder:
    """Finds words wherever they are not part of a longer one; of two that fit, the longer."""

    def __init__(self, words: Words) -> None:
        longest_first = sorted(words, key=len, reverse=True)
        self._ids = [words[word] for word in longest_first]
        self._pattern = re.compile(
            "|".join(f"({word_pattern(word)})" for word in longest_first), re.IGNORECASE
        )

    def split(self, text: str) -> Iterator[tuple[str, Sequence[int]]]:
        """The text before each word with the word's ids; last what is left, with none."""
        start = 0
        for match in self._pattern.finditer(text) if self._ids else ():
            assert match.lastindex is not None  # each word is a group
            yield text[start : match.start()], self._ids[match.lastindex - 1]
            start = match.end()
        yield text[start:], ()


def word_pattern(word: str) -> str:
    """A regular expression for a word that is not part of a longer one, any space for each space in it."""
    spaced = r"\s+".join(map(re.escape, word.split()))
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", word) else ""
    return before + spaced + after


def plain_ids(text: str, tokenizer: Any) -> list[int]:
    """The tokens of a text, without marks."""
    # `verbose` would warn of a length that is no problem here
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids) if text else []


def _comma(tokenizer: Any) -> int | None:
    ids = plain_ids(",", tokenizer)
    return ids[0] if len(ids) == 1 else None


def _framed(ids: Sequence[int], weights: Sequence[float], tokenizer: Any, length: int) -> Chunk:
    padding = length - 2 - len(ids)
    return Chunk(
        ids=(tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding),
        weights=(1.0, *weights, 1.0, *[1.0] * padding),
    )
