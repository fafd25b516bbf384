"""How well strangers are found in datasets of random heads, by what they differ in.

    python -m benchmarks.strangers [--members 40] [--seed 5002]

For each member, nobody of the cast as it is, 20 stills as the sample datasets have them; then the same stills
with two strangers, who differ in the head only. training/curate/outliers.py was set on seeds 5001 and 5003.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Value, markdown
from pipeline.image import UInt8Array
from samples.recogniser.data import still
from samples.recogniser.heads import head_of, random_head
from samples.stage.cast import HAIR, SKIN, Member
from samples.stage.datasets import NUM_IMAGES, varied
from training.curate.outliers import outliers, strangers
from training.curate.recognise import Recogniser, cut_head, load_recogniser

FloatArray = NDArray[np.float64]
STRANGERS = 2  # in each spoiled set


def _hair_or_none(member: Member, rng: np.random.Generator) -> Member:
    hairless = member.style in ("bald", "steel skull")
    return replace(member, style="long", hair="black") if hairless else replace(member, style="bald")


def _anybody(member: Member, rng: np.random.Generator) -> Member:
    other = random_head(rng)
    return replace(
        member, style=other.style, hair=other.hair, skin=other.skin, beard=other.beard, glasses=other.glasses
    )


def _other(table: Iterable[str], now: str, rng: np.random.Generator) -> str:
    return str(rng.choice([name for name in table if name != now]))


# What a stranger differs in -> the stranger.
CHANGES: dict[str, Callable[[Member, np.random.Generator], Member]] = {
    "hair or none": _hair_or_none,
    "anybody else": _anybody,
    "colour of the hair": lambda member, rng: replace(member, hair=_other(HAIR, member.hair, rng)),
    "skin": lambda member, rng: replace(member, skin=_other(SKIN, member.skin, rng)),
    "beard": lambda member, _: replace(member, beard=not member.beard),
    "glasses": lambda member, _: replace(member, glasses=not member.glasses),
}


@dataclass(frozen=True)
class Sets:
    """One member: the cuts of a clean set, and of the strangers that take two places in it."""

    clean: tuple[UInt8Array, ...]
    places: tuple[int, ...]
    strangers: dict[str, tuple[UInt8Array, ...]]  # of the changes that show on this head


def make(rng: np.random.Generator) -> Sets:
    """Render one member's stills."""
    member = random_head(rng)
    scenes = [varied(rng, index, member) for index in range(NUM_IMAGES)]
    clean = tuple(_cut(*still(scene, rng)) for scene in scenes)
    places = tuple(int(place) for place in rng.choice(NUM_IMAGES, STRANGERS, replace=False))
    others = {name: change(member, rng) for name, change in CHANGES.items()}
    return Sets(
        clean,
        places,
        {
            name: tuple(_cut(*still(scenes[place].recast(0, other), rng)) for place in places)
            for name, other in others.items()
            if head_of(other) != head_of(member)
        },
    )


def _cut(film: UInt8Array, place: FloatArray) -> UInt8Array:
    return cut_head(film, place[:2], float(place[2]))


def count(recogniser: Recogniser, sets: Sequence[Sets]) -> list[dict[str, Value]]:
    """A row for the clean sets and for each kind of stranger."""
    tally = {name: [0, 0, 0, 0] for name in ("none", *CHANGES)}
    for each in sets:
        read = recogniser.read(each.clean)
        _tally(tally["none"], read, (), recogniser)
        for name, cuts in each.strangers.items():
            spoiled = read.copy()
            spoiled[list(each.places)] = recogniser.read(cuts)
            _tally(tally[name], spoiled, each.places, recogniser)
    return [
        {"strangers by": name, "sets": done, "strangers": planted, "found": found, "false alarms": false}
        for name, (done, planted, found, false) in tally.items()
    ]


def _tally(row: list[int], read: FloatArray, planted: Sequence[int], recogniser: Recogniser) -> None:
    found = set(outliers(strangers(read, recogniser.known)))
    row[0] += 1
    row[1] += len(planted)
    row[2] += len(found & set(planted))
    row[3] += len(found - set(planted))


@click.command()
@click.option("--members", default=40, show_default=True)
@click.option("--seed", default=5002, show_default=True)
def main(members: int, seed: int) -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    recogniser = load_recogniser()
    rng = np.random.default_rng((73, seed))
    click.echo(markdown(count(recogniser, [make(rng) for _ in range(members)])))


if __name__ == "__main__":
    main()
