"""The three sample shots, and any scene written as a shot on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.shot import Figure, FrameJoints, FramePasses, Motion, Shot, write_shot
from samples.stage.actions import Performance
from samples.stage.cameras import Move
from samples.stage.cast import BY_NAME
from samples.stage.render import Frame, render
from samples.stage.scene import Role, Scene

_WINDOW = 8  # frames rendered and written at a time
_IRIS, _OTTO = BY_NAME["iris"], BY_NAME["otto"]

SAMPLE_SHOTS: Mapping[str, Scene] = {
    "corridor_walk": Scene(
        "a corridor with a black door",
        (Role(_IRIS, Performance("walking", (0.1, 0.0, -1.3), yaw=0.12, amount=0.9)),),
        Move("medium", 0.22, kind="orbit", amount=-0.30, side=-0.05),
        light_colour="warm light",
        light_side="from the left",
        follow=True,
    ),
    "profile_turn": Scene(
        "a glass room",
        (Role(_OTTO, Performance("turning", (0.0, 0.0, -0.2), yaw=0.05, amount=1.0)),),
        Move("closeup", 0.0, kind="dolly", amount=0.10),
        light_colour="soft white light",
        light_side="from the right",
    ),
    "two_shot": Scene(
        "a brick hall",
        (
            Role(_IRIS, Performance("gesturing", (-0.25, 0.0, 0.0), yaw=0.35)),
            Role(_OTTO, Performance("looking round", (0.27, 0.0, -0.18), yaw=-0.35, amount=0.7)),
        ),
        Move("medium", 0.0, kind="static", lens=1.9),
        light_colour="soft white light",
        light_side="from the left",
        camera_on=-1,
    ),
}


def passes_of(frames: list[Frame], *, names: tuple[str, ...], first_number: int) -> FramePasses:
    """Rendered frames as a window of the shot writer's; `names` are the roles', `first_number` is on disk."""
    return FramePasses(
        rgb=np.stack([f.engine for f in frames]),
        depth=np.stack([f.depth for f in frames]),
        normal=np.stack([f.normal for f in frames]),
        motion=Motion(np.stack([f.forward for f in frames]), np.stack([f.backward for f in frames])),
        ids=np.stack([f.ids for f in frames]),
        visible=np.stack([f.visible for f in frames]),
        truth=np.stack([f.film for f in frames]),
        joints=tuple(_joints(f, names, first_number + i) for i, f in enumerate(frames)),
    )


def _joints(frame: Frame, names: tuple[str, ...], number: int) -> FrameJoints:
    figures = tuple(
        Figure(name, index + 1, frame.points[index], frame.world[index].astype(np.float32))
        for index, name in enumerate(names)
    )
    return FrameJoints(number, figures, camera=frame.state.camera.as_json())


def write_scene(
    scene: Scene, folder: Path, *, size: tuple[int, int] = (128, 128), seed: int = 0, replace: bool = False
) -> Shot:
    """Render a scene and write it in the layout of docs/architecture.md; depth, normal, motion as halves.

    `size` is (width, height); `seed` moves the film grain; `replace` puts it in the place of what is there.
    Raises OutputError where the folder is taken or the system refuses.
    """
    names = tuple(role.member.name for role in scene.roles)

    def windows() -> Iterator[FramePasses]:
        for begin in range(0, scene.num_frames, _WINDOW):
            numbers = range(begin, min(begin + _WINDOW, scene.num_frames))
            frames = [render(scene, n, size=size, seed=seed) for n in numbers]
            yield passes_of(frames, names=names, first_number=begin + 1)

    return write_shot(
        folder, windows(), fps=Fraction(scene.fps), name=folder.name, characters=names,
        half=frozenset({"depth", "normal", "motion"}), replace=replace,
    )  # fmt: skip
