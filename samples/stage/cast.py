"""The cast: members made of attributes, and the primitives and materials of their bodies.

Attributes that can be said in words are in the table `COLOURS` and in the fields of `Member`; base training draws
members at random but never one that `is_held_out` calls a sample character's combination.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from samples.stage.geometry import CONE, ELLIPSOID, primitive
from samples.stage.skeleton import BONE, Skeleton

FloatArray = NDArray[np.float64]

SKIN: Mapping[str, tuple[float, float, float]] = {
    "pale": (0.86, 0.66, 0.55), "tan": (0.70, 0.46, 0.30), "brown": (0.45, 0.26, 0.16), "dark": (0.20, 0.11, 0.07),
}  # fmt: skip
HAIR: Mapping[str, tuple[float, float, float]] = {
    "black": (0.03, 0.03, 0.035), "brown": (0.20, 0.10, 0.05), "blond": (0.72, 0.52, 0.20),
    "red": (0.52, 0.14, 0.05), "white": (0.82, 0.82, 0.80),
}  # fmt: skip
CLOTH: Mapping[str, tuple[float, float, float]] = {
    "red": (0.62, 0.06, 0.05), "blue": (0.08, 0.18, 0.55), "green": (0.07, 0.34, 0.13), "yellow": (0.80, 0.58, 0.08),
    "white": (0.80, 0.80, 0.78), "black": (0.035, 0.035, 0.04), "grey": (0.32, 0.33, 0.35),
    "purple": (0.30, 0.09, 0.42), "orange": (0.80, 0.30, 0.05), "brown": (0.28, 0.16, 0.09),
}  # fmt: skip
GLOW: Mapping[str, tuple[float, float, float]] = {
    "blue": (0.15, 0.75, 1.0), "orange": (1.0, 0.45, 0.08), "green": (0.2, 1.0, 0.35), "pink": (1.0, 0.2, 0.6),
}  # fmt: skip

HAIR_STYLES = ("short", "long", "bun", "bald", "steel skull")
TOPS = ("shirt", "vest", "coat", "hoodie", "mesh", "translucent torso")

# Material kinds, read by samples/stage/shade.py
(
    MATTE,
    SKIN_KIND,
    FACE,
    HAIR_KIND,
    STEEL,
    CLOTH_KIND,
    VEST_KIND,
    MESH_KIND,
    GLASS_TORSO,
    STEEL_FACE,
    COAT_KIND,
) = range(11)
MATERIAL_WIDTH = 20

# Body parts, the low byte of an id
PARTS = (
    "none", "head", "neck", "torso", "l_upper_arm", "l_forearm", "l_hand", "r_upper_arm", "r_forearm", "r_hand",
    "hips", "l_thigh", "l_shin", "l_foot", "r_thigh", "r_shin", "r_foot",
)  # fmt: skip
PART = {name: index for index, name in enumerate(PARTS)}


@dataclass(frozen=True)
class Member:
    """One of the cast, by attributes."""

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
        return self.height / 1.75


IRIS = Member(
    "iris",
    style="steel skull",
    hair="black",
    top="translucent torso",
    colour="black",
    trousers="black",
    glow="blue",
    height=1.68,
    build=0.90,
)
OTTO = Member(
    "otto",
    skin="pale",
    hair="brown",
    beard=True,
    glasses=True,
    top="vest",
    colour="green",
    trousers="brown",
    height=1.78,
    build=1.12,
)

CAST: tuple[Member, ...] = (
    IRIS,
    OTTO,
    Member("mara", skin="brown", hair="black", style="long", top="coat", colour="red", trousers="black", height=1.70, build=0.92),
    Member("jun", skin="tan", hair="black", style="short", glasses=True, top="shirt", colour="blue", trousers="grey", height=1.72),
    Member("petra", skin="pale", hair="blond", style="bun", top="hoodie", colour="grey", trousers="blue", height=1.69, build=0.92),
    Member("silas", skin="dark", hair="black", style="bald", beard=True, top="hoodie", colour="yellow", trousers="black", height=1.80, build=1.08),
    Member("nell", skin="pale", hair="red", style="long", top="shirt", colour="green", trousers="brown", height=1.66, build=0.90),
    Member("viktor", skin="pale", hair="white", style="bald", top="coat", colour="black", trousers="black", height=1.82, build=1.02),
    Member("ada", skin="dark", hair="black", style="bun", glasses=True, top="shirt", colour="white", trousers="red", height=1.71, build=0.94),
    Member("unit7", style="steel skull", top="shirt", colour="orange", trousers="grey", height=1.76, build=1.04),
    Member("bruno", skin="tan", hair="brown", beard=True, top="vest", colour="red", trousers="blue", height=1.77, build=1.1),
    Member("lio", skin="pale", hair="white", style="short", glasses=True, top="hoodie", colour="purple", trousers="grey", height=1.74),
)  # fmt: skip
BY_NAME: Mapping[str, Member] = {member.name: member for member in CAST}


def is_held_out(member: Member) -> bool:
    """Combinations that base training must never see: steel skull with a translucent torso (Iris), bearded with glasses (Otto)."""
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
            trousers=str(rng.choice(["black", "grey", "blue", "brown", "red", "white"])),
            glow=str(rng.choice(list(GLOW))) if top == "translucent torso" or rng.random() < 0.05 else "",
            height=float(rng.uniform(1.62, 1.84)),
            build=float(rng.uniform(0.88, 1.12)),
        )
        if not is_held_out(member):
            return member


def materials(member: Member) -> FloatArray:
    """Rows [7, MATERIAL_WIDTH]: skin, face, hair, torso, arms, legs, shoes.

    Columns: 0 kind, 1-3 colour, 4-6 second colour, 7-9 third colour, 10 specular, 11 gloss, 12 metal, 13-15 emission,
    16 beard, 17 glasses, 18 engine grey, 19 scale of the body.
    """
    steel = member.style == "steel skull"
    skin = SKIN[member.skin]
    hair = HAIR[member.hair]
    cloth = CLOTH[member.colour]
    glow = GLOW[member.glow] if member.glow else (0.0, 0.0, 0.0)
    metal = (0.55, 0.58, 0.62)
    rows = np.zeros((7, MATERIAL_WIDTH))
    rows[:, 19] = member.scale
    hands = metal if steel else skin
    _fill(
        rows[0],
        STEEL if steel else SKIN_KIND,
        hands,
        hands,
        specular=0.9 if steel else 0.18,
        gloss=40 if steel else 12,
        metal=float(steel),
        grey=0.62,
    )
    _fill(
        rows[1],
        STEEL_FACE if steel else FACE,
        hands,
        hair,
        specular=1.0 if steel else 0.2,
        gloss=50 if steel else 14,
        metal=float(steel),
        grey=0.66,
    )
    rows[1, 7:10] = GLOW[member.glow or "orange"] if steel else (0.1, 0.1, 0.1)
    rows[1, 16], rows[1, 17] = float(member.beard), float(member.glasses)
    _fill(rows[2], HAIR_KIND, hair, hair, specular=0.35, gloss=10, grey=0.45)
    torso_kind = {
        "vest": VEST_KIND,
        "mesh": MESH_KIND,
        "translucent torso": GLASS_TORSO,
        "coat": COAT_KIND,
    }.get(member.top, CLOTH_KIND)
    _fill(rows[3], torso_kind, cloth, (0.78, 0.76, 0.72), specular=0.08, gloss=8, grey=0.55)
    if torso_kind == GLASS_TORSO:
        _fill(rows[3], torso_kind, (0.10, 0.11, 0.13), cloth, specular=0.8, gloss=40, grey=0.55)
    rows[3, 13:16] = glow
    arm = {"vest": (0.78, 0.76, 0.72), "translucent torso": cloth}.get(member.top, cloth)
    arm_kind = MESH_KIND if member.top in ("mesh", "translucent torso") else CLOTH_KIND
    _fill(rows[4], arm_kind, arm, arm, specular=0.08, gloss=8, grey=0.58)
    leg_kind = MESH_KIND if member.top in ("mesh", "translucent torso") else CLOTH_KIND
    _fill(
        rows[5], leg_kind, CLOTH[member.trousers], CLOTH[member.trousers], specular=0.06, gloss=8, grey=0.52
    )
    _fill(rows[6], MATTE, (0.05, 0.045, 0.04), (0, 0, 0), specular=0.3, gloss=20, grey=0.40)
    return rows


def _fill(
    row: FloatArray,
    kind: int,
    colour: tuple[float, ...],
    second: tuple[float, ...],
    *,
    specular: float,
    gloss: float,
    grey: float,
    metal: float = 0.0,
) -> None:
    row[0], row[1:4], row[4:7] = kind, colour, second
    row[10], row[11], row[12], row[18] = specular, gloss, metal, grey


_DOWN = np.diag([1.0, -1.0, -1.0])  # turns a bone's axes so that local +y runs down the limb
SKIN_ROW, FACE_ROW, HAIR_ROW, TORSO_ROW, ARM_ROW, LEG_ROW, SHOE_ROW = range(7)


def body(member: Member, skeleton: Skeleton, *, figure: int, first_material: int) -> FloatArray:
    """Primitive rows [K, WIDTH] of a posed member; ids are 256 * figure + part. K is the same in every pose."""
    rows: list[FloatArray] = []
    s, w = member.scale, member.build

    def add(
        kind: int,
        bone: str,
        at: tuple[float, float, float],
        shape: tuple[float, ...],
        part: str,
        material: int,
        *,
        down: bool = False,
    ) -> None:
        axes = skeleton.axes[BONE[bone]]
        centre = skeleton.at(bone, (s * at[0], s * at[1], s * at[2]))
        sized = tuple(s * v for v in shape)
        rows.append(
            primitive(
                kind,
                centre,
                _DOWN @ axes if down else axes,
                shape=sized,
                material=first_material + material,
                id=256 * figure + PART[part],
            )
        )

    add(ELLIPSOID, "chest", (0.0, 0.035, 0.0), (0.185 * w, 0.185, 0.118 * w), "torso", TORSO_ROW)
    add(ELLIPSOID, "chest", (0.0, 0.125, -0.005), (0.178 * w, 0.062, 0.082 * w), "torso", TORSO_ROW)
    add(ELLIPSOID, "spine", (0.0, 0.06, 0.0), (0.152 * w, 0.19, 0.105 * w), "torso", TORSO_ROW)
    add(ELLIPSOID, "pelvis", (0.0, 0.01, 0.0), (0.162 * w, 0.115, 0.115 * w), "hips", LEG_ROW)
    add(CONE, "neck", (0.0, -0.03, 0.0), (0.13, 0.055, 0.050), "neck", SKIN_ROW)
    add(ELLIPSOID, "head", (0.0, 0.09, 0.015), (0.108, 0.142, 0.122), "head", FACE_ROW)
    add(ELLIPSOID, "head", (0.0, 0.075, 0.130), (0.017, 0.027, 0.024), "head", SKIN_ROW)
    for side, sign in (("l", 1.0), ("r", -1.0)):
        add(ELLIPSOID, "head", (0.106 * sign, 0.085, -0.005), (0.014, 0.034, 0.022), "head", SKIN_ROW)
        add(
            CONE,
            f"{side}_shoulder",
            (0.0, 0.0, 0.0),
            (0.28, 0.062 * w, 0.049 * w),
            f"{side}_upper_arm",
            ARM_ROW,
            down=True,
        )
        add(
            CONE,
            f"{side}_elbow",
            (0.0, 0.0, 0.0),
            (0.25, 0.050 * w, 0.036 * w),
            f"{side}_forearm",
            ARM_ROW,
            down=True,
        )
        add(ELLIPSOID, f"{side}_wrist", (0.0, -0.065, 0.005), (0.024, 0.078, 0.040), f"{side}_hand", SKIN_ROW)
        add(
            CONE,
            f"{side}_hip",
            (0.0, 0.0, 0.0),
            (0.43, 0.090 * w, 0.060 * w),
            f"{side}_thigh",
            LEG_ROW,
            down=True,
        )
        add(
            CONE,
            f"{side}_knee",
            (0.0, 0.0, 0.0),
            (0.42, 0.060 * w, 0.042 * w),
            f"{side}_shin",
            LEG_ROW,
            down=True,
        )
        add(ELLIPSOID, f"{side}_ankle", (0.0, -0.02, 0.06), (0.048, 0.045, 0.125), f"{side}_foot", SHOE_ROW)
    if member.style in ("short", "long", "bun"):
        add(ELLIPSOID, "head", (0.0, 0.128, -0.014), (0.118, 0.122, 0.120), "head", HAIR_ROW)
    if member.style == "long":
        add(ELLIPSOID, "head", (0.0, 0.0, -0.075), (0.120, 0.200, 0.062), "head", HAIR_ROW)
    if member.style == "bun":
        add(ELLIPSOID, "head", (0.0, 0.215, -0.085), (0.058, 0.055, 0.058), "head", HAIR_ROW)
    if member.beard:
        add(ELLIPSOID, "head", (0.0, -0.012, 0.062), (0.080, 0.066, 0.070), "head", HAIR_ROW)
    if member.style == "steel skull":
        add(ELLIPSOID, "head", (0.0, 0.0, 0.055), (0.062, 0.045, 0.058), "head", FACE_ROW)
    return np.stack(rows)


def renamed(member: Member, name: str) -> Member:
    return replace(member, name=name)
