"""The body of a cast member: its material rows, and its primitives in a pose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samples.stage.cast import CLOTH, GLOW, HAIR, SKIN, Member
from samples.stage.geometry import CONE, ELLIPSOID, primitive
from samples.stage.materials import (
    CLOTH_KIND,
    COAT_KIND,
    FACE,
    GLASS_TORSO,
    HAIR_KIND,
    MATERIAL_WIDTH,
    MATTE,
    MESH_KIND,
    SKIN_KIND,
    STEEL,
    STEEL_FACE,
    VEST_KIND,
)
from samples.stage.skeleton import BONE, Skeleton

FloatArray = NDArray[np.float64]
Triple = tuple[float, float, float]

# Body parts, the low byte of an id
PARTS = (
    "none", "head", "neck", "torso", "l_upper_arm", "l_forearm", "l_hand",
    "r_upper_arm", "r_forearm", "r_hand", "hips",
    "l_thigh", "l_shin", "l_foot", "r_thigh", "r_shin", "r_foot",
)  # fmt: skip
PART = {name: index for index, name in enumerate(PARTS)}

# A member's material rows
SKIN_ROW, FACE_ROW, HAIR_ROW, TORSO_ROW, ARM_ROW, LEG_ROW, SHOE_ROW = range(7)

_METAL = (0.55, 0.58, 0.62)
_LINEN = (0.78, 0.76, 0.72)  # what a vest is worn over
_TORSO_KINDS = {"vest": VEST_KIND, "mesh": MESH_KIND, "translucent torso": GLASS_TORSO, "coat": COAT_KIND}
_DOWN = np.diag([1.0, -1.0, -1.0])  # turns a bone's axes so that local +y runs down the limb


def materials(member: Member) -> FloatArray:
    """Material rows [7, MATERIAL_WIDTH] of a member: skin, face, hair, torso, arms, legs, shoes.

    The torso's columns 7 to 9 are the core's place in the world, which depends on the pose: zero here.
    """
    hair, cloth, trousers = (HAIR[member.hair], CLOTH[member.colour], CLOTH[member.trousers])
    rows = np.zeros((7, MATERIAL_WIDTH))
    rows[:, 19] = member.scale
    _paint_head(rows, member)
    _fill(rows[HAIR_ROW], HAIR_KIND, hair, hair, specular=0.35, gloss=10, grey=0.45)
    torso_kind = _TORSO_KINDS.get(member.top, CLOTH_KIND)
    if torso_kind == GLASS_TORSO:
        _fill(rows[TORSO_ROW], torso_kind, (0.10, 0.11, 0.13), cloth, specular=0.8, gloss=40, grey=0.55)
    else:
        _fill(rows[TORSO_ROW], torso_kind, cloth, _LINEN, specular=0.08, gloss=8, grey=0.55)
    rows[TORSO_ROW, 13:16] = GLOW[member.glow] if member.glow else (0.0, 0.0, 0.0)
    arm = _LINEN if member.top == "vest" else cloth
    limb_kind = MESH_KIND if member.top in ("mesh", "translucent torso") else CLOTH_KIND
    _fill(rows[ARM_ROW], limb_kind, arm, arm, specular=0.08, gloss=8, grey=0.58)
    _fill(rows[LEG_ROW], limb_kind, trousers, trousers, specular=0.06, gloss=8, grey=0.52)
    _fill(rows[SHOE_ROW], MATTE, (0.05, 0.045, 0.04), (0, 0, 0), specular=0.3, gloss=20, grey=0.40)
    return rows


def _paint_head(rows: FloatArray, member: Member) -> None:
    """Fill the rows of skin and face."""
    skin, face, hair = rows[SKIN_ROW], rows[FACE_ROW], HAIR[member.hair]
    if member.style == "steel skull":
        _fill(skin, STEEL, _METAL, _METAL, specular=0.9, gloss=40, metal=1.0, grey=0.62)
        _fill(face, STEEL_FACE, _METAL, hair, specular=1.0, gloss=50, metal=1.0, grey=0.66)
        face[7:10] = GLOW[member.glow or "orange"]
    else:
        colour = SKIN[member.skin]
        _fill(skin, SKIN_KIND, colour, colour, specular=0.18, gloss=12, grey=0.62)
        _fill(face, FACE, colour, hair, specular=0.2, gloss=14, grey=0.66)
        face[7:10] = (0.1, 0.1, 0.1)
    face[16], face[17] = float(member.beard), float(member.glasses)


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


@dataclass(frozen=True)
class _Solid:
    """A primitive on a bone, in metres of a body 1.75 m tall.

    `wide` names the entries of `shape` that the member's build widens; `down` turns the bone's y downward.
    """

    kind: int
    bone: str
    at: Triple
    shape: Triple
    part: str
    row: int
    wide: tuple[int, ...] = ()
    down: bool = False


def _limb(bone: str, shape: Triple, part: str, row: int) -> _Solid:
    """A round cone from a joint to the next: length, then the radii at both ends."""
    return _Solid(CONE, bone, (0.0, 0.0, 0.0), shape, part, row, wide=(1, 2), down=True)


def _half(side: str, sign: float) -> Iterator[_Solid]:
    """Ear, arm and leg of one side."""
    yield _Solid(ELLIPSOID, "head", (0.106 * sign, 0.085, -0.005), (0.014, 0.034, 0.022), "head", SKIN_ROW)
    yield _limb(f"{side}_shoulder", (0.28, 0.062, 0.049), f"{side}_upper_arm", ARM_ROW)
    yield _limb(f"{side}_elbow", (0.25, 0.050, 0.036), f"{side}_forearm", ARM_ROW)
    hand, foot = f"{side}_hand", f"{side}_foot"
    yield _Solid(ELLIPSOID, f"{side}_wrist", (0.0, -0.065, 0.005), (0.024, 0.078, 0.040), hand, SKIN_ROW)
    yield _limb(f"{side}_hip", (0.43, 0.090, 0.060), f"{side}_thigh", LEG_ROW)
    yield _limb(f"{side}_knee", (0.42, 0.060, 0.042), f"{side}_shin", LEG_ROW)
    yield _Solid(ELLIPSOID, f"{side}_ankle", (0.0, -0.02, 0.06), (0.048, 0.045, 0.125), foot, SHOE_ROW)


_TRUNK = (
    _Solid(ELLIPSOID, "chest", (0.0, 0.035, 0.0), (0.185, 0.185, 0.118), "torso", TORSO_ROW, wide=(0, 2)),
    _Solid(ELLIPSOID, "chest", (0.0, 0.125, -0.005), (0.178, 0.062, 0.082), "torso", TORSO_ROW, wide=(0, 2)),
    _Solid(ELLIPSOID, "spine", (0.0, 0.06, 0.0), (0.152, 0.19, 0.105), "torso", TORSO_ROW, wide=(0, 2)),
    _Solid(ELLIPSOID, "pelvis", (0.0, 0.01, 0.0), (0.162, 0.115, 0.115), "hips", LEG_ROW, wide=(0, 2)),
    _Solid(CONE, "neck", (0.0, -0.03, 0.0), (0.13, 0.055, 0.050), "neck", SKIN_ROW),
    _Solid(ELLIPSOID, "head", (0.0, 0.09, 0.015), (0.108, 0.142, 0.122), "head", FACE_ROW),
    _Solid(ELLIPSOID, "head", (0.0, 0.075, 0.130), (0.017, 0.027, 0.024), "head", SKIN_ROW),
)
_SOLIDS = (*_TRUNK, *_half("l", 1.0), *_half("r", -1.0))
_HAIR = _Solid(ELLIPSOID, "head", (0.0, 0.128, -0.014), (0.118, 0.122, 0.120), "head", HAIR_ROW)
_STYLES: dict[str, tuple[_Solid, ...]] = {
    "short": (_HAIR,),
    "long": (_HAIR, _Solid(ELLIPSOID, "head", (0.0, 0.0, -0.075), (0.120, 0.200, 0.062), "head", HAIR_ROW)),
    "bun": (_HAIR, _Solid(ELLIPSOID, "head", (0.0, 0.215, -0.085), (0.058, 0.055, 0.058), "head", HAIR_ROW)),
    "bald": (),
    "steel skull": (),
}
_BEARD = _Solid(ELLIPSOID, "head", (0.0, -0.012, 0.062), (0.080, 0.066, 0.070), "head", HAIR_ROW)
_STEEL_JAW = _Solid(ELLIPSOID, "head", (0.0, 0.0, 0.055), (0.062, 0.045, 0.058), "head", FACE_ROW)


def body(member: Member, skeleton: Skeleton, *, figure: int, first_material: int) -> FloatArray:
    """Primitive rows [K, WIDTH] of a posed member; ids are 256 * figure + part.

    K and the order of the rows depend on the member alone, so a row is the same surface in every pose.
    """
    solids = [*_SOLIDS, *_STYLES[member.style]]
    if member.beard:
        solids.append(_BEARD)
    if member.style == "steel skull":
        solids.append(_STEEL_JAW)
    scale, build = member.scale, member.build
    rows = []
    for solid in solids:
        x, y, z = solid.at
        axes = skeleton.axes[BONE[solid.bone]]
        shape = (v * build if i in solid.wide else v for i, v in enumerate(solid.shape))
        rows.append(
            primitive(
                solid.kind,
                skeleton.at(solid.bone, (scale * x, scale * y, scale * z)),
                _DOWN @ axes if solid.down else axes,
                shape=tuple(scale * v for v in shape),
                material=first_material + solid.row,
                id=256 * figure + PART[solid.part],
            )
        )
    return np.stack(rows)
