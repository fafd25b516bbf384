"""Images that show somebody else than the others of their trigger do: the android with hair.

Each image is read as how likely it makes every head (`training.curate.recognise`). The head that the others
show together is then known, whatever each of them leaves open (a back view says nothing of glasses), and with
it how likely it is that this image shows another. All sums are exact; nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.curate.recognise import Heads

FloatArray = NDArray[np.float64]

MIN_JUDGED = 6  # with fewer images nothing can be said of "the others"
STRANGERS = 0.05  # share of a dataset's images that show somebody else, before anything is seen
CERTAIN = 0.8  # from here on an image is reported; of 2,400 clean ones the strangest had 0.6 to 0.65
MOST = 0.25  # of the images; where more seem strangers the reading is at fault, and nobody is accused
CLEAR = 0.8  # a property is named from here on
DOUBT = 1e-3  # a reading is noise so often, however sure of itself it is
SAME_SIDE = np.radians(60.0)  # two views so far apart share 1/e; best of 25, 60 and none (docs/log.md)


def strangers(read: FloatArray, known: Heads) -> FloatArray:
    """How likely it is that image n shows somebody else than the others do, [N], from what was read [N, H].

    All show one head, each of them with odds 1 - STRANGERS, else a stranger's: one that differs in a single
    property (the same man without his beard) or any, as often. Two strangers of a kind do not make a look.
    """
    evidence = (1.0 - DOUBT) * read / known.odds + DOUBT  # [N, H] likelihood ratios
    strange = STRANGERS * (0.5 + 0.5 * evidence @ _one_change(known).T)  # any head's is 1
    own = (1.0 - STRANGERS) * evidence
    shown = np.log(own + strange)
    together = shown.sum(axis=0) + np.log(known.odds)  # [H]
    others = together - shown  # [N, H] without the image itself
    others = np.exp(others - others.max(axis=1, keepdims=True))
    chances = (others * strange).sum(axis=1) / (others * (own + strange)).sum(axis=1)
    return np.asarray(chances)


def _one_change(known: Heads) -> FloatArray:
    """Odds [H, H] of the heads that differ from head h, the row, in one property that both have."""
    a, b = known.heads[:, None], known.heads[None]
    changes = ((a != b) & (a >= 0) & (b >= 0)).sum(axis=2)
    odds = np.where(changes == 1, known.odds, 0.0)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def outliers(chances: FloatArray) -> list[int]:
    """The images to report, by `strangers`."""
    found = np.flatnonzero(chances >= CERTAIN)
    if len(chances) < MIN_JUDGED or len(found) > MOST * len(chances):
        return []
    return [int(index) for index in found]


def difference(read: FloatArray, index: int, known: Heads) -> str:
    """In words, what image `index` shows and the others show otherwise: "long hair, the others steel skull".

    Said of a property that both have, where each is read as one thing with `CLEAR` odds or better.
    """
    rest = np.delete(read, index, axis=0)
    together = np.log((1.0 - STRANGERS) * rest / known.odds + STRANGERS).sum(axis=0) + np.log(known.odds)
    usual = np.exp(together - together.max())
    here, there = (_clear(likely / likely.sum(), known) for likely in (read[index], usual))
    differ = [(a, b) for a, b in zip(here, there, strict=True) if a and b and a != b]
    if not differ:
        return "the head is another, in what is not clear"
    return f"{' and '.join(a for a, _ in differ)}, the others {' and '.join(b for _, b in differ)}"


def _clear(likely: FloatArray, known: Heads) -> list[str]:
    """The word for each property, "" where it is not clear or not there, by how likely each head is [H]."""
    said = []
    for words, values in zip(known.words, known.heads.T, strict=True):
        odds = [float(likely[values == value].sum()) for value in range(len(words))]
        said.append(words[int(np.argmax(odds))] if max(odds) >= CLEAR else "")
    return said


def farthest(vectors: FloatArray, angles: Sequence[float | None]) -> list[int]:
    """Indices, those least like the others first, by features [N, D] of unit length.

    How far an image is: 1 - cosine to the mean of the others, those seen from about the same side counting
    most. `angles` in radians between face and camera, None where not known. This ranks, and decides nothing.
    """
    turned = np.array([np.nan if angle is None else abs(angle) for angle in angles])
    apart = np.nan_to_num(turned[:, None] - turned[None], nan=SAME_SIDE)
    weights = np.exp(-((apart / SAME_SIDE) ** 2)) + 1e-3  # [N, N]
    np.fill_diagonal(weights, 0.0)
    usual = weights @ vectors
    usual /= np.maximum(np.linalg.norm(usual, axis=1, keepdims=True), 1e-12)
    return [int(index) for index in np.argsort(-(1.0 - (vectors * usual).sum(axis=1)), kind="stable")]
