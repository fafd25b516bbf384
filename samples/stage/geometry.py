"""Ray against smooth primitive, in closed form, so that depth and motion are exact.

A primitive is one row of a float64 table [K, WIDTH]:

    0        kind: ELLIPSOID, CONE (round cone), BOX, ROOM (a box seen from inside)
    1..3     centre in the world, metres
    4..12    rotation, row-major; its rows are the local axes, so local = R (p - c)
    13..15   shape: ellipsoid radii x y z; round cone length, r0, r1 (along local +y from the centre);
             box half sizes
    16       unused
    17       radius of a sphere about the bounding centre that holds it
    18       material row
    19       id = 256 * figure + body part (figure 0 is the set)
    20..22   bounding centre in the world
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

ELLIPSOID, CONE, BOX, ROOM = 0, 1, 2, 3
WIDTH = 23
FAR = 1e30

FloatArray = NDArray[np.float64]


def primitive(
    kind: int, centre: FloatArray, rotation: FloatArray, *, shape: tuple[float, ...], material: int, id: int
) -> FloatArray:
    """One table row [WIDTH]; `rotation` [3, 3] has the local axes as rows, `shape` is in metres."""
    row = np.zeros(WIDTH)
    row[0] = kind
    row[1:4] = centre
    row[4:13] = np.asarray(rotation).ravel()
    row[13 : 13 + len(shape)] = shape
    row[18], row[19] = material, id
    row[20:23] = centre
    if kind == ELLIPSOID:
        row[17] = max(shape)
    elif kind == CONE:
        length, r0, r1 = shape
        row[17] = 0.5 * length + max(r0, r1)
        row[20:23] = centre + 0.5 * length * np.asarray(rotation)[1]
    else:
        row[17] = math.sqrt(sum(s * s for s in shape))
    return row


@numba.njit(cache=True, fastmath=True, inline="always")
def _ellipsoid(ox, oy, oz, dx, dy, dz, rx, ry, rz):  # type: ignore[no-untyped-def]
    ox, oy, oz, dx, dy, dz = ox / rx, oy / ry, oz / rz, dx / rx, dy / ry, dz / rz
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1.0
    disc = b * b - a * c
    if disc < 0.0:
        return FAR
    root = math.sqrt(disc)
    t = (-b - root) / a
    return t if t > 1e-6 else FAR


@numba.njit(cache=True, fastmath=True, inline="always")
def _cone(ox, oy, oz, dx, dy, dz, length, r0, r1):  # type: ignore[no-untyped-def]
    """Two spheres and the cone tangent to both: radius (r0 - s y) / c for y in [r0 s, length + r1 s]."""
    s = (r0 - r1) / length
    c2 = 1.0 - s * s
    best = FAR
    m, k = r0 - s * oy, -s * dy
    a = dx * dx + dz * dz - k * k / c2
    b = ox * dx + oz * dz - m * k / c2
    c = ox * ox + oz * oz - m * m / c2
    disc = b * b - a * c
    if disc >= 0.0 and abs(a) > 1e-12:
        root = math.sqrt(disc)
        for sign in (-1.0, 1.0):
            t = (-b + sign * root) / a
            y = oy + t * dy
            if 1e-6 < t < best and r0 * s <= y <= length + r1 * s and m + k * t > 0.0:
                best = t
    dd = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    disc = b * b - dd * (ox * ox + oy * oy + oz * oz - r0 * r0)
    if disc >= 0.0:
        t = (-b - math.sqrt(disc)) / dd
        if 1e-6 < t < best and oy + t * dy < r0 * s:
            best = t
    py = oy - length
    b = ox * dx + py * dy + oz * dz
    disc = b * b - dd * (ox * ox + py * py + oz * oz - r1 * r1)
    if disc >= 0.0:
        t = (-b - math.sqrt(disc)) / dd
        if 1e-6 < t < best and oy + t * dy > length + r1 * s:
            best = t
    return best


@numba.njit(cache=True, fastmath=True, inline="always")
def _slabs(ox, oy, oz, dx, dy, dz, hx, hy, hz):  # type: ignore[no-untyped-def]
    """Entry and exit of a box."""
    ix = 1.0 / dx if abs(dx) > 1e-12 else 1e12
    iy = 1.0 / dy if abs(dy) > 1e-12 else 1e12
    iz = 1.0 / dz if abs(dz) > 1e-12 else 1e12
    t1, t2 = (-hx - ox) * ix, (hx - ox) * ix
    near, far = min(t1, t2), max(t1, t2)
    t1, t2 = (-hy - oy) * iy, (hy - oy) * iy
    near, far = max(near, min(t1, t2)), min(far, max(t1, t2))
    t1, t2 = (-hz - oz) * iz, (hz - oz) * iz
    return max(near, min(t1, t2)), min(far, max(t1, t2))


@numba.njit(cache=True, fastmath=True)
def intersect(row, ox, oy, oz, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Distance along the ray (in units of its direction's length) to the first hit, or FAR."""
    px, py, pz = ox - row[1], oy - row[2], oz - row[3]
    lx = row[4] * px + row[5] * py + row[6] * pz
    ly = row[7] * px + row[8] * py + row[9] * pz
    lz = row[10] * px + row[11] * py + row[12] * pz
    ex = row[4] * dx + row[5] * dy + row[6] * dz
    ey = row[7] * dx + row[8] * dy + row[9] * dz
    ez = row[10] * dx + row[11] * dy + row[12] * dz
    kind = int(row[0])
    if kind == ELLIPSOID:
        return _ellipsoid(lx, ly, lz, ex, ey, ez, row[13], row[14], row[15])
    if kind == CONE:
        return _cone(lx, ly, lz, ex, ey, ez, row[13], row[14], row[15])
    near, far = _slabs(lx, ly, lz, ex, ey, ez, row[13], row[14], row[15])
    if kind == ROOM:
        return far if far > 1e-6 else FAR
    return near if near <= far and near > 1e-6 else FAR


@numba.njit(cache=True, fastmath=True)
def surface(row, x, y, z):  # type: ignore[no-untyped-def]
    """Local point and outward world normal at world point (x, y, z) on the primitive."""
    px, py, pz = x - row[1], y - row[2], z - row[3]
    lx = row[4] * px + row[5] * py + row[6] * pz
    ly = row[7] * px + row[8] * py + row[9] * pz
    lz = row[10] * px + row[11] * py + row[12] * pz
    kind = int(row[0])
    if kind == ELLIPSOID:
        nx, ny, nz = lx / (row[13] * row[13]), ly / (row[14] * row[14]), lz / (row[15] * row[15])
    elif kind == CONE:
        length, r0, r1 = row[13], row[14], row[15]
        s = (r0 - r1) / length
        if ly < r0 * s:
            nx, ny, nz = lx, ly, lz
        elif ly > length + r1 * s:
            nx, ny, nz = lx, ly - length, lz
        else:
            nx, ny, nz = lx, (r0 - s * ly) * s / (1.0 - s * s), lz
    else:
        ax, ay, az = abs(lx) / row[13], abs(ly) / row[14], abs(lz) / row[15]
        nx, ny, nz = 0.0, 0.0, 0.0
        if ax >= ay and ax >= az:
            nx = 1.0 if lx > 0 else -1.0
        elif ay >= az:
            ny = 1.0 if ly > 0 else -1.0
        else:
            nz = 1.0 if lz > 0 else -1.0
        if kind == ROOM:
            nx, ny, nz = -nx, -ny, -nz
    inv = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-30)
    nx, ny, nz = nx * inv, ny * inv, nz * inv
    wx = row[4] * nx + row[7] * ny + row[10] * nz
    wy = row[5] * nx + row[8] * ny + row[11] * nz
    wz = row[6] * nx + row[9] * ny + row[12] * nz
    return lx, ly, lz, wx, wy, wz


@numba.njit(cache=True, fastmath=True)
def blocked(table, groups, ox, oy, oz, dx, dy, dz, reach):  # type: ignore[no-untyped-def]
    """Whether anything but the room stands on the ray nearer than `reach`.

    `groups` [G, 6]: first row, one past the last, bounding sphere x y z r; rows of a group are tried only
    where the ray meets its sphere. `(dx, dy, dz)` has unit length.
    """
    for g in range(groups.shape[0]):
        px, py, pz = groups[g, 2] - ox, groups[g, 3] - oy, groups[g, 4] - oz
        along = px * dx + py * dy + pz * dz
        r = groups[g, 5]
        if px * px + py * py + pz * pz - along * along > r * r or along < -r or along > reach + r:
            continue
        for k in range(int(groups[g, 0]), int(groups[g, 1])):
            qx, qy, qz = table[k, 20] - ox, table[k, 21] - oy, table[k, 22] - oz
            along = qx * dx + qy * dy + qz * dz
            r = table[k, 17]
            if qx * qx + qy * qy + qz * qz - along * along > r * r or along < -r:
                continue
            if intersect(table[k], ox, oy, oz, dx, dy, dz) < reach:
                return True
    return False
