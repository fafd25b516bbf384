"""Sets, lights and film looks: everything on the stage that is not a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samples.stage.geometry import BOX, CONE, ELLIPSOID, ROOM, primitive
from samples.stage.materials import BRICKS, GLASS_WALL, MATERIAL_WIDTH, PANELS, PLAIN, VAULT

FloatArray = NDArray[np.float64]
Colour = tuple[float, float, float]

_EYE = np.eye(3)


@dataclass(frozen=True)
class Built:
    """A set's primitive rows [K, WIDTH], its material rows [M, MATERIAL_WIDTH], its lamp's place [3] if any.

    The first row is the room.
    """

    rows: FloatArray
    materials: FloatArray
    lamp: FloatArray | None = None


@dataclass(frozen=True)
class Light:
    """The key light: `direction` is where it comes from: x right, y up, z toward the camera."""

    words: str
    colour: Colour
    ambient: Colour
    direction: tuple[float, float, float]


LIGHT_COLOURS: Mapping[str, tuple[Colour, Colour]] = {
    "soft white light": ((1.55, 1.50, 1.42), (0.42, 0.43, 0.46)),
    "warm light": ((1.85, 1.15, 0.58), (0.34, 0.25, 0.20)),
    "cold blue light": ((0.70, 1.15, 1.85), (0.16, 0.24, 0.40)),
    "red light": ((1.90, 0.52, 0.42), (0.30, 0.16, 0.17)),
    "green light": ((0.80, 1.60, 0.90), (0.20, 0.32, 0.24)),
}
LIGHT_SIDES: Mapping[str, tuple[float, float, float]] = {
    "from the left": (-0.80, 0.55, 0.45),
    "from the right": (0.80, 0.55, 0.45),
    "from above": (0.12, 0.95, 0.35),
}


def light(colour: str, side: str) -> Light:
    """The key light of two phrases, keys of LIGHT_COLOURS and LIGHT_SIDES."""
    key, ambient = LIGHT_COLOURS[colour]
    return Light(f"{colour} {side}", key, ambient, LIGHT_SIDES[side])


@dataclass(frozen=True)
class Look:
    """A film grade. `gain` and `shadows` (added where it is dark) are RGB; `grain` is a sigma in [0, 1]."""

    words: str
    gain: Colour = (1.0, 1.0, 1.0)
    shadows: Colour = (0.0, 0.0, 0.0)
    contrast: float = 1.0
    saturation: float = 1.0
    vignette: float = 0.25
    grain: float = 0.012
    bloom: float = 0.35


LOOKS: Mapping[str, Look] = {
    "film look": Look("film look"),
    "warm film look": Look("warm film look", gain=(1.10, 1.0, 0.84), shadows=(0.02, 0.01, 0.0)),
    "cold film look": Look("cold film look", gain=(0.88, 1.0, 1.12), shadows=(0.0, 0.01, 0.03)),
    "noir film look": Look("noir film look", saturation=0.0, contrast=1.35, vignette=0.45, grain=0.02),
    "faded film look": Look("faded film look", shadows=(0.08, 0.07, 0.09), contrast=0.80, saturation=0.65),
    # VaultFilm is a sample style: never in base training. It is as far from the nearest
    # of them as they are from one another (docs/measures.md).
    "VaultFilm": Look(
        "VaultFilm",
        gain=(0.93, 1.05, 0.92),
        shadows=(0.0, 0.09, 0.11),
        contrast=1.20,
        saturation=0.90,
        vignette=0.55,
        grain=0.022,
        bloom=0.6,
    ),
}
BASE_LOOKS = tuple(name for name in LOOKS if name != "VaultFilm")


def _material(
    kind: int,
    colour: Colour,
    second: Colour = (0.0, 0.0, 0.0),
    *,
    specular: float = 0.05,
    gloss: float = 8.0,
    emission: Colour = (0.0, 0.0, 0.0),
    grey: float = 0.5,
    pitch: float = 0.6,
) -> FloatArray:
    row = np.zeros(MATERIAL_WIDTH)
    row[0], row[1:4], row[4:7] = kind, colour, second
    row[7] = pitch
    row[10], row[11], row[13:16], row[18] = specular, gloss, emission, grey
    return row


class _Builder:
    """Collects rows; materials are numbered from `first`."""

    def __init__(self, first: int) -> None:
        self.rows: list[FloatArray] = []
        self.materials: list[FloatArray] = []
        self._first = first

    def add(
        self,
        kind: int,
        centre: tuple[float, float, float],
        shape: tuple[float, ...],
        material: FloatArray,
        part: int,
    ) -> None:
        self.materials.append(material)
        self.rows.append(
            primitive(
                kind,
                np.asarray(centre, dtype=np.float64),
                _EYE,
                shape=shape,
                material=self._first + len(self.materials) - 1,
                id=part,
            )
        )

    def done(self, lamp: tuple[float, float, float] | None = None) -> Built:
        place = None if lamp is None else np.asarray(lamp)
        return Built(np.stack(self.rows), np.stack(self.materials), place)


def _corridor(first: int) -> Built:
    """A long corridor with a black door at its end and one lamp."""
    b = _Builder(first)
    b.add(
        ROOM,
        (0, 1.3, 0.0),
        (1.7, 1.3, 5.0),
        _material(PANELS, (0.46, 0.44, 0.40), (0.20, 0.19, 0.18), grey=0.55, pitch=0.9),
        1,
    )
    b.add(
        BOX,
        (0, 1.02, -4.98),
        (0.50, 1.02, 0.06),
        _material(PLAIN, (0.02, 0.02, 0.022), specular=0.5, gloss=30, grey=0.25),
        2,
    )
    b.add(
        ELLIPSOID,
        (-1.25, 2.28, -1.6),
        (0.13, 0.13, 0.13),
        _material(PLAIN, (1, 0.9, 0.7), emission=(2.6, 1.9, 1.1), grey=0.9),
        3,
    )
    b.add(
        BOX,
        (1.55, 0.42, -1.2),
        (0.14, 0.42, 0.5),
        _material(PLAIN, (0.22, 0.13, 0.08), specular=0.3, gloss=20, grey=0.4),
        4,
    )
    return b.done((-1.25, 2.28, -1.6))


def _glass_room(first: int) -> Built:
    """A room whose back wall is a grid of bright panes."""
    b = _Builder(first)
    b.add(
        ROOM, (0, 1.5, -0.2), (2.6, 1.5, 3.4), _material(PLAIN, (0.50, 0.54, 0.57), specular=0.2, grey=0.6), 1
    )
    b.add(
        BOX,
        (0, 1.5, -3.55),
        (2.6, 1.5, 0.05),
        _material(
            GLASS_WALL,
            (0.50, 0.72, 0.86),
            (0.10, 0.11, 0.12),
            emission=(0.34, 0.46, 0.55),
            specular=0.8,
            gloss=40,
            grey=0.75,
            pitch=0.75,
        ),
        2,
    )
    b.add(BOX, (-1.7, 0.38, -2.0), (0.55, 0.38, 0.35), _material(PLAIN, (0.75, 0.75, 0.74), grey=0.7), 3)
    return b.done()


def _red_room(first: int) -> Built:
    """A panelled red room with a picture and a lamp on a stand."""
    b = _Builder(first)
    b.add(
        ROOM,
        (0, 1.4, -0.1),
        (2.2, 1.4, 3.0),
        _material(PANELS, (0.50, 0.035, 0.04), (0.28, 0.02, 0.025), grey=0.45, pitch=0.5),
        1,
    )
    b.add(
        BOX,
        (0.9, 1.5, -3.06),
        (0.5, 0.36, 0.04),
        _material(PLAIN, (0.72, 0.60, 0.25), specular=0.5, gloss=20, grey=0.65),
        2,
    )
    b.add(
        ELLIPSOID,
        (-1.5, 1.15, -2.2),
        (0.16, 0.16, 0.16),
        _material(PLAIN, (1, 0.8, 0.6), emission=(2.0, 1.2, 0.7), grey=0.9),
        3,
    )
    b.add(CONE, (-1.5, 0.0, -2.2), (1.05, 0.045, 0.03), _material(PLAIN, (0.05, 0.05, 0.05), grey=0.3), 4)
    return b.done((-1.5, 1.15, -2.2))


def _plain(colour: Colour, grey: float) -> Callable[[int], Built]:
    """An empty studio."""

    def build(first: int) -> Built:
        b = _Builder(first)
        b.add(ROOM, (0, 2.0, 0.0), (4.0, 2.0, 3.6), _material(PLAIN, colour, grey=grey), 1)
        return b.done()

    return build


def _hall(first: int) -> Built:
    """A hall of brick with two rows of columns."""
    b = _Builder(first)
    b.add(
        ROOM,
        (0, 1.9, -1.0),
        (3.4, 1.9, 5.0),
        _material(BRICKS, (0.42, 0.33, 0.25), (0.22, 0.18, 0.15), grey=0.5, pitch=0.55),
        1,
    )
    for index, (x, z) in enumerate([(-1.7, -1.8), (1.7, -1.8), (-1.7, -4.0), (1.7, -4.0)]):
        b.add(
            CONE, (x, -0.2, z), (4.2, 0.24, 0.20), _material(PLAIN, (0.62, 0.57, 0.48), grey=0.62), 2 + index
        )
    return b.done()


def _vault_hall(first: int) -> Built:
    """VaultHall, a sample place: teal ribs, an amber strip along the wall, a round vault door."""
    b = _Builder(first)
    b.add(
        ROOM,
        (0, 1.6, -0.6),
        (2.6, 1.6, 4.2),
        _material(
            VAULT, (0.05, 0.22, 0.24), (0.02, 0.07, 0.08), specular=0.35, gloss=20, grey=0.42, pitch=0.7
        ),
        1,
    )
    b.add(
        ELLIPSOID,
        (0, 1.5, -4.8),
        (1.15, 1.15, 0.22),
        _material(PLAIN, (0.60, 0.46, 0.20), specular=0.9, gloss=30, grey=0.65),
        2,
    )
    b.add(
        ELLIPSOID,
        (0, 1.5, -4.6),
        (0.34, 0.34, 0.16),
        _material(PLAIN, (0.10, 0.10, 0.10), specular=0.9, gloss=30, grey=0.35),
        3,
    )
    for index, x in enumerate((-2.52, 2.52)):
        b.add(
            BOX,
            (x, 2.2, -1.0),
            (0.05, 0.06, 3.6),
            _material(PLAIN, (1.0, 0.6, 0.2), emission=(2.2, 1.2, 0.35), grey=0.9),
            4 + index,
        )
    return b.done()


SETS: Mapping[str, Callable[[int], Built]] = {
    "a corridor with a black door": _corridor,
    "a glass room": _glass_room,
    "a red room": _red_room,
    "a plain grey room": _plain((0.30, 0.30, 0.31), 0.5),
    "a plain white room": _plain((0.80, 0.80, 0.79), 0.75),
    "a brick hall": _hall,
    "VaultHall": _vault_hall,
}
BASE_SETS = tuple(name for name in SETS if name != "VaultHall")


def built(place: str, dress: str = "") -> Built:
    """The set of a place, material rows counted from 0; with `dress` in the materials of that place.

    Its shape and its lamp stay: only what the surfaces look like changes. The room takes the other room's
    material, the other pieces those of the other set's pieces in turn, or the room's where it has none.
    """
    own = SETS[place](0)
    if not dress or dress == place:
        return own
    room, *pieces = SETS[dress](0).materials
    pieces = pieces or [room]
    worn = [room, *(pieces[index % len(pieces)] for index in range(len(own.materials) - 1))]
    return Built(own.rows, np.stack(worn), own.lamp)
