"""Frames of one batch that look at each other while they are denoised, so that they agree.

In the UNet's self-attention each frame's keys and values are its own, the anchor's and those of the frame
before it in the batch (Wu et al. 2023, "Tune-A-Video"; Khachatryan et al. 2023, "Text2Video-Zero"). The
anchor, the first row, looks at itself alone: it comes out as if it were styled alone, so the same anchor can
head every batch of a shot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from pipeline.models import Model

SELF_ATTENTION = "attn1"  # diffusers' name in its transformer blocks; attn2 reads the text


class JointAttention:
    """An attention processor that lets rows of a batch read the anchor's and the previous row's tokens.

    What it reads is given to the stock processor as `encoder_hidden_states`: keys and values are projections
    token by token, so those of joined tokens are the joined keys and values.
    """

    def __init__(self, stock: Any, rows: int) -> None:
        self._stock = stock
        self._rows = rows

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`hidden_states` [n * B, L, C]: n halves of guidance, B frames. The other two are None here."""
        halves = hidden_states.reshape(-1, self._rows, *hidden_states.shape[1:])  # [n, B, L, C]
        anchor = halves[:, :1].expand_as(halves)
        before = torch.cat([halves[:, :1], halves[:, :-1]], dim=1)
        seen = torch.cat([halves, anchor, before], dim=2).flatten(0, 1)  # [n * B, 3 L, C]
        attended: torch.Tensor = self._stock(attn, hidden_states, seen, attention_mask)
        return attended


@contextlib.contextmanager
def joint(model: Model, rows: int) -> Iterator[None]:
    """Inside, the UNet denoises its `rows` frames jointly; a single one as ever."""
    if rows == 1:
        yield
        return
    stock = dict(model.unet.attn_processors)
    wrapped = {
        name: JointAttention(processor, rows) if f".{SELF_ATTENTION}." in name else processor
        for name, processor in stock.items()
    }
    model.unet.set_attn_processor(wrapped)
    try:
        yield
    finally:
        model.unet.set_attn_processor(stock)
