"""Two looks of the same surface: the engine's plain grey, and film light on film materials. Linear light out."""

from __future__ import annotations

import math

import numba
import numpy as np

from samples.stage.cast import (
    COAT_KIND,
    FACE,
    GLASS_TORSO,
    HAIR_KIND,
    MESH_KIND,
    STEEL_FACE,
    VEST_KIND,
)
from samples.stage.geometry import ROOM, blocked, intersect, surface
from samples.stage.sets import BRICKS, GLASS_WALL, PANELS, VAULT


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
def _albedo(table, k, m, lx, ly, lz):  # type: ignore[no-untyped-def]
    """Colour at a local point, how much of the material's emission shows there, and a glow of an eye."""
    kind = int(m[0])
    if kind >= 20:
        r, g, b, share = _wall(kind, m, lx, ly, lz, table[k, 13], table[k, 14], table[k, 15])
        if kind != GLASS_WALL:
            share = 1.0
        return r, g, b, share, 0.0
    s = m[19]
    if kind == FACE or kind == STEEL_FACE:
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


@numba.njit(cache=True, fastmath=True)
def _sky(x, y, z, key, ambient):  # type: ignore[no-untyped-def]
    """What a mirror sees: a room of ambient light with a soft window on the key's side."""
    up = 0.5 + 0.5 * y
    window = max(0.0, x * key[3] + y * key[4] + z * key[5])
    window = 0.9 * window * window * window
    return (
        ambient[0] * (0.5 + 1.3 * up) + key[0] * window,
        ambient[1] * (0.5 + 1.3 * up) + key[1] * window,
        ambient[2] * (0.5 + 1.3 * up) + key[2] * window,
    )


@numba.njit(cache=True, fastmath=True)
def shade(
    hit,
    depth,
    table,
    groups,
    materials,
    position,
    rotation,
    focal,
    width,
    height,
    oversample,
    key,
    ambient,
    lamp,
):  # type: ignore[no-untyped-def]
    """Engine grey [H*S, W*S] and film light [H*S, W*S, 3], float32, linear.

    `key` [6]: colour, then the direction it comes from; `lamp` [6]: place, colour (black = no lamp).
    """
    rows, cols = hit.shape
    engine = np.zeros((rows, cols), np.float32)
    film = np.zeros((rows, cols, 3), np.float32)
    cx, cy = (width - 1) / 2.0, (height - 1) / 2.0
    for row in range(rows):
        dy = -((row + 0.5) / oversample - 0.5 - cy) / focal
        for col in range(cols):
            k = hit[row, col]
            if k < 0:
                continue
            dx = ((col + 0.5) / oversample - 0.5 - cx) / focal
            wx = rotation[0, 0] * dx + rotation[1, 0] * dy + rotation[2, 0]
            wy = rotation[0, 1] * dx + rotation[1, 1] * dy + rotation[2, 1]
            wz = rotation[0, 2] * dx + rotation[1, 2] * dy + rotation[2, 2]
            t = depth[row, col]
            x, y, z = position[0] + t * wx, position[1] + t * wy, position[2] + t * wz
            inv = 1.0 / math.sqrt(wx * wx + wy * wy + wz * wz)
            wx, wy, wz = wx * inv, wy * inv, wz * inv
            lx, ly, lz, nx, ny, nz = surface(table[k], x, y, z)
            m = materials[int(table[k, 18])]
            facing = -(nx * wx + ny * wy + nz * wz)
            head = max(
                0.0, 0.85 * facing + 0.40 * (nx * rotation[1, 0] + ny * rotation[1, 1] + nz * rotation[1, 2])
            )
            engine[row, col] = m[18] * (0.22 + 0.70 * head)

            r, g, b, share, eye = _albedo(table, k, m, lx, ly, lz)
            lit = nx * key[3] + ny * key[4] + nz * key[5]
            if lit > 0.0 and blocked(
                table, groups, x + 2e-3 * nx, y + 2e-3 * ny, z + 2e-3 * nz, key[3], key[4], key[5], 6.0
            ):
                lit = 0.0
            wrap = max(0.0, lit)
            up = 0.5 + 0.5 * ny
            fr = ambient[0] * (0.55 + 0.75 * up) + key[0] * wrap
            fg = ambient[1] * (0.55 + 0.75 * up) + key[1] * wrap
            fb = ambient[2] * (0.55 + 0.75 * up) + key[2] * wrap
            if lamp[3] + lamp[4] + lamp[5] > 0.0:
                qx, qy, qz = lamp[0] - x, lamp[1] - y, lamp[2] - z
                d2 = qx * qx + qy * qy + qz * qz + 0.05
                power = max(0.0, nx * qx + ny * qy + nz * qz) / math.sqrt(d2) / (0.6 + d2)
                fr, fg, fb = fr + lamp[3] * power, fg + lamp[4] * power, fb + lamp[5] * power
            diffuse = 1.0 - 0.85 * m[12]
            cr, cg, cb = r * fr * diffuse, g * fg * diffuse, b * fb * diffuse
            # specular: Blinn-Phong for the key, a soft room in the mirror of metals, Schlick at grazing angles
            rx, ry, rz = wx + 2.0 * facing * nx, wy + 2.0 * facing * ny, wz + 2.0 * facing * nz
            fresnel = (1.0 - max(0.0, facing)) ** 4
            er, eg, eb = _sky(rx, ry, rz, key, ambient)
            cr += er * (m[12] * r * 1.1 + 0.35 * m[10] * fresnel)
            cg += eg * (m[12] * g * 1.1 + 0.35 * m[10] * fresnel)
            cb += eb * (m[12] * b * 1.1 + 0.35 * m[10] * fresnel)
            if lit > 0.0:
                hx, hy, hz = key[3] - wx, key[4] - wy, key[5] - wz
                hl = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz)
                gloss = m[10] * max(0.0, (nx * hx + ny * hy + nz * hz) * hl) ** m[11]
                cr, cg, cb = cr + key[0] * gloss * 0.6, cg + key[1] * gloss * 0.6, cb + key[2] * gloss * 0.6
            kind = int(m[0])
            if kind < 20:
                if m[13] + m[14] + m[15] > 0.0:
                    px, py, pz = m[7] - position[0], m[8] - position[1], m[9] - position[2]
                    along = px * wx + py * wy + pz * wz
                    d2 = max(0.0, px * px + py * py + pz * pz - along * along) / (m[19] * m[19])
                    core = 2.2 * math.exp(-d2 / 0.0022) + 0.75 * math.exp(-d2 / 0.012)
                    if kind == GLASS_TORSO:
                        through = 0.30 * max(0.0, facing)
                        for q in range(table.shape[0]):
                            if int(table[q, 0]) == ROOM:
                                far = intersect(table[q], x, y, z, wx, wy, wz)
                                bx, by, bz, bnx, bny, bnz = surface(
                                    table[q], x + far * wx, y + far * wy, z + far * wz
                                )
                                br, bg, bb, _s, _e = _albedo(
                                    table, q, materials[int(table[q, 18])], bx, by, bz
                                )
                                cr = cr * (1.0 - through) + through * br * (ambient[0] + 0.4 * key[0])
                                cg = cg * (1.0 - through) + through * bg * (ambient[1] + 0.4 * key[1])
                                cb = cb * (1.0 - through) + through * bb * (ambient[2] + 0.4 * key[2])
                    else:
                        core *= max(0.0, facing) * 0.8
                    cr, cg, cb = cr + m[13] * core, cg + m[14] * core, cb + m[15] * core
                if eye > 0.0:
                    cr, cg, cb = cr + 1.6 * m[7], cg + 1.6 * m[8], cb + 1.6 * m[9]
            else:
                cr, cg, cb = cr + m[13] * share, cg + m[14] * share, cb + m[15] * share
            film[row, col, 0], film[row, col, 1], film[row, col, 2] = cr, cg, cb
    return engine, film
