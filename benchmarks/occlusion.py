"""What of a frame is hidden in the next: every way to tell it, against the stage's exact answer.

    python -m benchmarks.occlusion [--size 512] [--pairs 6] [--look film]
    python -m benchmarks.occlusion --textured 12      # by flow alone, on benchmarks/layers.py

The stage follows each pixel's surface point into the neighbour frame and asks whether anything stands before
it. F1 is given for the hidden pixels, which are few and what a mask is for (with those that leave the frame,
and without), and for the seen ones, which are nearly all and flatter every method. Both directions of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import click
import cv2
import numpy as np

from benchmarks import layers
from benchmarks.held_out import held_out
from benchmarks.table import Value, markdown
from pipeline.estimate import dis_flow, ways_between
from pipeline.estimate.flow import Seen
from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.visibility import VISIBLE_NEXT, VISIBLE_PREVIOUS, seen_both_ways
from pipeline.steady.warp import BoolArray, in_frame
from samples.stage.render import Frame, render
from samples.stage.scene import Scene
from samples.stage.shots import SAMPLE_SHOTS

HEROES, SHOTS_EACH = ("iris", "otto"), 3
FIRST, SPACING = 3, 7  # frames between the pairs that are looked at

Both = tuple[BoolArray, BoolArray]  # of the earlier frame in the later, and the other way


def _exact(one: Frame, other: Frame, *names: str) -> Both:
    """Along the exact vectors, by the passes named."""
    passes: dict[str, np.ndarray] = {
        name: np.stack([getattr(f, name) for f in (one, other)]) for name in names
    }
    return seen_both_ways(one.forward, other.backward, **passes)


def _estimated(one: Frame, other: Frame, *names: str) -> Both:
    """Along DIS's vectors between the renders, by the passes named, else by the pictures."""
    passes = {name: np.stack([getattr(f, name) for f in (one, other)]) for name in names}
    seen: Seen | None = (lambda _, f, b: seen_both_ways(f, b, **passes)) if names else None
    return by_flow([one.engine, other.engine], seen)


def by_flow(pictures: Sequence[UInt8Array], seen: Seen | None) -> Both:
    """What is hidden along DIS's vectors between two pictures, told by `seen`, absent: by the pictures."""
    ((onward, back),) = ways_between(pictures, dis_flow(), seen=seen)
    return onward.seen, back.seen


def there_and_back(index: int, forward: Float32Array, backward: Float32Array) -> Both:
    """What is seen where going along the vectors and back ends near the start: the usual test."""
    return seen_both_ways(forward, backward)


METHODS: Mapping[str, Callable[[Frame, Frame], Both]] = {
    "ids + depth": lambda one, other: _exact(one, other, "ids", "depth"),
    "depth": lambda one, other: _exact(one, other, "depth"),
    "ids": lambda one, other: _exact(one, other, "ids"),
    "vectors there and back": lambda one, other: _exact(one, other),
    "DIS, pictures": lambda one, other: _estimated(one, other),
    "DIS there and back": lambda one, other: by_flow([one.engine, other.engine], there_and_back),
    "DIS, ids + depth": lambda one, other: _estimated(one, other, "ids", "depth"),
}


@dataclass
class Counts:
    """True positives, false positives, false negatives of a class."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def add(self, said: BoolArray, truth: BoolArray) -> None:
        self.right += int((said & truth).sum())
        self.wrong += int((said & ~truth).sum())
        self.missed += int((~said & truth).sum())

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)


@dataclass(frozen=True)
class Tally:
    """One method on one shot."""

    hidden: Counts
    hidden_inside: Counts
    seen: Counts

    @classmethod
    def empty(cls) -> Tally:
        return cls(Counts(), Counts(), Counts())

    def add(self, said: BoolArray, truth: BoolArray, inside: BoolArray) -> None:
        """`said`, `truth`: what is seen; `inside`: what does not leave the frame."""
        self.hidden.add(~said, ~truth)
        self.hidden_inside.add(~said & inside, ~truth & inside)
        self.seen.add(said, truth)


def scenes() -> dict[str, Scene]:
    """The sample shots and the first held-out ones of each hero."""
    found = dict(SAMPLE_SHOTS)
    for hero in HEROES:
        found |= {shot.name: shot.scene for shot in held_out(hero, num_shots=SHOTS_EACH, num_frames=24)}
    return found


def pairs(scene: Scene, *, num_pairs: int, size: int) -> Iterator[tuple[Frame, Frame]]:
    """Frames t and t + 1 of a scene."""
    for t in range(FIRST, FIRST + SPACING * num_pairs, SPACING):
        yield render(scene, t, size=(size, size)), render(scene, t + 1, size=(size, size))


def measure(frames: Iterable[tuple[Frame, Frame]]) -> dict[str, Tally]:
    """Every method on a shot's pairs."""
    tallies = {name: Tally.empty() for name in METHODS}
    for one, other in frames:
        truths = (one.visible & VISIBLE_NEXT) > 0, (other.visible & VISIBLE_PREVIOUS) > 0
        inside = in_frame(one.forward), in_frame(other.backward)
        for name, method in METHODS.items():
            for said, truth, within in zip(method(one, other), truths, inside, strict=True):
                tallies[name].add(said, truth, within)
    return tallies


def row(shot: str, method: str, tally: Tally) -> dict[str, Value]:
    """A line of the table: F1 to three places."""
    hidden = tally.hidden.right + tally.hidden.missed
    total = hidden + tally.seen.right + tally.seen.missed
    return {
        "shot": shot,
        "by": method,
        "hidden, %": f"{100 * hidden / total:.2f}",
        "F1 hidden": f"{tally.hidden.f1:.3f}",
        "without leaving": f"{tally.hidden_inside.f1:.3f}",
        "F1 seen": f"{tally.seen.f1:.4f}",
    }


def total_of(tallies: Iterable[Tally]) -> Tally:
    """All shots' pixels together."""
    total = Tally.empty()
    for tally in tallies:
        for name in ("hidden", "hidden_inside", "seen"):
            into, each = getattr(total, name), getattr(tally, name)
            into.right, into.wrong, into.missed = (
                into.right + each.right,
                into.wrong + each.wrong,
                into.missed + each.missed,
            )
    return total


def measure_textured(count: int) -> list[dict[str, Value]]:
    """By estimated vectors alone, on textured shapes: one row a way to tell, over all pairs."""
    tallies = {"DIS, pictures": Tally.empty(), "DIS there and back": Tally.empty()}
    for seed in range(count):
        shapes = layers.pair(seed)
        truths = shapes.seen_later, shapes.seen_earlier
        inside = in_frame(shapes.forward), in_frame(shapes.backward)
        for name, seen in (("DIS, pictures", None), ("DIS there and back", there_and_back)):
            found = by_flow([shapes.earlier, shapes.later], seen)
            for said, truth, within in zip(found, truths, inside, strict=True):
                tallies[name].add(said, truth, within)
    return [row("textured", name, tally) for name, tally in tallies.items()]


@click.command()
@click.option("--textured", default=0, help="That many pairs of textured shapes, in place of the stage.")
@click.option("--look", type=click.Choice(["engine", "film"]), default="engine", help="The stage's pictures.")
@click.option("--size", default=512, show_default=True, help="Pixels a side.")
@click.option("--pairs", "num_pairs", default=6, show_default=True, help="Pairs of frames of each shot.")
def main(textured: int, look: str, size: int, num_pairs: int) -> None:
    """Print a row per shot and method, and one per method over all pixels."""
    cv2.setNumThreads(1)
    if textured:
        click.echo(markdown(measure_textured(textured)))
        return
    rows, every = [], {}
    for name, scene in scenes().items():
        frames = pairs(scene, num_pairs=num_pairs, size=size)
        if look == "film":
            frames = ((replace(a, engine=a.film), replace(b, engine=b.film)) for a, b in frames)
        every[name] = measure(frames)
        rows += [row(name, method, tally) for method, tally in every[name].items()]
    for method in METHODS:
        rows.append(row("all", method, total_of(tallies[method] for tallies in every.values())))
    click.echo(markdown(rows))
    click.echo("wanted: 0.95 by ids + depth, 0.85 by estimated flow")


if __name__ == "__main__":
    main()
