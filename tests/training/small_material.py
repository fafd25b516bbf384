"""Two examples of one concept as the loop eats them, made of noise."""

from __future__ import annotations

import torch

from training.material import Material
from training.schema import Concept

CONCEPT = Concept.model_validate({"trigger": "irisbot", "class": "woman", "kind": "character"})
TEXTS = ("irisbot woman", "a woman in a hall, irisbot")


def small_material() -> Material:
    """Latents of the miniature's size, no controls, no masks."""
    latents = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)).unbind()
    return Material(
        latents=latents,
        controls={},
        has_control={},
        engine=latents,
        has_engine=torch.zeros(2, dtype=torch.bool),
        masks=None,
        sizes=torch.zeros(2, 6),
        captions=TEXTS,
        triggers=("irisbot",) * 2,
        plain=("woman", "a woman in a hall"),
        concepts=(0, 0),
        shares=(1.0,),
    )
