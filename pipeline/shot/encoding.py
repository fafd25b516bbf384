"""How a renderer stored its motion vectors and depth, and the way back to pixels and metres.

A pass holds one or two vectors a pixel. Every convention met in the wild is one linear form, so a sidecar can
say it in numbers: flow = (stored - offset) * scale * size, where size is 1, the image's or half the image's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.errors import ShotError
from pipeline.image import Float32Array

Unit = Literal["pixels", "uv", "ndc"]
Absent = Literal["never", "zero", "above one"]
UNITS: Mapping[str, float | None] = {"pixels": None, "uv": 1.0, "ndc": 0.5}  # share of the image's size
ABSENT = ("never", "zero", "above one")
DIRECTIONS = ("forward", "backward")

# Unreal's Common.ush, EncodeVelocityToTexture, 16 bits: v * (0.499 * 0.5) + 32767 / 65535, 0 = not drawn.
UNREAL_OFFSET = 32767.0 / 65535.0
UNREAL_SCALE = 1.0 / (0.499 * 0.5)


@dataclass(frozen=True)
class VectorEncoding:
    """One stored vector: which channels hold its image x and y, and how they become pixels.

    flow = (stored - offset) * scale * size: `unit` "pixels" has size 1, "uv" the image's width and height,
    "ndc" half of them; `scale` carries the signs (y down) and any factor. `absent` says which stored numbers
    mean "no vector": exact 0, x above 1 (Unity HDRP), or none.
    """

    channels: tuple[str, str]
    unit: Unit = "pixels"
    scale: tuple[float, float] = (1.0, 1.0)
    offset: float = 0.0
    absent: Absent = "never"


@dataclass(frozen=True)
class MotionEncoding:
    """A shot's motion pass: the vectors to t+1 and to t-1, either of which may be missing, and their name."""

    name: str
    forward: VectorEncoding | None = None
    backward: VectorEncoding | None = None


@dataclass(frozen=True)
class DepthEncoding:
    """A depth pass: "linear" metres times `scale`; "normalised" or "reversed": device depth in [0, 1].

    Device depth is (1/near - 1/z) / (1/near - 1/far), or 1 minus it where reversed; near, far in metres.
    "unit" is linear between near and far.
    """

    kind: Literal["linear", "normalised", "reversed", "unit"] = "linear"
    scale: float = 1.0
    near: float = 0.0
    far: float = math.inf


LINEAR_DEPTH = DepthEncoding()
NATIVE_MOTION = MotionEncoding(
    "lookdev",
    forward=VectorEncoding(("forward.X", "forward.Y")),
    backward=VectorEncoding(("backward.X", "backward.Y")),
)


def named_encodings(pairs: tuple[tuple[str, str], ...]) -> tuple[MotionEncoding, ...]:
    """The conventions of field use for a pass whose vectors are in channel `pairs`, in the
    order in which they are believed where a shot cannot tell them apart. Sources: Unity manual
    (motion vectors: uv_prev = uv - mv, y up), Blender manual (Vector pass), Unreal Common.ush.
    """
    first, second = pairs[0], pairs[1] if len(pairs) > 1 else None
    return (
        MotionEncoding("unity", backward=VectorEncoding(first, "uv", (-1.0, 1.0), absent="above one")),
        MotionEncoding(
            "unity_y_down", backward=VectorEncoding(first, "uv", (-1.0, -1.0), absent="above one")
        ),
        MotionEncoding(
            "unreal",
            backward=VectorEncoding(first, "ndc", (-UNREAL_SCALE, UNREAL_SCALE), UNREAL_OFFSET, "zero"),
        ),
        MotionEncoding(
            "blender",
            backward=VectorEncoding(first, "pixels", (1.0, -1.0)),
            forward=None if second is None else VectorEncoding(second, "pixels", (-1.0, 1.0)),
        ),
        MotionEncoding(
            "pixels",
            forward=VectorEncoding(first),
            backward=None if second is None else VectorEncoding(second),
        ),
        MotionEncoding("pixels_backward", backward=VectorEncoding(first)),
    )


def decode(
    stored: Float32Array, encoding: VectorEncoding, *, size: tuple[int, int] | None = None
) -> Float32Array:
    """Stored numbers [H, W, 2] (in the encoding's channel order) -> flow in pixels, nan where there is none.

    `size` is the (width, height) of the image that the vectors were written for; default: their own.
    """
    width, height = size or (stored.shape[1], stored.shape[0])
    share = UNITS[encoding.unit]
    unit = (1.0, 1.0) if share is None else (share * width, share * height)
    factor = np.array([encoding.scale[0] * unit[0], encoding.scale[1] * unit[1]], np.float64)
    flow = ((stored.astype(np.float64) - encoding.offset) * factor).astype(np.float32)
    absent = ~np.isfinite(flow).all(axis=2)
    if encoding.absent == "zero":
        absent |= (stored == 0.0).all(axis=2)
    elif encoding.absent == "above one":
        absent |= stored[..., 0] > 1.0
    flow[absent] = np.nan
    return flow


def decode_depth(stored: Float32Array, encoding: DepthEncoding) -> Float32Array:
    """Stored depth [H, W] -> metres along the view axis; inf where nothing was hit.

    That is 1e10, inf or the far end. A linear 0 counts too: no renderer sees a surface at the lens.
    """
    values = stored.astype(np.float64)
    if encoding.kind == "linear":
        metres = values * encoding.scale
        metres[~(metres > 0.0) | (values >= FARTHEST)] = np.inf
    elif encoding.kind == "unit":
        metres = encoding.near + values * (encoding.far - encoding.near)
        metres[~(values < 1.0)] = np.inf
    else:
        device = 1.0 - values if encoding.kind == "reversed" else values
        inverse = 1.0 / encoding.near - device * (1.0 / encoding.near - 1.0 / encoding.far)
        with np.errstate(divide="ignore"):
            metres = 1.0 / np.maximum(inverse, 0.0)
        metres[~(device < 1.0)] = np.inf
    return metres.astype(np.float32)


FARTHEST = 1e9  # metres: Blender's background is 1e10


def motion_table(encoding: MotionEncoding) -> str:
    """The encoding as the `[motion]` section of shot.toml."""
    lines = ["[motion]", f'encoding = "{encoding.name}"']
    for direction in DIRECTIONS:
        vector: VectorEncoding | None = getattr(encoding, direction)
        if vector is not None:
            channels = ", ".join(f'"{name}"' for name in vector.channels)
            scale = ", ".join(repr(float(value)) for value in vector.scale)
            lines.append(
                f'{direction} = {{ channels = [{channels}], unit = "{vector.unit}", scale = [{scale}], '
                f'offset = {float(vector.offset)!r}, absent = "{vector.absent}" }}'
            )
    return "\n".join(lines) + "\n"


def depth_table(encoding: DepthEncoding) -> str:
    """The encoding as the `[depth]` section of shot.toml."""
    lines = ["[depth]", f'kind = "{encoding.kind}"']
    if encoding.kind == "linear":
        lines.append(f"scale = {float(encoding.scale)!r}")
    else:
        lines += [f"near = {float(encoding.near)!r}", f"far = {float(encoding.far)!r}"]
    return "\n".join(lines) + "\n"


def parse_motion(table: Any, where: str) -> MotionEncoding:
    """The `[motion]` section of a shot.toml. Raises ShotError naming the key."""
    _check_keys(table, ("encoding", *DIRECTIONS), where)
    vectors = {name: _parse_vector(table[name], f"{where}.{name}") for name in DIRECTIONS if name in table}
    if not vectors:
        raise ShotError(f"{where}: says neither forward nor backward; run `lookdev shot probe` on the shot")
    name = table.get("encoding", "custom")
    if not isinstance(name, str):
        raise ShotError(f'{where}.encoding: {name!r}; expected a name like "unity"')
    return MotionEncoding(name, **vectors)


def _parse_vector(table: Any, where: str) -> VectorEncoding:
    _check_keys(table, ("channels", "unit", "scale", "offset", "absent"), where)
    channels, scale = table.get("channels"), table.get("scale", [1.0, 1.0])
    if not (isinstance(channels, list) and len(channels) == 2 and all(isinstance(c, str) for c in channels)):
        raise ShotError(f'{where}.channels: {channels!r}; expected two names like ["R", "G"]')
    if not (isinstance(scale, list) and len(scale) == 2 and all(_is_number(s) and s != 0 for s in scale)):
        raise ShotError(f"{where}.scale: {scale!r}; expected two numbers that are not 0, like [1.0, -1.0]")
    unit, absent = table.get("unit", "pixels"), table.get("absent", "never")
    if unit not in UNITS:
        raise ShotError(f"{where}.unit: {unit!r}; expected {', '.join(UNITS)}")
    if absent not in ABSENT:
        raise ShotError(f"{where}.absent: {absent!r}; expected {', '.join(ABSENT)}")
    offset = table.get("offset", 0.0)
    if not _is_number(offset):
        raise ShotError(f"{where}.offset: {offset!r}; expected a number")
    return VectorEncoding(
        (channels[0], channels[1]), unit, (float(scale[0]), float(scale[1])), float(offset), absent
    )


def parse_depth(table: Any, where: str) -> DepthEncoding:
    """The `[depth]` section of a shot.toml. Raises ShotError naming the key."""
    _check_keys(table, ("kind", "scale", "near", "far"), where)
    kind = table.get("kind")
    if kind not in ("linear", "normalised", "reversed", "unit"):
        raise ShotError(f"{where}.kind: {kind!r}; expected linear, normalised, reversed or unit")
    scale, near, far = table.get("scale", 1.0), table.get("near", 0.0), table.get("far", math.inf)
    if not _is_number(scale) or scale <= 0:
        raise ShotError(f"{where}.scale: {scale!r}; expected metres for one unit, above 0")
    if kind != "linear":
        lowest = 0 if kind != "unit" else -1e-12
        if not all(isinstance(v, (int, float)) for v in (near, far)) or not lowest < near < far:
            raise ShotError(f"{where}: near = {near!r}, far = {far!r}; expected metres with 0 < near < far")
    return DepthEncoding(kind, float(scale), float(near), float(far))


def _check_keys(table: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(table, dict):
        raise ShotError(f"{where}: {table!r}; expected a table with {', '.join(known)}")
    for key in table:
        if key not in known:
            raise ShotError(f"{where}: unknown key {key!r}; expected {', '.join(known)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
