"""Two looks of the same surface: the engine's plain grey, and film light on film materials. Linear light.

Most of the light is set in one loop: numba calls with arrays cost more than what they would name (measured:
with every step a function of its own it takes half as long again).
"""

from __future__ import annotations

import math

import numba
import numpy as np

from samples.stage.geometry import ROOM, blocked, intersect, surface
from samples.stage.materials import GLASS_TORSO, WALLS
from samples.stage.paint import albedo

_SHADOW_REACH = 6.0  # metres, more than any set has between a figure and what shades it
_SHADOW_LIFT = 2e-3  # metres off the surface, so that a surface does not shadow itself


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
def _core(m, position, wx, wy, wz):  # type: ignore[no-untyped-def]
    """How strongly the glowing core of a chest shows along a ray, by the ray's distance from it."""
    px, py, pz = m[7] - position[0], m[8] - position[1], m[9] - position[2]
    along = px * wx + py * wy + pz * wz
    d2 = max(0.0, px * px + py * py + pz * pz - along * along) / (m[19] * m[19])
    return 2.2 * math.exp(-d2 / 0.0022) + 0.75 * math.exp(-d2 / 0.012)


@numba.njit(cache=True, fastmath=True)
def _behind(  # type: ignore[no-untyped-def]
    table, materials, x, y, z, wx, wy, wz, through, key, ambient, cr, cg, cb
):  # fmt: skip
    """A colour with the share `through` of it replaced by the room's wall behind a translucent torso."""
    for q in range(table.shape[0]):
        if int(table[q, 0]) == ROOM:
            far = intersect(table[q], x, y, z, wx, wy, wz)
            bx, by, bz, _nx, _ny, _nz = surface(table[q], x + far * wx, y + far * wy, z + far * wz)
            br, bg, bb, _s, _e = albedo(table, q, materials[int(table[q, 18])], bx, by, bz)
            cr = cr * (1.0 - through) + through * br * (ambient[0] + 0.4 * key[0])
            cg = cg * (1.0 - through) + through * bg * (ambient[1] + 0.4 * key[1])
            cb = cb * (1.0 - through) + through * bb * (ambient[2] + 0.4 * key[2])
    return cr, cg, cb


@numba.njit(cache=True, fastmath=True)
def shade(  # type: ignore[no-untyped-def]
    hit, depth, table, groups, materials, position, rotation, focal,
    width, height, oversample, key, ambient, lamp,
):  # fmt: skip
    """Engine grey [H*S, W*S] and film light [H*S, W*S, 3], float32, linear.

    `hit` and `depth` [H*S, W*S] are what `trace.see` returned for the same camera. `key` [6]: colour, then
    the direction it comes from; `ambient` [3]: colour; `lamp` [6]: place, colour (black = no lamp).
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
            above = nx * rotation[1, 0] + ny * rotation[1, 1] + nz * rotation[1, 2]
            engine[row, col] = m[18] * (0.22 + 0.70 * max(0.0, 0.85 * facing + 0.40 * above))

            r, g, b, share, eye = albedo(table, k, m, lx, ly, lz)
            lit = nx * key[3] + ny * key[4] + nz * key[5]
            if lit > 0.0:
                sx, sy, sz = (x + _SHADOW_LIFT * nx, y + _SHADOW_LIFT * ny, z + _SHADOW_LIFT * nz)
                if blocked(table, groups, sx, sy, sz, key[3], key[4], key[5], _SHADOW_REACH):
                    lit = 0.0
            # ambient from above, the key, and a lamp that fades with distance
            wrap = max(0.0, lit)
            up = 0.5 + 0.5 * ny
            fr = ambient[0] * (0.55 + 0.75 * up) + key[0] * wrap
            fg = ambient[1] * (0.55 + 0.75 * up) + key[1] * wrap
            fb = ambient[2] * (0.55 + 0.75 * up) + key[2] * wrap
            if lamp[3] + lamp[4] + lamp[5] > 0.0:
                qx, qy, qz = lamp[0] - x, lamp[1] - y, lamp[2] - z
                d2 = qx * qx + qy * qy + qz * qz + 0.05
                power = max(0.0, nx * qx + ny * qy + nz * qz) / math.sqrt(d2) / (0.6 + d2)
                fr, fg, fb = (fr + lamp[3] * power, fg + lamp[4] * power, fb + lamp[5] * power)
            diffuse = 1.0 - 0.85 * m[12]
            cr, cg, cb = r * fr * diffuse, g * fg * diffuse, b * fb * diffuse
            # Blinn-Phong for the key, a soft room in the mirror of metals, Schlick at grazing angles
            rx, ry, rz = (wx + 2.0 * facing * nx, wy + 2.0 * facing * ny, wz + 2.0 * facing * nz)
            fresnel = (1.0 - max(0.0, facing)) ** 4
            er, eg, eb = _sky(rx, ry, rz, key, ambient)
            cr += er * (m[12] * r * 1.1 + 0.35 * m[10] * fresnel)
            cg += eg * (m[12] * g * 1.1 + 0.35 * m[10] * fresnel)
            cb += eb * (m[12] * b * 1.1 + 0.35 * m[10] * fresnel)
            if lit > 0.0:
                hx, hy, hz = key[3] - wx, key[4] - wy, key[5] - wz
                hl = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz)
                gloss = m[10] * max(0.0, (nx * hx + ny * hy + nz * hz) * hl) ** m[11]
                cr, cg, cb = (cr + key[0] * gloss * 0.6, cg + key[1] * gloss * 0.6, cb + key[2] * gloss * 0.6)
            kind = int(m[0])
            if kind >= WALLS:
                cr, cg, cb = cr + m[13] * share, cg + m[14] * share, cb + m[15] * share
            elif m[13] + m[14] + m[15] > 0.0:
                core = _core(m, position, wx, wy, wz)
                if kind == GLASS_TORSO:
                    through = 0.30 * max(0.0, facing)
                    cr, cg, cb = _behind(
                        table, materials, x, y, z, wx, wy, wz, through, key, ambient, cr, cg, cb
                    )
                else:
                    core *= max(0.0, facing) * 0.8
                cr, cg, cb = cr + m[13] * core, cg + m[14] * core, cb + m[15] * core
            if eye > 0.0:  # a steel face's
                cr, cg, cb = cr + 1.6 * m[7], cg + 1.6 * m[8], cb + 1.6 * m[9]
            film[row, col, 0], film[row, col, 1], film[row, col, 2] = cr, cg, cb
    return engine, film
