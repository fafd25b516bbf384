"""Held-out stage shots: scenes that neither base training nor a sample character's images were drawn from.

They come from the same generator as base training but from seeds of their own, and the sample characters
were never in base training at all. For every frame the film truth of each cast member in the first role is
rendered too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.files import writing
from pipeline.image import UInt8Array, UInt32Array
from pipeline.shot import FramePasses, Shot, open_shot, read_pass, write_shot
from samples.stage.captions import caption
from samples.stage.cast import BY_NAME, CAST
from samples.stage.render import looks, render
from samples.stage.sampling import random_scene
from samples.stage.scene import Scene, state
from samples.stage.shots import passes_of

SEED = 20_260_000  # base training draws from (its own seed, shard); these are (SEED, hero, index)
SIZE = (128, 128)
WINDOW = 8  # frames rendered and written at a time
HERO = 1  # the first role's number in `ids`
TRUTHS = "cast_truths.npz"


@dataclass(frozen=True)
class HeldOut:
    """One held-out shot of a hero. Frames `first` to `first + num_frames` of the scene, at 128 px."""

    name: str
    hero: str
    scene: Scene
    first: int
    num_frames: int

    def prompt(self, subject: str) -> str:
        """The caption of the middle frame with `subject` for the hero."""
        return caption(self.scene, self.first + self.num_frames // 2, subject=subject)


@dataclass(frozen=True)
class Truth:
    """What the stage knows of a shot. `cast`: member -> film, uint8 [T, H, W, 3]; `ids`: uint32 [T, H, W]."""

    shot: Shot
    cast: dict[str, UInt8Array]
    ids: UInt32Array


def held_out(hero: str, *, num_shots: int, num_frames: int) -> list[HeldOut]:
    """The first `num_shots` held-out shots of a cast member, alone; the middle `num_frames` of each.

    Raises UserError for a hero who is not in the cast or more frames than a scene has.
    """
    if hero not in BY_NAME:
        raise UserError(f"{hero!r} is not in the cast; expected one of {', '.join(sorted(BY_NAME))}")
    shots = []
    for index in range(num_shots):
        member = BY_NAME[hero]
        rng = np.random.default_rng((SEED, [m.name for m in CAST].index(hero), index))
        scene = random_scene(rng, member=member, pair_odds=0.0)
        if num_frames > scene.num_frames:
            raise UserError(f"{num_frames} frames asked of a scene of {scene.num_frames}; ask for fewer")
        first = (scene.num_frames - num_frames) // 2
        shots.append(HeldOut(f"{hero}_{index:02d}", hero, scene, first, num_frames))
    return shots


def stage(shot: HeldOut, folder: Path) -> Truth:
    """Render a held-out shot and its cast truths into `folder`, or read what an earlier run left there.

    Raises OutputError when the system refuses.
    """
    root = folder / f"{shot.name}_{shot.num_frames}"
    written = (
        open_shot(root) if root.exists() else write_shot(root, _windows(shot), fps=Fraction(shot.scene.fps))
    )
    truths = folder / f"{root.name}_{TRUTHS}"
    if not truths.exists():
        partial = truths.with_suffix(".partial.npz")
        with writing(truths):
            np.savez(partial, **_cast_truths(shot))  # type: ignore[arg-type]
            partial.rename(truths)
    with np.load(truths) as stored:
        cast = {name: stored[name] for name in stored.files}
    return Truth(written, cast, read_pass(written, "ids", 0, written.num_frames))


def _windows(shot: HeldOut) -> Iterator[FramePasses]:
    names = tuple(role.member.name for role in shot.scene.roles)
    for start in range(0, shot.num_frames, WINDOW):
        numbers = range(shot.first + start, shot.first + min(start + WINDOW, shot.num_frames))
        frames = [render(shot.scene, number, size=SIZE) for number in numbers]
        yield passes_of(frames, names=names, first_number=start + 1)


def _cast_truths(shot: HeldOut) -> dict[str, UInt8Array]:
    """The film look of the same frames with each cast member in the hero's role."""
    truths = {}
    for member in CAST:
        scene = shot.scene.recast(0, member)
        truths[member.name] = np.stack(
            [
                looks(state(scene, number, size=SIZE), scene.look, seed=number)[1]
                for number in range(shot.first, shot.first + shot.num_frames)
            ]
        )
    return truths
