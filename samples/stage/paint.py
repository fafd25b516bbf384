"""The colour of a surface point before any light falls on it: faces, cloth, walls. Linear RGB."""

from __future__ import annotations

import math

import numba

from samples.stage.materials import (
    BRICKS,
    COAT_KIND,
    FACE,
    GLASS_WALL,
    HAIR_KIND,
    MESH_KIND,
    PANELS,
    STEEL_FACE,
    VAULT,
    VEST_KIND,
    WALLS,
)


@numba.njit(cache=True, fastmath=True)
def _face(m, x, y, z, r, g, b):  # type: ignore[no-untyped-def]
    """Eyes, brows, mouth, beard and glasses at the head's unit-sphere point (x left, y up, z front)."""
    if z < 0.05:
        if m[17] > 0.5 and abs(y - 0.10) < 0.055 and z > -0.35:
            return 0.02, 0.02, 0.02
        return r, g, b
    ax = abs(x)
    if m[16] > 0.5 and y < -0.22 + 0.30 * ax * ax and not (ax < 0.24 and -0.47 < y < -0.36):
        r, g, b = m[4], m[5], m[6]
    if ax < 0.24 and -0.47 < y < -0.36:
        r, g, b = 0.42 * r + 0.10, 0.22 * g, 0.22 * b
    ex, ey = ax - 0.40, y - 0.10
    eye = math.sqrt(ex * ex + 1.9 * ey * ey)
    if eye < 0.19:
        r, g, b = 0.78, 0.76, 0.72
        if ex * ex + ey * ey < 0.0085:
            r, g, b = 0.02, 0.02, 0.025
    if abs(ax - 0.40) < 0.20 and 0.29 < y - 0.10 * (0.4 - ax) < 0.38:
        r, g, b = 0.6 * m[4], 0.6 * m[5], 0.6 * m[6]
    if m[17] > 0.5:
        ring = math.sqrt(ex * ex + ey * ey)
        if (
            0.25 < ring < 0.345
            or (ax < 0.17 and abs(y - 0.13) < 0.05)
            or (ax > 0.72 and abs(y - 0.10) < 0.055)
        ):
            r, g, b = 0.015, 0.015, 0.015
        elif ring <= 0.25:
            r, g, b = 0.75 * r + 0.10, 0.75 * g + 0.11, 0.75 * b + 0.13
    return r, g, b


@numba.njit(cache=True, fastmath=True)
def _steel_face(x, y, z, r, g, b):  # type: ignore[no-untyped-def]
    """Sockets and seams of a steel skull; the second value says how strongly an eye glows."""
    ax = abs(x)
    glow = 0.0
    if z > 0.05:
        ex, ey = ax - 0.40, y - 0.10
        ring = math.sqrt(ex * ex + ey * ey)
        if ring < 0.27:
            r, g, b = 0.03, 0.03, 0.035
            if ring < 0.13:
                glow = 1.0
        if ax < 0.34 and -0.60 < y < -0.34:
            bar = math.sin(34.0 * x)
            r, g, b = (0.05, 0.05, 0.055) if bar > -0.1 else (0.45, 0.46, 0.48)
        if ax < 0.10 and -0.22 < y < -0.02:
            r, g, b = 0.05, 0.05, 0.055
    if abs(z + 0.15) < 0.03 or abs(y - 0.52) < 0.025:
        r, g, b = 0.4 * r, 0.4 * g, 0.4 * b
    return r, g, b, glow


@numba.njit(cache=True, fastmath=True)
def _torso(kind, m, x, y, z):  # type: ignore[no-untyped-def]
    """Cloth of the trunk at local metres of a 1.75 m body."""
    r, g, b = m[1], m[2], m[3]
    ax = abs(x)
    if kind == VEST_KIND:
        if z > 0.0 and ax < 0.012 + 0.70 * max(0.0, y - 0.04):
            r, g, b = m[4], m[5], m[6]
        elif z > 0.0 and ax < 0.008 and math.sin(90.0 * y) > 0.0:
            r, g, b = 0.6, 0.5, 0.2
    elif kind == COAT_KIND:
        if z > 0.0 and ax < 0.010:
            r, g, b = 0.35 * r, 0.35 * g, 0.35 * b
        elif z > 0.0 and y > 0.0 and 0.012 < ax < 0.045 + 0.2 * y:
            r, g, b = 0.6 * r, 0.6 * g, 0.6 * b
    elif kind == MESH_KIND:
        angle = math.atan2(x, z)
        if abs(math.sin(7.0 * angle + 40.0 * y)) < 0.30 or abs(math.sin(7.0 * angle - 40.0 * y)) < 0.30:
            r, g, b = 0.55 * r + 0.11, 0.55 * g + 0.115, 0.55 * b + 0.13
    return r, g, b


@numba.njit(cache=True, fastmath=True)
def _wall(kind, m, lx, ly, lz, hx, hy, hz):  # type: ignore[no-untyped-def]
    """Pattern of a room's inside or of a large plane: colour and share of the emission."""
    r, g, b = m[1], m[2], m[3]
    pitch = m[7]
    on_x, on_y = abs(lx) > hx - 1e-4, abs(ly) > hy - 1e-4
    a = lz if on_x else lx
    c = lz if on_y else ly
    if kind == GLASS_WALL:
        u, v = a / pitch - math.floor(a / pitch), c / pitch - math.floor(c / pitch)
        if u < 0.09 or v < 0.09:
            return m[4], m[5], m[6], 0.0
        return r, g, b, 0.75 + 0.35 * c / hy
    if on_y and ly < 0.0:
        dark = 0.62 if (math.floor(lx / 0.8) + math.floor(lz / 0.8)) % 2.0 < 0.5 else 0.50
        return dark * r, dark * g, dark * b, 0.0
    if on_y:
        return 0.8 * r, 0.8 * g, 0.8 * b, 0.0
    if kind == PANELS:
        u = a / pitch - math.floor(a / pitch)
        if u < 0.07 or abs(ly + 0.35) < 0.035:
            return m[4], m[5], m[6], 0.0
    elif kind == BRICKS:
        v = c / (0.5 * pitch)
        u = a / pitch + 0.5 * (math.floor(v) % 2.0)
        if u - math.floor(u) < 0.08 or v - math.floor(v) < 0.14:
            return m[4], m[5], m[6], 0.0
        tone = 0.85 + 0.3 * abs(math.sin(12.9 * math.floor(u) + 78.2 * math.floor(v)))
        return tone * r, tone * g, tone * b, 0.0
    elif kind == VAULT:
        u = a / pitch - math.floor(a / pitch)
        rib = 0.55 + 0.9 * abs(u - 0.5) * 2.0
        if u < 0.10:
            return m[4], m[5], m[6], 0.0
        return rib * r, rib * g, rib * b, 0.0
    return r, g, b, 0.0


@numba.njit(cache=True, fastmath=True)
def albedo(table, k, m, lx, ly, lz):  # type: ignore[no-untyped-def]
    """Colour at a local point of row k with material m, share of its emission that shows, glow of an eye."""
    kind = int(m[0])
    if kind >= WALLS:
        r, g, b, share = _wall(kind, m, lx, ly, lz, table[k, 13], table[k, 14], table[k, 15])
        if kind != GLASS_WALL:
            share = 1.0
        return r, g, b, share, 0.0
    s = m[19]
    if kind in (FACE, STEEL_FACE):
        if table[k, 14] < 0.1 * s:
            return m[1], m[2], m[3], 0.0, 0.0
        x, y, z = lx / table[k, 13], ly / table[k, 14], lz / table[k, 15]
        if kind == FACE:
            r, g, b = _face(m, x, y, z, m[1], m[2], m[3])
            return r, g, b, 0.0, 0.0
        r, g, b, glow = _steel_face(x, y, z, m[1], m[2], m[3])
        return r, g, b, 0.0, glow
    if kind == HAIR_KIND:
        tone = 0.82 + 0.36 * abs(math.sin(140.0 * lx + 30.0 * ly))
        return tone * m[1], tone * m[2], tone * m[3], 0.0, 0.0
    r, g, b = _torso(kind, m, lx / s, ly / s, lz / s)
    return r, g, b, 0.0, 0.0
