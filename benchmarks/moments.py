"""Held-out moments of the stage for each concept, and what they would be with another one in its place.

A moment is one frame of a scene that no training saw. Its rivals are film truths of the very same camera,
pose, light and depth: with each cast member in the role, with the set in the materials of each place, and in
each film look. So layout, which the controls give away, decides nothing (docs/measures.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.files import writing
from pipeline.image import UInt8Array
from samples.stage.captions import caption
from samples.stage.cast import BY_NAME, CAST
from samples.stage.render import Frame, looks, render
from samples.stage.sampling import random_scene
from samples.stage.scene import Scene, state
from samples.stage.sets import LOOKS, SETS

Split = Literal["tuning", "held-out"]
SEEDS: Mapping[Split, int] = {
    "tuning": 20_262_000,
    "held-out": 20_261_000,
}  # benchmarks.held_out has 20_260_000
CONCEPTS = ("iris", "otto", "VaultHall", "VaultFilm")
NONE, ALL = "none", "all"  # no trigger in the prompt; a character, the place and the look in one
AXES = ("who", "where", "look")
AXIS = {"iris": "who", "otto": "who", "VaultHall": "where", "VaultFilm": "look"}
SIZE = (128, 128)
ORDINARY = tuple(member for member in CAST if member.name not in CONCEPTS)
_GROUPS = (*CONCEPTS, NONE, ALL)


@dataclass(frozen=True)
class Moment:
    """Frame `number` (0-based) of a scene, and the prompt that asks for it."""

    name: str
    scene: Scene
    number: int
    subject: str | None
    """What stands for the figure in the prompt; None: its attributes in words."""

    @property
    def prompt(self) -> str:
        """The caption of the moment, as the sample datasets write theirs."""
        return caption(self.scene, self.number, subject=self.subject)

    @property
    def right(self) -> Mapping[str, str]:
        """What is truly there: axis -> cast member, place, look."""
        return {"who": self.scene.roles[0].member.name, "where": self.scene.place, "look": self.scene.look}

    @cached_property
    def frame(self) -> Frame:
        """The engine's render, the film truth and all passes at 128 px."""
        return render(self.scene, self.number, size=SIZE)

    def rivals(self, axis: str) -> dict[str, UInt8Array]:
        """Film truths [H, W, 3] of the moment by what stands on that axis, the right one among them."""
        scenes: dict[str, Scene] = {
            "who": lambda: {member.name: self.scene.recast(0, member) for member in CAST},
            "where": lambda: {place: replace(self.scene, dress=place) for place in SETS},
            "look": lambda: {look: replace(self.scene, look=look) for look in LOOKS},
        }[axis]()
        return {name: _film(scene, self.number) for name, scene in scenes.items()}


def moments(
    group: str, split: Split, count: int, *, wanted: Callable[[Scene, int], bool] | None = None
) -> list[Moment]:
    """The first `count` moments of a concept, of NONE or of ALL; `wanted` passes over the others.

    Ordinary figures are the ten other cast members, ordinary places and looks those of base training.
    """
    found: list[Moment] = []
    index = 0
    while len(found) < count:
        rng = np.random.default_rng((SEEDS[split], _GROUPS.index(group), index))
        moment = _draw(group, index, rng)
        if wanted is None or wanted(moment.scene, moment.number):
            found.append(moment)
        index += 1
    return found


def _draw(group: str, index: int, rng: np.random.Generator) -> Moment:
    heroes = {"iris": "iris", "otto": "otto", ALL: ("iris", "otto")[index % 2]}
    hero = heroes.get(group)
    member = BY_NAME[hero] if hero else ORDINARY[int(rng.integers(len(ORDINARY)))]
    scene = random_scene(rng, member=member, pair_odds=0.0, framing_odds=(0.35, 0.45, 0.20))
    if group in ("VaultHall", ALL):
        scene = replace(scene, place="VaultHall")
    if group in ("VaultFilm", ALL):
        scene = replace(scene, look="VaultFilm")
    subject = f"a person, {hero}" if hero else None
    return Moment(f"{group}-{index:03d}", scene, int(rng.integers(scene.num_frames)), subject)


def _film(scene: Scene, number: int) -> UInt8Array:
    return looks(state(scene, number, size=SIZE), scene.look, seed=number)[1]


def stored_rivals(
    moment: Moment, split: Split, folder: Path, axes: Sequence[str] = AXES
) -> dict[str, dict[str, UInt8Array]]:
    """`rivals` by axis, read where an earlier run left them under `folder`. Raises OutputError."""
    return {axis: _stored(moment, axis, folder / split / f"{moment.name}-{axis}.npz") for axis in axes}


def _stored(moment: Moment, axis: str, path: Path) -> dict[str, UInt8Array]:
    if not path.exists():
        partial = path.with_suffix(".partial.npz")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(partial, **moment.rivals(axis))  # type: ignore[arg-type]
            partial.rename(path)
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
