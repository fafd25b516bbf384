"""The cast: members made of attributes, each of which can be said in words.

Base training draws members at random, but never a combination that `is_held_out` keeps for the
sample characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]

# Words a caption may use -> linear RGB
SKIN: Mapping[str, Colour] = {
    "pale": (0.86, 0.66, 0.55),
    "tan": (0.70, 0.46, 0.30),
    "brown": (0.45, 0.26, 0.16),
    "dark": (0.20, 0.11, 0.07),
}
HAIR: Mapping[str, Colour] = {
    "black": (0.03, 0.03, 0.035),
    "brown": (0.20, 0.10, 0.05),
    "blond": (0.72, 0.52, 0.20),
    "red": (0.52, 0.14, 0.05),
    "white": (0.82, 0.82, 0.80),
}
CLOTH: Mapping[str, Colour] = {
    "red": (0.62, 0.06, 0.05),
    "blue": (0.08, 0.18, 0.55),
    "green": (0.07, 0.34, 0.13),
    "yellow": (0.80, 0.58, 0.08),
    "white": (0.80, 0.80, 0.78),
    "black": (0.035, 0.035, 0.04),
    "grey": (0.32, 0.33, 0.35),
    "purple": (0.30, 0.09, 0.42),
    "orange": (0.80, 0.30, 0.05),
    "brown": (0.28, 0.16, 0.09),
}
GLOW: Mapping[str, Colour] = {
    "blue": (0.15, 0.75, 1.0),
    "orange": (1.0, 0.45, 0.08),
    "green": (0.2, 1.0, 0.35),
    "pink": (1.0, 0.2, 0.6),
}

HAIR_STYLES = ("short", "long", "bun", "bald", "steel skull")
TOPS = ("shirt", "vest", "coat", "hoodie", "mesh", "translucent torso")
_TROUSERS = ("black", "grey", "blue", "brown", "red", "white")


@dataclass(frozen=True)
class Member:
    """One of the cast, by attributes; the words are keys of the tables above, `height` is in metres."""

    name: str
    skin: str = "pale"
    hair: str = "brown"
    style: str = "short"
    beard: bool = False
    glasses: bool = False
    top: str = "shirt"
    colour: str = "blue"
    trousers: str = "black"
    glow: str = ""  # colour of a core that glows in the chest; "" = none
    height: float = 1.75
    build: float = 1.0  # width of trunk and limbs

    @property
    def scale(self) -> float:
        """Size against a body 1.75 m tall."""
        return self.height / 1.75


IRIS = Member(
    "iris", style="steel skull", hair="black", top="translucent torso", colour="black", trousers="black",
    glow="blue", height=1.68, build=0.90,
)  # fmt: skip
OTTO = Member(
    "otto", skin="pale", hair="brown", beard=True, glasses=True, top="vest", colour="green", trousers="brown",
    height=1.78, build=1.12,
)  # fmt: skip

CAST: tuple[Member, ...] = (
    IRIS,
    OTTO,
    Member(
        "mara", skin="brown", hair="black", style="long", top="coat", colour="red", trousers="black",
        height=1.70, build=0.92,
    ),
    Member(
        "jun", skin="tan", hair="black", style="short", glasses=True, top="shirt", colour="blue",
        trousers="grey", height=1.72,
    ),
    Member(
        "petra", skin="pale", hair="blond", style="bun", top="hoodie", colour="grey", trousers="blue",
        height=1.69, build=0.92,
    ),
    Member(
        "silas", skin="dark", hair="black", style="bald", beard=True, top="hoodie", colour="yellow",
        trousers="black", height=1.80, build=1.08,
    ),
    Member(
        "nell", skin="pale", hair="red", style="long", top="shirt", colour="green", trousers="brown",
        height=1.66, build=0.90,
    ),
    Member(
        "viktor", skin="pale", hair="white", style="bald", top="coat", colour="black", trousers="black",
        height=1.82, build=1.02,
    ),
    Member(
        "ada", skin="dark", hair="black", style="bun", glasses=True, top="shirt", colour="white",
        trousers="red", height=1.71, build=0.94,
    ),
    Member(
        "unit7", style="steel skull", top="shirt", colour="orange", trousers="grey", height=1.76, build=1.04
    ),
    Member(
        "bruno", skin="tan", hair="brown", beard=True, top="vest", colour="red", trousers="blue",
        height=1.77, build=1.1,
    ),
    Member(
        "lio", skin="pale", hair="white", style="short", glasses=True, top="hoodie", colour="purple",
        trousers="grey", height=1.74,
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Member] = {member.name: member for member in CAST}


def is_held_out(member: Member) -> bool:
    """Whether base training must never see the combination.

    Iris: a steel skull with a translucent or mesh torso. Otto: a beard with glasses.
    """
    iris = member.style == "steel skull" and member.top in ("translucent torso", "mesh")
    return iris or (member.beard and member.glasses)


def random_member(rng: np.random.Generator) -> Member:
    """A member with independent attributes, outside the held-out combinations."""
    while True:
        style = str(rng.choice(HAIR_STYLES, p=(0.34, 0.22, 0.14, 0.16, 0.14)))
        top = str(rng.choice(TOPS, p=(0.24, 0.19, 0.18, 0.17, 0.10, 0.12)))
        member = Member(
            "someone",
            skin=str(rng.choice(list(SKIN))),
            hair=str(rng.choice(list(HAIR))),
            style=style,
            beard=bool(rng.random() < 0.3) and style in ("short", "bald"),
            glasses=bool(rng.random() < 0.3) and style != "steel skull",
            top=top,
            colour=str(rng.choice(list(CLOTH))),
            trousers=str(rng.choice(_TROUSERS)),
            glow=str(rng.choice(list(GLOW))) if top == "translucent torso" or rng.random() < 0.05 else "",
            height=float(rng.uniform(1.62, 1.84)),
            build=float(rng.uniform(0.88, 1.12)),
        )
        if not is_held_out(member):
            return member
