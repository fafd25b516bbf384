"""What a head is, read from its picture: how likely each head of the stage is, whatever the light and view.

The network is this project's own, trained on heads of the procedural stage (docs/datasets.md; the recipe is
`python -m samples.recogniser.train`). It knows no other heads: what it says of a photograph means nothing.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import UInt8Array

FloatArray = NDArray[np.float64]

WEIGHTS = Path(__file__).with_name("heads.safetensors")
SIDE = 40  # pixels of a cut
HEAD, AROUND = 1.0, 2.5  # half widths of the two cuts, in units of head to neck
OUTSIDE = 128  # grey of what lies outside the picture
MIN_HEAD = 6.0  # pixels from the neck to the middle of the head; full shots have 12, at half their size 6
_BATCH = 64


@dataclass(frozen=True)
class Heads:
    """All heads that are told apart. `words[a][heads[h, a]]` says what head h is by property a."""

    words: tuple[tuple[str, ...], ...]
    heads: NDArray[np.int64]  # [H, A], -1 = there is no such thing on that head
    odds: FloatArray  # [H] of each before anything is seen


@dataclass(frozen=True)
class Recogniser:
    """The heads, and what reads how likely each is."""

    known: Heads
    read: Callable[[Sequence[UInt8Array]], FloatArray]
    """Cuts [40, 40, 6] of N pictures -> probabilities [N, H]."""


def cut_head(picture: UInt8Array, middle: FloatArray, reach: float) -> UInt8Array:
    """The head and what is around it [40, 40, 6]: `middle` [2] x then y, `reach` from there to the neck."""
    cuts = [_cut(picture, middle, half * reach) for half in (HEAD, AROUND)]
    return np.concatenate(cuts, axis=2)


def _cut(picture: UInt8Array, middle: FloatArray, half: float) -> UInt8Array:
    """The square of `half` pixels around `middle`, at 40 x 40."""
    height, width = picture.shape[:2]
    side = max(2, round(2.0 * half))
    left, top = (round(float(place) - half) for place in middle)
    box = np.full((side, side, 3), OUTSIDE, np.uint8)
    x0, x1 = max(0, left), min(width, left + side)
    y0, y1 = max(0, top), min(height, top + side)
    if x0 < x1 and y0 < y1:
        box[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    how = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(box, (SIDE, SIDE), interpolation=how), np.uint8)


@functools.cache
def load_recogniser(path: Path = WEIGHTS) -> Recogniser:
    """The recogniser that ships."""
    import torch
    from safetensors import safe_open

    from training.curate.head_network import HeadNetwork

    with safe_open(path, framework="pt") as file:
        words = json.loads(file.metadata()["words"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    heads, odds, scores = (tensors.pop(name) for name in ("heads", "odds", "scores_of"))
    network = HeadNetwork(scores.shape[1])
    network.load_state_dict({name: values.to(torch.float32) for name, values in tensors.items()})
    network.eval()
    known = Heads(tuple(tuple(each) for each in words), heads.long().numpy(), odds.double().numpy())

    def read(cuts: Sequence[UInt8Array]) -> FloatArray:
        given = torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with torch.inference_mode():
            said = torch.cat([network(part) for part in torch.split(given, _BATCH)])
            likely = torch.softmax(said @ scores.float().T, dim=1)
        return np.asarray(likely.double().numpy())

    return Recogniser(known, read)
