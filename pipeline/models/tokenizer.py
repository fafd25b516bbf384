"""OpenAI CLIP's tokenizer, built from package data: Stable Diffusion 1.x and SDXL read prompts with it."""

from __future__ import annotations

import functools
import gzip
from importlib import resources
from typing import Any

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77  # tokens that CLIP's text encoders read, both marks included
_END_OF_WORD = "</w>"


def clip_tokenizer(*, pad_token: str = EOS) -> Any:
    """A transformers CLIPTokenizer: 49408 tokens, marks 49406 and 49407, at most 77 tokens.

    `pad_token` is the end mark for Stable Diffusion 1.x and SDXL's first text encoder, "!" (id 0) for SDXL's
    second. As in the tokenizers that Hugging Face ships, the pad token is then special: "!" in a prompt is
    id 0 too, where OpenAI's reads "!</w>". No network, no files but the package's.
    """
    from transformers import CLIPTokenizer

    merges = _merges()
    return CLIPTokenizer(
        vocab=_vocabulary(merges),
        merges=list(merges),
        bos_token=BOS,
        eos_token=EOS,
        unk_token=EOS,
        pad_token=pad_token,
        model_max_length=MAX_LENGTH,
    )


@functools.cache
def _merges() -> tuple[tuple[str, str], ...]:
    """Pairs of pieces in order of rank (Radford et al. 2021; bpe_simple_vocab_16e6.txt)."""
    packed = resources.files("pipeline.models.clip").joinpath("merges.txt.gz").read_bytes()
    pairs = []
    for line in gzip.decompress(packed).decode("utf-8").splitlines():
        left, right = line.split(" ")
        pairs.append((left, right))
    return tuple(pairs)


def _vocabulary(merges: tuple[tuple[str, str], ...]) -> dict[str, int]:
    """Bytes, bytes that end a word, one token a merge, the two marks: in CLIP's order."""
    letters = _byte_letters()
    tokens = [*letters, *(letter + _END_OF_WORD for letter in letters)]
    tokens += [left + right for left, right in merges]
    return {token: number for number, token in enumerate((*tokens, BOS, EOS))}


def _byte_letters() -> list[str]:
    """A printable letter for each byte in GPT-2's order (Radford et al. 2019): printable bytes come first."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = len(set(range(256)) - set(printable))
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(others)]
