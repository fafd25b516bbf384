"""What the prompts of one call say to the networks, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.diffuse.settings import Prompt
from pipeline.models import Conditioning, Model, count_chunks, encode_prompts

_Mix = tuple[tuple[str, float], ...]
_KEPT = 64  # texts kept encoded; a shot has few


def condition(model: Model, prompts: Sequence[Prompt], clip_skip: int) -> Conditioning:
    """One row for each prompt; the embeddings of several texts in one are added with their weights.

    The same texts are encoded once for as long as the text encoders' weights stay.
    """
    mixes = [((prompt, 1.0),) if isinstance(prompt, str) else prompt for prompt in prompts]
    encoded = _encoded(model, tuple(text for mix in mixes for text, _ in mix), clip_skip)
    pooled = encoded.pooled
    return Conditioning(
        tokens=_mixed(encoded.tokens, mixes), pooled=None if pooled is None else _mixed(pooled, mixes)
    )


def rows_of(said: Conditioning, shape: tuple[int, ...]) -> tuple[torch.Tensor, dict[str, Any]]:
    """The prompts' rows [N, L, width], and what SDXL's UNet is told besides.

    `shape` is H, W in pixels. SDXL is conditioned on the size of the picture that a crop was taken from,
    the crop's corner, and the size wanted (Podell et al. 2023, 2.2): here the frame is whole.
    """
    height, width = shape
    tokens = said.tokens
    if said.pooled is None:
        return tokens, {}
    sizes = torch.tensor([height, width, 0, 0, height, width], dtype=tokens.dtype, device=tokens.device)
    added = {"text_embeds": said.pooled, "time_ids": sizes.expand(len(tokens), -1)}
    return tokens, {"added_cond_kwargs": added}


def _encoded(model: Model, texts: tuple[str, ...], clip_skip: int) -> Conditioning:
    """One row for each text; those of one call are as long as the longest."""
    most = max(count_chunks(model, text) for text in dict.fromkeys(texts))
    kept = model.said
    rows: list[Conditioning] = []
    for text in texts:
        key = (text, clip_skip, most)
        if key not in kept:
            if len(kept) >= _KEPT:
                del kept[next(iter(kept))]
            kept[key] = encode_prompts(model, [text], clip_skip=clip_skip, num_chunks=most)
        rows.append(kept[key])
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return Conditioning(
        tokens=torch.cat([row.tokens for row in rows]), pooled=torch.cat(pooled) if pooled else None
    )


def _mixed(encoded: torch.Tensor, mixes: Sequence[_Mix]) -> torch.Tensor:
    """[one row for each text, ...] -> [one row for each mix, ...]."""
    rows, start = [], 0
    for mix in mixes:
        part = encoded[start : start + len(mix)]  # [n, ...]
        start += len(mix)
        if len(mix) > 1:
            weights = torch.tensor([weight for _, weight in mix], device=part.device)
            part = torch.einsum("n,n...->...", weights, part.float())[None].to(encoded.dtype)
        rows.append(part)
    return torch.cat(rows)
