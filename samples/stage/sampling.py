"""Random scenes for base training: independent attributes, actions, places, lights, looks and cameras."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from samples.stage.actions import ACTIONS, Performance
from samples.stage.cameras import FRAMINGS, Move
from samples.stage.cast import Member, random_member
from samples.stage.scene import Role, Scene
from samples.stage.sets import BASE_LOOKS, BASE_SETS, LIGHT_COLOURS, LIGHT_SIDES

_VIEW_YAWS = (0.0, 0.75, -0.75, 1.5, -1.5, 3.0)
_VIEW_ODDS = (0.24, 0.20, 0.20, 0.13, 0.13, 0.10)


def random_move(rng: np.random.Generator, framing: str) -> Move:
    """A camera in front of the subject, a little off its axis; static, dolly or orbit."""
    kind = str(rng.choice(["static", "dolly", "orbit"]))
    # both are drawn whatever the kind is, so that the draws after them do not depend on it
    metres, radians = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.6, 0.6))
    amount = {"static": 0.0, "dolly": metres, "orbit": radians}[kind]
    return Move(
        framing,
        azimuth=float(rng.normal(0.0, 0.28)),
        elevation=float(rng.uniform(-0.02, 0.16)),
        kind=kind,
        amount=amount,
        side=float(rng.normal(0.0, 0.05)),
        lift=float(rng.normal(0.0, 0.02)),
    )


def random_performance(rng: np.random.Generator, yaw: float, x: float) -> Performance:
    """Any action at `x` metres from the middle, facing `yaw` radians."""
    return Performance(
        str(rng.choice(ACTIONS)),
        position=(x, 0.0, float(rng.uniform(-0.6, 0.3))),
        yaw=yaw,
        amount=float(rng.uniform(0.7, 1.1)),
        phase=float(rng.uniform(0.0, 4.0)),
    )


def random_scene(
    rng: np.random.Generator,
    *,
    member: Member | None = None,
    pair_odds: float = 0.10,
    framing_odds: tuple[float, float, float] = (0.36, 0.42, 0.22),
) -> Scene:
    """One scene of 48 frames.

    `member` fixes who plays the first role, `pair_odds` how often a second one stands beside it (never in a
    closeup), `framing_odds` the odds of closeup, medium and full.
    """
    framing = str(rng.choice(FRAMINGS, p=framing_odds))
    yaw = float(rng.choice(_VIEW_YAWS, p=_VIEW_ODDS) + rng.normal(0.0, 0.16))
    roles = [Role(member or random_member(rng), random_performance(rng, yaw, 0.0))]
    move = random_move(rng, framing)
    if rng.random() < pair_odds and framing != "closeup":
        side = float(rng.choice([-1.0, 1.0]))
        other = random_performance(rng, float(rng.normal(0.0, 0.8)), 0.62 * side)
        roles = [Role(roles[0].member, replace(roles[0].performance, position=(-0.25 * side, 0.0, 0.0)))]
        roles.append(Role(random_member(rng), other))
        move = replace(move, side=0.18 * side * math.cos(move.azimuth))
    return Scene(
        place=str(rng.choice(BASE_SETS)),
        roles=tuple(roles),
        move=move,
        light_colour=str(rng.choice(list(LIGHT_COLOURS))),
        light_side=str(rng.choice(list(LIGHT_SIDES))),
        look=str(rng.choice(BASE_LOOKS)),
        follow=True,
    )
