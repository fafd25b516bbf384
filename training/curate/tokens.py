"""The tokenizer of the model that a dataset trains: how long captions may be, and which words it knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from training.resolve import find_base
from training.schema import DatasetFile


@dataclass(frozen=True)
class Tokens:
    """Counts tokens without loading the model."""

    count: Callable[[str], int]
    """Tokens of a text, start and end marks included."""
    max_tokens: int
    """How many of them the text encoder reads."""

    def is_one_token(self, phrase: str) -> bool:
        """Whether the tokenizer has a token of its own for the phrase."""
        return self.count(phrase) == self.count("") + 1


def load_tokens(path: Path, file: DatasetFile) -> Tokens:
    """The tokenizer of the model that the dataset file at `path` names.

    Raises `ModelError` when the model is not there or its tokenizer cannot be read.
    """
    _, found = find_base(path, file, offline=True)
    if found.is_file():  # in the original layout: the family's tokenizer comes with lookdev
        from pipeline.models.tokenizer import MAX_LENGTH, clip_tokenizer

        own: Any = clip_tokenizer()
        return Tokens(count=lambda text: len(own(text).input_ids), max_tokens=MAX_LENGTH)
    place = found / "tokenizer"
    try:
        config = json.loads((place / "tokenizer_config.json").read_text(encoding="utf-8"))
        limit = int(config["model_max_length"])
        return Tokens(count=_counter(place), max_tokens=limit)
    except Exception as error:  # the tokenizers library raises plain Exception for a broken file
        raise ModelError(f"{place}: not a readable tokenizer ({error}); check the model folder") from error


def _counter(folder: Path) -> Callable[[str], int]:
    import tokenizers

    whole = folder / "tokenizer.json"
    if whole.is_file():
        fast = tokenizers.Tokenizer.from_file(str(whole))
        return lambda text: len(fast.encode(text).ids)
    from transformers import CLIPTokenizer  # seconds: only for folders with vocab.json and merges.txt

    slow: Any = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return lambda text: len(slow(text).input_ids)
