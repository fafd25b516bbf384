"""What the networks are told besides the noisy latents: captions, and SDXL's sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.models import Conditioning, Model, encode_captions
from training.cache import Cache


class Texts:
    """Captions -> conditioning. `kept` is for text encoders that learn nothing, or nothing any more."""

    def __init__(self, model: Model, cache: Cache) -> None:
        self._model, self._cache = model, cache
        self._kept: dict[str, Conditioning] = {}

    def fresh(self, texts: Sequence[str]) -> Conditioning:
        """Encoded now, with gradients where something in the text encoders learns."""
        return encode_captions(self._model, texts)

    def kept(self, texts: Sequence[str]) -> Conditioning:
        """Encoded once, without gradients: out of memory, or computed."""
        for text in texts:
            if text not in self._kept:
                with torch.no_grad():
                    self._kept[text] = encode_captions(self._model, [text])
        return _stacked([self._kept[text] for text in texts])

    def read_ahead(self, texts: Sequence[str]) -> None:
        """Have these ready, from disk where they are there: for text encoders that never learn."""
        for text in dict.fromkeys(texts):
            tokens, pooled = (self._cache.get(self._cache.text_key(part, text)) for part in _PARTS)
            if tokens is not None:
                self._kept[text] = Conditioning(*(_placed(each, self._model) for each in (tokens, pooled)))
                continue
            said = self.kept([text])
            for part, value in zip(_PARTS, (said.tokens, said.pooled), strict=True):
                if value is not None:
                    self._cache.put(self._cache.text_key(part, text), value)


_PARTS = ("tokens", "pooled")


def _placed(value: Tensor | None, model: Model) -> Any:
    return None if value is None else value.to(model.device)


def _stacked(rows: Sequence[Conditioning]) -> Conditioning:
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return Conditioning(
        tokens=torch.cat([row.tokens for row in rows]), pooled=torch.cat(pooled) if pooled else None
    )


def further_arguments(said: Conditioning, sizes: Tensor) -> dict[str, Any]:
    """What SDXL's networks are told besides: the pooled text, and `sizes` [B, 6] as pixels.

    Height and width of the picture that a crop was taken from, the crop's corner, its height and width
    (Podell et al. 2023, 2.2). Nothing for families that have no pooled text.
    """
    if said.pooled is None:
        return {}
    return {"added_cond_kwargs": {"text_embeds": said.pooled, "time_ids": sizes.to(said.pooled)}}
