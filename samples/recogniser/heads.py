"""What a head of the stage can be: every combination that an eye can tell, with its odds in training.

Training draws heads with independent attributes, so that nothing about the head can be told from the clothes.
All of them are drawn, the cast's too: what stays out is the cast itself, a head of it with its own top, its
colour and trousers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samples.stage.cast import CAST, HAIR, HAIR_STYLES, SKIN, Member, random_member

FloatArray = NDArray[np.float64]

STYLE_ODDS = (0.24, 0.22, 0.18, 0.20, 0.16)  # of HAIR_STYLES
BEARD_ODDS = GLASSES_ODDS = 0.3  # of heads with skin

# What is read of a head -> the words for it. Their order is the order of the network's scores.
READ: Mapping[str, tuple[str, ...]] = {
    "style": ("short hair", "long hair", "hair in a bun", "bald", "steel skull"),
    "hair": tuple(f"{colour} hair" for colour in HAIR),
    "skin": tuple(f"{tone} skin" for tone in SKIN),
    "beard": ("no beard", "beard"),
    "glasses": ("no glasses", "glasses"),
}
NOT_THERE = -1  # the hair of the bald, the skin of a steel skull

Head = tuple[int, ...]  # an index into each of READ, or NOT_THERE


def head_of(member: Member) -> Head:
    """What of a member's head can be seen."""
    style = HAIR_STYLES.index(member.style)
    if member.style == "steel skull":
        return (style, NOT_THERE, NOT_THERE, NOT_THERE, NOT_THERE)
    hair = list(HAIR).index(member.hair)
    if member.style == "bald" and not member.beard:
        hair = NOT_THERE
    return (style, hair, list(SKIN).index(member.skin), int(member.beard), int(member.glasses))


def all_heads() -> tuple[list[Head], FloatArray]:
    """Every head, and its odds in training [H]."""
    heads: list[Head] = []
    odds: list[float] = []
    for style, share in zip(HAIR_STYLES, STYLE_ODDS, strict=True):
        if style == "steel skull":
            heads.append(head_of(Member("", style=style)))
            odds.append(share)
            continue
        for beard in (False, True):
            colours = list(HAIR) if style != "bald" or beard else [next(iter(HAIR))]
            for colour in colours:
                for skin in SKIN:
                    for glasses in (False, True):
                        head = Member("", skin, colour, style, beard=beard, glasses=glasses)
                        heads.append(head_of(head))
                        worn = BEARD_ODDS if beard else 1.0 - BEARD_ODDS
                        seen = GLASSES_ODDS if glasses else 1.0 - GLASSES_ODDS
                        odds.append(share * worn * seen / len(colours) / len(SKIN))
    return heads, np.asarray(odds)


def scores_of(heads: Sequence[Head]) -> FloatArray:
    """[H, S] of 0 and 1: which of the network's scores add up to each head's."""
    sizes = [len(words) for words in READ.values()]
    table = np.zeros((len(heads), sum(sizes)))
    for row, head in enumerate(heads):
        start = 0
        for size, choice in zip(sizes, head, strict=True):
            if choice != NOT_THERE:
                table[row, start + choice] = 1.0
            start += size
    return table


def random_head(rng: np.random.Generator) -> Member:
    """A member with any head on any body, but nobody of the cast as it is, head and clothes."""
    while True:
        style = str(rng.choice(HAIR_STYLES, p=STYLE_ODDS))
        bare = style == "steel skull"
        member = replace(
            random_member(rng),
            style=style,
            skin=str(rng.choice(list(SKIN))),
            hair=str(rng.choice(list(HAIR))),
            beard=not bare and bool(rng.random() < BEARD_ODDS),
            glasses=not bare and bool(rng.random() < GLASSES_ODDS),
        )
        if not _is_cast(member):
            return member


def _is_cast(member: Member) -> bool:
    """Whether somebody of the cast has this head on this body, by all that is said in words."""
    return any(
        head_of(member) == head_of(other)
        and (member.top, member.colour, member.trousers) == (other.top, other.colour, other.trousers)
        for other in CAST
    )
