"""Words that learn: vectors beside a text encoder's own table (textual inversion, Gal et al. 2022).

The table itself stays as it is; only the new vectors are parameters. A prompt says a new word as it says that
of an embedding's file (`textual_inversion.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models.chunks import chunk_length, plain_ids
from pipeline.models.embedding_layout import PAIR, SINGLE
from pipeline.models.model import Model
from pipeline.models.sealed import write_sealed
from pipeline.models.textual_inversion import encoders_of, table_of, word_of


class _Table(nn.Module):
    """A frozen table [V, width], and new vectors [n, width] under the ids V, V + 1 ..."""

    def __init__(self, frozen: nn.Embedding, new: nn.Parameter) -> None:
        super().__init__()
        self.frozen, self.new = frozen, new

    @property
    def weight(self) -> Tensor:
        """[V + n, width], as an embedding has it."""
        return torch.cat([self.frozen.weight, self.new.to(self.frozen.weight)])

    @property
    def num_embeddings(self) -> int:
        """V + n."""
        return int(self.frozen.num_embeddings + len(self.new))

    def forward(self, ids: Tensor) -> Tensor:
        """ids [..., L] -> vectors [..., L, width]."""
        count = self.frozen.num_embeddings
        old: Tensor = self.frozen(ids.clamp(max=count - 1))
        new = nn.functional.embedding((ids - count).clamp(min=0), self.new).to(old.dtype)
        return torch.where((ids >= count).unsqueeze(-1), new, old)


@dataclasses.dataclass(frozen=True)
class NewWords:
    """Words of one model that learn: word -> its rows in each encoder's `vectors` [n, width]."""

    model: Model
    rows: Mapping[str, range]
    vectors: tuple[nn.Parameter, ...]

    def state(self) -> dict[str, Tensor]:
        """A snapshot, float32 on the CPU: "<word>.<encoder>" -> [vectors, width]."""
        return {
            f"{word}.{place}": vectors[rows.start : rows.stop].detach().cpu().clone()
            for word, rows in self.rows.items()
            for place, vectors in enumerate(self.vectors)
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a snapshot back, bit for bit. Raises ModelError where words or numbers of vectors differ."""
        ours = self.state()
        odd = sorted(set(ours) ^ set(state))
        odd += [key for key in ours if key in state and ours[key].shape != state[key].shape]
        if odd:
            raise ModelError(
                f"embedding state: {', '.join(odd[:3])} do not fit the words being trained; triggers or "
                "vectors changed since the checkpoint: start afresh"
            )
        with torch.no_grad():
            for word, rows in self.rows.items():
                for place, vectors in enumerate(self.vectors):
                    vectors[rows.start : rows.stop].copy_(state[f"{word}.{place}"])

    @contextlib.contextmanager
    def unknown(self) -> Iterator[None]:
        """Inside, prompts read the words as plain text, as the base does."""
        ids, words = self.model.embedding_ids, {word_of(word) for word in self.rows}
        known = {word: ids.pop(word) for word in list(ids) if word in words}
        self.model.said.clear()
        try:
            yield
        finally:
            ids |= known
            self.model.said.clear()

    def write(self, word: str, path: Path, *, metadata: Mapping[str, str]) -> None:
        """Write a word's vectors as A1111 and kohya read them: `emb_params`, for SDXL `clip_l`, `clip_g`."""
        keys = (SINGLE,) if len(self.vectors) == 1 else PAIR
        rows = self.rows[word]
        parts = (vectors[rows.start : rows.stop].detach().float() for vectors in self.vectors)
        write_sealed(path, dict(zip(keys, parts, strict=True)), metadata)


def add_words(model: Model, words: Mapping[str, tuple[str, int]]) -> NewWords:
    """Give the model words that learn: word -> (text to start from, number of vectors).

    The n vectors of a word start as those of the text's tokens, spread over them as A1111 does. Raises
    ModelError for a word that is taken, a text without tokens, more vectors than a prompt has room for.
    """
    tokenizers = [each for each in (model.tokenizer, model.tokenizer_2) if each is not None]
    encoders = encoders_of(model)
    _check(model, words, min(map(chunk_length, encoders, tokenizers)) - 2)
    rows, done = dict[str, range](), 0
    for word, (_, count) in words.items():
        rows[word] = range(done, done + count)
        done += count
    vectors, firsts = [], []
    for encoder, tokenizer in zip(encoders, tokenizers, strict=True):
        parent, table = table_of(encoder)
        starts = [_start(table.weight, tokenizer, text, count) for text, count in words.values()]
        new = nn.Parameter(torch.cat(starts).float())
        parent.token_embedding = _Table(table, new)
        firsts.append(int(table.num_embeddings))
        vectors.append(new)
    for word, own in rows.items():
        model.embedding_ids[word_of(word)] = tuple(
            tuple(range(first + own.start, first + own.stop)) for first in firsts
        )
    model.said.clear()
    return NewWords(model, rows, tuple(vectors))


def _start(table: Tensor, tokenizer: Any, text: str, count: int) -> Tensor:
    """[count, width]: the vectors of the text's tokens, each as often as the others."""
    ids = plain_ids(text, tokenizer)
    if not ids:
        raise ModelError(
            f"'{text}' has no tokens to start a new word from; expected an init_text or class in words"
        )
    return table.detach()[[ids[i * len(ids) // count] for i in range(count)]].clone()


def _check(model: Model, words: Mapping[str, tuple[str, int]], room: int) -> None:
    seen = {word_of(word) for word in model.embedding_ids}
    for word, (_, count) in words.items():
        if word_of(word) in seen:
            raise ModelError(f"trigger '{word}': the word is taken; give each embedding a word of its own")
        seen.add(word_of(word))
        if count > room // 2:
            raise ModelError(
                f"train.vectors is {count}; model '{model.family.name}' reads {room} tokens at once: "
                f"expected at most {room // 2}, so that captions have room"
            )
