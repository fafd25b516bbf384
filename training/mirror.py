"""Mirrored images: a second, honest view of a look or a place that has no left and no right of its own.

Twenty images of a style teach a network those twenty pictures along with the style. Mirrored, each is a
picture it has not seen, at no cost to the artist. A caption that says left says right then. A control whose
picture would be wrong mirrored (a skeleton's sides, a normal's x) is left out beside a mirrored image.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from pipeline.image import UInt8Array
from training.example import Example

SIDELESS_CONTROLS = frozenset({"depth", "canny", "softedge", "lineart"})
"""Controls whose picture of a mirrored scene is the mirrored picture."""
_SIDES = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
_SIDE = re.compile(rf"\b({'|'.join(_SIDES)})\b", re.IGNORECASE)


def mirrored(example: Example) -> Example:
    """The example as a mirror shows it: picture, sideless controls, engine's render, mask, caption.

    The cut's corner stays: cuts are centred.
    """
    return replace(
        example,
        image=_turned(example.image),
        caption=mirrored_caption(example.caption),
        controls={k: _turned(each) for k, each in example.controls.items() if k in SIDELESS_CONTROLS},
        engine=None if example.engine is None else _turned(example.engine),
        mask=None if example.mask is None else _turned(example.mask),
        is_mirrored=True,
    )


def mirrored_caption(caption: str) -> str:
    """The caption with left and right exchanged, each in the case it was written in."""
    return _SIDE.sub(lambda found: _in_case(_SIDES[found[0].lower()], found[0]), caption)


def _in_case(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word.capitalize() if like[0].isupper() else word


def _turned(picture: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(picture[:, ::-1])
