"""A scene: a set, figures that act, a camera that moves, a light and a film look."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from samples.stage.actions import Performance
from samples.stage.body import TORSO_ROW, body, materials
from samples.stage.cameras import Camera, Move
from samples.stage.cast import Member
from samples.stage.materials import GLASS_TORSO
from samples.stage.sets import built, light
from samples.stage.skeleton import Skeleton, openpose_points, solve

FloatArray = NDArray[np.float64]

_LAMP_COLOUR = (0.9, 0.62, 0.34)  # linear RGB of a set's lamp: tungsten
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # Rec. 709


@dataclass(frozen=True)
class Role:
    """A member and what it does; `figure` numbers in ids start at 1 in the order of `Scene.roles`."""

    member: Member
    performance: Performance


@dataclass(frozen=True)
class Pulse:
    """A light that turns into another colour and back: `colour` is a key of LIGHT_COLOURS.

    It begins after frame `first` and is over at frame `last`, both 0-based; in the middle it is all there.
    """

    colour: str
    first: float
    last: float

    def share(self, frame: float) -> float:
        """How much of the light is the pulse's, 0 to 1: a raised cosine."""
        u = (frame - self.first) / (self.last - self.first)
        return 0.5 - 0.5 * math.cos(2.0 * math.pi * u) if 0.0 < u < 1.0 else 0.0


@dataclass(frozen=True)
class Scene:
    """Everything a frame is rendered from.

    `camera_on` is the role that the camera looks at, -1 = the middle of all; with `follow` it goes where they
    go, else it looks at where they stand in the middle of the shot. `pulse`: what the key light does
    meanwhile. Behind a `pane`, a sheet of clear glass on the lens, the passes are the pane's, as renderers
    write them, and the pictures what is seen through it. `dress`: the place whose materials the set wears.
    """

    place: str
    roles: tuple[Role, ...]
    move: Move
    light_colour: str = "soft white light"
    light_side: str = "from the left"
    look: str = "film look"
    num_frames: int = 48
    fps: int = 24
    camera_on: int = 0
    follow: bool = False
    pulse: Pulse | None = None
    pane: bool = False
    dress: str = ""

    def recast(self, index: int, member: Member) -> Scene:
        """The same scene with another member in a role, at the role's body size so that the framing stays."""
        old = self.roles[index].member
        fitted = replace(member, height=old.height, build=old.build)
        roles = tuple(Role(fitted, r.performance) if i == index else r for i, r in enumerate(self.roles))
        return replace(self, roles=roles)


@dataclass(frozen=True)
class State:
    """One frame, ready to trace. `groups` leaves the room out, so it lists what can cast shadows or hide."""

    table: FloatArray  # [K, WIDTH]
    groups: FloatArray  # [G, 6]
    materials: FloatArray  # [M, MATERIAL_WIDTH]
    camera: Camera
    points: FloatArray  # [P, 18, 3] OpenPose joints in the world
    key: FloatArray  # [6] colour, then where it comes from
    ambient: FloatArray  # [3] colour
    lamp: FloatArray  # [6] place, colour; black = none
    exposure: float = 1.0  # the key light's luminance now over that without a pulse


def _group(table: FloatArray, first: int, last: int) -> list[float]:
    """First row, one past the last, and a sphere x y z r that holds their bounding spheres."""
    centres, radii = table[first:last, 20:23], table[first:last, 17]
    middle = 0.5 * (centres.min(0) + centres.max(0))
    radius = float((np.linalg.norm(centres - middle, axis=1) + radii).max())
    return [float(first), float(last), *middle, radius]


def state(scene: Scene, frame: float, *, size: tuple[int, int]) -> State:
    """Pose, place and light everything at a 0-based frame number; fractions and values out of range too.

    `size` is (width, height) in pixels. Row k of `table` is the same surface at every frame number.
    """
    seconds, u = frame / scene.fps, frame / max(scene.num_frames - 1, 1)
    room = built(scene.place, scene.dress)
    tables, mats = [room.rows], [room.materials]
    points = []
    count, num_materials = len(room.rows), len(room.materials)
    groups = [_group(room.rows, k, k + 1) for k in range(1, count)]
    for index, role in enumerate(scene.roles):
        skeleton = solve(role.performance.pose(seconds, u), role.member.scale)
        tables.append(body(role.member, skeleton, figure=index + 1, first_material=num_materials))
        mats.append(_dressed(role.member, skeleton))
        points.append(openpose_points(skeleton, role.member.scale))
        # trunk and head, arms, legs would be tighter; one sphere a figure is enough to skip most rays
        groups.append(_group(np.concatenate(tables), count, count + len(tables[-1])))
        count += len(tables[-1])
        num_materials += len(mats[-1])
    key, ambient, lamp, exposure = _light(scene, room.lamp, frame, size)
    return State(
        table=np.concatenate(tables),
        groups=np.asarray(groups).reshape(-1, 6),
        materials=np.concatenate(mats),
        camera=_camera(scene, u, seconds, size),
        points=np.stack(points) if points else np.zeros((0, 18, 3)),
        key=key,
        ambient=ambient,
        lamp=lamp,
        exposure=exposure,
    )


def _dressed(member: Member, skeleton: Skeleton) -> FloatArray:
    """Material rows of a posed member; its core is in the chest, in a translucent torso or on the cloth."""
    rows = materials(member)
    front = 0.02 if rows[TORSO_ROW, 0] == GLASS_TORSO else 0.11
    rows[TORSO_ROW, 7:10] = skeleton.at("chest", (0.0, 0.03, front))
    return rows


def _subject(scene: Scene, u: float, seconds: float) -> tuple[FloatArray, float]:
    """What the camera looks at: a place on the floor [3], and the height of the bodies there; metres."""
    followed = scene.roles if scene.camera_on < 0 else (scene.roles[scene.camera_on],)
    if not scene.follow:
        u, seconds = 0.5, 0.5 * (scene.num_frames - 1) / scene.fps
    places = [np.asarray(r.performance.pose(seconds, u).position) for r in followed]
    return np.mean(places, axis=0), float(np.mean([r.member.height for r in followed]))


def _camera(scene: Scene, u: float, seconds: float, size: tuple[int, int]) -> Camera:
    subject, height = _subject(scene, u, seconds)
    return scene.move.camera(u, subject, height, size)


def _light(
    scene: Scene, lamp: FloatArray | None, frame: float, size: tuple[int, int]
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Key [6], ambient [3], lamp [6], exposure. The key's place in the world is by the middle camera."""
    chosen = light(scene.light_colour, scene.light_side)
    colour, ambient = np.asarray(chosen.colour), np.asarray(chosen.ambient)
    usual = float(colour @ _LUMINANCE)
    if scene.pulse is not None:
        other, share = light(scene.pulse.colour, scene.light_side), scene.pulse.share(frame)
        colour = colour + share * (np.asarray(other.colour) - colour)
        ambient = ambient + share * (np.asarray(other.ambient) - ambient)
    middle = _camera(scene, 0.5, 0.5 * (scene.num_frames - 1) / scene.fps, size)
    right, up, forward = middle.rotation
    x, y, z = chosen.direction
    direction = x * right + y * up - z * forward
    direction = direction / np.linalg.norm(direction)
    lamp_row = np.zeros(6)
    if lamp is not None:
        lamp_row[:3], lamp_row[3:] = lamp, _LAMP_COLOUR
    return np.concatenate([colour, direction]), ambient, lamp_row, float(colour @ _LUMINANCE) / usual
