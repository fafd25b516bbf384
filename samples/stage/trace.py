"""Which surface each pixel sees, and where that surface point is in another frame: exact, a ray a sample."""

from __future__ import annotations

import math

import numba
import numpy as np

from samples.stage.geometry import BOX, FAR, ROOM, blocked, intersect, surface

_NEAR = 0.02


@numba.njit(cache=True, fastmath=True)
def _window(row, position, rotation, focal, width, height, oversample):  # type: ignore[no-untyped-def]
    """First and last column, first and last row of the samples that may see a row; (1, 0, 1, 0) = none."""
    cx, cy = (width - 1) / 2.0, (height - 1) / 2.0
    px, py, pz = row[20] - position[0], row[21] - position[1], row[22] - position[2]
    x = rotation[0, 0] * px + rotation[0, 1] * py + rotation[0, 2] * pz
    y = rotation[1, 0] * px + rotation[1, 1] * py + rotation[1, 2] * pz
    z = rotation[2, 0] * px + rotation[2, 1] * py + rotation[2, 2] * pz
    r = row[17]
    left, right, top, bottom = 0, width * oversample - 1, 0, height * oversample - 1
    if z + r < _NEAR:
        return 1, 0, 1, 0
    if z - r > _NEAR:
        near, far = z - r, z + r
        u0 = cx + focal * min((x - r) / near, (x - r) / far)
        u1 = cx + focal * max((x + r) / near, (x + r) / far)
        v0 = cy - focal * max((y + r) / near, (y + r) / far)
        v1 = cy - focal * min((y - r) / near, (y - r) / far)
        left = max(left, math.floor((u0 - 0.5) * oversample))
        right = min(right, math.ceil((u1 + 1.5) * oversample))
        top = max(top, math.floor((v0 - 0.5) * oversample))
        bottom = min(bottom, math.ceil((v1 + 1.5) * oversample))
    return left, right, top, bottom


@numba.njit(cache=True, fastmath=True)
def see(table, position, rotation, focal, width, height, oversample):  # type: ignore[no-untyped-def]
    """Nearest primitive [H*S, W*S] int32 (-1 none) and its depth along the view axis, metres [H*S, W*S].

    `table` [K, WIDTH] is samples/stage/geometry.py's, `position` [3] and `rotation` [3, 3] the camera's. Rays
    have unit length along the view axis, so the ray parameter is the depth; FAR where nothing is hit.
    """
    rows, cols = height * oversample, width * oversample
    hit = np.full((rows, cols), -1, np.int32)
    depth = np.full((rows, cols), FAR)
    cx, cy = (width - 1) / 2.0, (height - 1) / 2.0
    for k in range(table.shape[0]):
        left, right, top, bottom = _window(table[k], position, rotation, focal, width, height, oversample)
        for row in range(top, bottom + 1):
            dy = -((row + 0.5) / oversample - 0.5 - cy) / focal
            for col in range(left, right + 1):
                dx = ((col + 0.5) / oversample - 0.5 - cx) / focal
                wx = rotation[0, 0] * dx + rotation[1, 0] * dy + rotation[2, 0]
                wy = rotation[0, 1] * dx + rotation[1, 1] * dy + rotation[2, 1]
                wz = rotation[0, 2] * dx + rotation[1, 2] * dy + rotation[2, 2]
                t = intersect(table[k], position[0], position[1], position[2], wx, wy, wz)
                if t > _NEAR and t < depth[row, col]:
                    depth[row, col] = t
                    hit[row, col] = k
    return hit, depth


@numba.njit(cache=True, fastmath=True)
def carry(  # type: ignore[no-untyped-def]
    hit, depth, table, position, rotation, focal, table2, groups2, position2, rotation2, focal2
):  # fmt: skip
    """Motion [H, W, 2] float32, pixels, of every seen point into another frame; [H, W] uint8, 1 = seen there.

    The first six arguments are this frame's, the rest the other's. A point keeps its place in its primitive's
    axes; it is seen there when it lies inside the frame, faces the camera and nothing stands before it.
    """
    height, width = hit.shape
    flow = np.full((height, width, 2), np.nan, np.float32)
    seen = np.zeros((height, width), np.uint8)
    cx, cy = (width - 1) / 2.0, (height - 1) / 2.0
    for row in range(height):
        for col in range(width):
            k = hit[row, col]
            if k < 0:
                continue
            dx, dy, t = (col - cx) / focal, -(row - cy) / focal, depth[row, col]
            x = position[0] + t * (rotation[0, 0] * dx + rotation[1, 0] * dy + rotation[2, 0]) - table[k, 1]
            y = position[1] + t * (rotation[0, 1] * dx + rotation[1, 1] * dy + rotation[2, 1]) - table[k, 2]
            z = position[2] + t * (rotation[0, 2] * dx + rotation[1, 2] * dy + rotation[2, 2]) - table[k, 3]
            lx = table[k, 4] * x + table[k, 5] * y + table[k, 6] * z
            ly = table[k, 7] * x + table[k, 8] * y + table[k, 9] * z
            lz = table[k, 10] * x + table[k, 11] * y + table[k, 12] * z
            x = table2[k, 1] + table2[k, 4] * lx + table2[k, 7] * ly + table2[k, 10] * lz - position2[0]
            y = table2[k, 2] + table2[k, 5] * lx + table2[k, 8] * ly + table2[k, 11] * lz - position2[1]
            z = table2[k, 3] + table2[k, 6] * lx + table2[k, 9] * ly + table2[k, 12] * lz - position2[2]
            u = rotation2[0, 0] * x + rotation2[0, 1] * y + rotation2[0, 2] * z
            v = rotation2[1, 0] * x + rotation2[1, 1] * y + rotation2[1, 2] * z
            w = rotation2[2, 0] * x + rotation2[2, 1] * y + rotation2[2, 2] * z
            if w <= _NEAR:
                continue
            to_x, to_y = cx + focal2 * u / w, cy - focal2 * v / w
            flow[row, col, 0] = to_x - col
            flow[row, col, 1] = to_y - row
            if to_x < -0.5 or to_y < -0.5 or to_x > width - 0.5 or to_y > height - 0.5:
                continue
            length = math.sqrt(x * x + y * y + z * z)
            x, y, z = x / length, y / length, z / length
            reach = length - 1e-4
            kind = int(table2[k, 0])
            if kind in (ROOM, BOX):
                reach = length - 1e-3
            if not blocked(table2, groups2, position2[0], position2[1], position2[2], x, y, z, reach):
                seen[row, col] = 1
    return flow, seen


@numba.njit(cache=True, fastmath=True)
def normals_at(table, hit, world):  # type: ignore[no-untyped-def]
    """World normals [H, W, 3] float64 of the seen points `world` [H, W, 3]."""
    height, width = hit.shape
    out = np.zeros((height, width, 3))
    for row in range(height):
        for col in range(width):
            k = hit[row, col]
            if k >= 0:
                _x, _y, _z, nx, ny, nz = surface(
                    table[k], world[row, col, 0], world[row, col, 1], world[row, col, 2]
                )
                out[row, col, 0], out[row, col, 1], out[row, col, 2] = nx, ny, nz
    return out
