"""Textual inversions (Gal et al. 2022): learned word vectors from a file, used in prompts by name.

The vectors join the text encoder's own table of tokens; `chunks.py` puts their ids where a prompt says the
name. Read are A1111's files (safetensors with `emb_params`, pickles with `string_to_param`), SDXL's with
`clip_l` and `clip_g`, and diffusers' with one token.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes

from pipeline.errors import ModelError
from pipeline.models.chunks import chunk_length
from pipeline.models.embedding_layout import another_model, is_pickle, refuse_pickle, vector_keys
from pipeline.models.model import Model

# What torch's restricted reader raises for a damaged pickle, or for one with code in it (the last).
_BROKEN_PICKLE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, EOFError),
    *(struct.error, pickle.UnpicklingError),
)


@dataclass(frozen=True)
class EmbeddingUse:
    """One file and the word that stands for it in prompts; `allow_pickle` lets .pt and .bin files be read."""

    path: Path
    name: str
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        if not any(letter.isalpha() for letter in self.name):
            raise ModelError(
                f"embedding {self.path}: its name '{self.name}' has no letter; give it a name that prompts "
                "can say"
            )


def load_embeddings(model: Model, uses: Sequence[EmbeddingUse]) -> None:
    """Let prompts say each name for the vectors of its file; in place, all or none.

    A name is found as a word of its own, in any case, the longest first. Raises ModelError for a file that
    cannot be read or is made for another model, and for a name that is given twice.
    """
    taken = {word_of(word) for word in model.embedding_ids}
    read = []
    for use in uses:
        if word_of(use.name) in taken:
            raise ModelError(
                f"embedding {use.path}: the name '{use.name}' is taken; give each embedding a name of its own"
            )
        taken.add(word_of(use.name))
        vectors = read_embedding(use.path, allow_pickle=use.allow_pickle)
        _check_fits(vectors, model, use.path)
        read.append((word_of(use.name), vectors))
    encoders = encoders_of(model)
    if not read:
        return
    model.said.clear()
    counts = [len(vectors[0]) for _, vectors in read]
    firsts = [
        _extend(encoder, torch.cat([vectors[place] for _, vectors in read]))
        for place, encoder in enumerate(encoders)
    ]
    done = 0
    for (word, _), count in zip(read, counts, strict=True):
        model.embedding_ids[word] = tuple(
            tuple(range(first + done, first + done + count)) for first in firsts
        )
        done += count


def read_embedding(path: Path, *, allow_pickle: bool = False) -> tuple[torch.Tensor, ...]:
    """The vectors [n, width], float32, of each text encoder that the file is for: one, or SDXL's two.

    Pickles (.pt, .bin) can run code: they are refused unless `allow_pickle`, and then read by torch's
    restricted reader. Raises ModelError.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"embedding {path}: cannot be read ({error.strerror}); check the path") from error
    where = f"embedding {path}"
    if is_pickle(data):
        refuse_pickle(where, allow_pickle=allow_pickle)
        state = _read_pickle(path)
    else:
        try:
            state = load_bytes(data)
        except SafetensorError as error:
            raise ModelError(f"{where}: is no readable safetensors file ({error}); copy it again") from error
    return tuple(_checked(state[key], f"{where}: {key}") for key in vector_keys(state, where=where))


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        with torch.serialization.safe_globals([torch.nn.ParameterDict]):  # Gal et al.'s own files hold one
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN_PICKLE as error:
        raise ModelError(
            f"embedding {path}: the pickle is damaged or holds more than tensors ({type(error).__name__}); "
            "convert it to safetensors where it was made"
        ) from error
    if not isinstance(state, dict):
        raise ModelError(f"embedding {path}: holds a {type(state).__name__}; expected names and tensors")
    of_a1111 = state.get("string_to_param")
    if of_a1111 is not None and not isinstance(of_a1111, dict | torch.nn.ParameterDict):
        raise ModelError(
            f"embedding {path}: string_to_param is a {type(of_a1111).__name__}; expected tensors"
        )
    return state if of_a1111 is None else dict(of_a1111.items())


def _checked(tensor: Any, where: str) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise ModelError(f"{where} is no tensor of floating-point numbers; is the file an embedding?")
    vectors = tensor.detach().float()
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or not vectors.numel():
        raise ModelError(f"{where} has shape {list(tensor.shape)}; expected [vectors, width]")
    if not vectors.isfinite().all():
        raise ModelError(f"{where} holds numbers that are not finite; copy or train the file again")
    return vectors


def _check_fits(vectors: Sequence[torch.Tensor], model: Model, path: Path) -> None:
    """Widths as the model's text encoders have them; as many vectors in each; few enough for one chunk."""
    found = tuple(part.shape[1] for part in vectors)
    wanted = tuple(encoder.config.hidden_size for encoder in encoders_of(model))
    if found != wanted:
        wanted_text = " + ".join(map(str, wanted))
        raise another_model(found, wanted_text, model.family, where=f"embedding {path}")
    counts = {len(part) for part in vectors}
    if len(counts) > 1:
        raise ModelError(
            f"embedding {path}: {' and '.join(str(len(part)) for part in vectors)} vectors for the two text "
            "encoders; expected as many for both: copy it again"
        )
    room = min(chunk_length(encoder, model.tokenizer) for encoder in encoders_of(model)) - 2
    if max(counts) > room:
        raise ModelError(
            f"embedding {path}: {max(counts)} vectors; model '{model.family.name}' reads {room} tokens "
            "at once: choose a smaller one"
        )


def _extend(encoder: Any, vectors: torch.Tensor) -> int:
    """Put vectors [n, width] after the encoder's tokens; returns the first new id."""
    parent, old = table_of(encoder)
    weight = torch.cat([old.weight.detach(), vectors.to(old.weight)])
    count, width = weight.shape
    table = torch.nn.Embedding(count, width, _weight=weight).requires_grad_(False)
    parent.token_embedding = table
    encoder.config.vocab_size = len(weight)
    return int(old.num_embeddings)


def table_of(encoder: Any) -> tuple[Any, Any]:
    """The module that holds a text encoder's table of tokens as `token_embedding`, and the table."""
    parent = getattr(encoder, "text_model", encoder).embeddings
    return parent, parent.token_embedding


def encoders_of(model: Model) -> list[Any]:
    """The model's text encoders, one or two."""
    return [encoder for encoder in (model.text_encoder, model.text_encoder_2) if encoder is not None]


def word_of(name: str) -> str:
    """A name as it is compared: lower case, single spaces."""
    return " ".join(name.lower().split())
