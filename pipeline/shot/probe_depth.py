"""Find out how a shot's depth pass was written: linear, device depth (reversed or not), and near and far.

A plane's inverse distance is affine in the picture. So device depth, which is affine in the inverse, is
affine on walls and floors as it is stored, and linear depth is after 1 / v. Of three stored values at even
steps on a plane, v- v0 v+, with S = v- + v+ and P = v- v+, "linear from near to far", 1 / (v + c), solves

    c = (2 P - S v0) / (2 v0 - S),    c = 0 for linear from the lens, c = infinity for device depth

Which end is near, scale and planes are not in such values: the first is told by where the values crowd (a
camera's near plane is much nearer than what it looks at), the others by joints in space, or by the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ShotError
from pipeline.shot.encoding import FARTHEST, DepthEncoding
from pipeline.shot.read import read_file, read_joints
from pipeline.shot.values import Shot

MOST_FRAMES = 12
LONGEST_SIDE = 512  # pixels that walls are looked for at
STEP_SHARE = 32  # three values span a sixteenth of the picture: less is rounding, more leaves the wall
EXACT = 5e-5  # of the slope: what a plane may bend
HALF_ROUNDING, FLOAT_ROUNDING = 2.0**-11, 2.0**-24
STEEPEST = 0.2  # of the value, from one of the three to the next; beyond lies an edge
LEAST_TRIPLES = 300
LEAST_PLANAR = 0.02  # of the triples that can tell
CLEAR = 3.0  # times the rival's planar triples
LOGS_OF_C = (-5.0, -0.5)  # log10 of near / (far - near); beyond, unit depth looks like device depth
BIN = 0.02
BETTER = 1.15  # times the planar triples of plain linear depth that speak for a near end
CROWDED = (0.35, 0.65)  # medians of device depth between these say nothing of which end is near
LEAST_JOINTS = 24
ROUND_SCALES = (
    1.0,
    0.1,
    0.01,
    0.001,
    0.0254,
    0.3048,
    10.0,
    100.0,
    1000.0,
)  # metres, dm, cm, mm, inch, foot ...
NEAR_ROUND = 0.2  # joints lie inside the body, so a scale is known to about this
SEEN = 2

Values = NDArray[np.float64]


@dataclass(frozen=True)
class DepthFinding:
    """The verdict on a depth pass; `encoding` is None where it cannot tell, `reason` is one line for a user.

    `shares`: kind -> the share of triples of pixels that lie on a plane if it is right.
    """

    encoding: DepthEncoding | None
    reason: str
    shares: dict[str, float]


def probe_depth(shot: Shot, *, near: float | None = None, far: float | None = None) -> DepthFinding:
    """Tell kind, scale and planes of the shot's depth pass; `near`, `far` in metres where known.

    Reads a dozen frames; memory is those, at most 512 pixels a side. Raises ShotError where the shot has no
    depth pass or a file is unreadable.
    """
    if "depth" not in shot.passes:
        raise ShotError(f"{shot.root}: no depth pass (it has {', '.join(shot.passes)}); export it to depth/")
    chosen = np.unique(np.linspace(0, shot.num_frames - 1, MOST_FRAMES).astype(int)).tolist()
    every = -(-max(shot.width, shot.height) // LONGEST_SIDE)  # what is affine stays so at every other pixel
    frames, measured = [], [np.empty((0, 2))]
    for t in chosen:
        frame = read_file(shot, "depth", shot.passes["depth"].files[t])
        frames.append(frame[::every, ::every].astype(np.float64))
        measured.append(_joint_depths(shot, t, frame))
    points = np.concatenate(measured)
    hits = np.concatenate([frame[_hit(frame)] for frame in frames])
    if len(hits) == 0:
        return DepthFinding(None, "nothing is hit in the sampled frames: it cannot be told", {})
    if hits.max() > 1.0:
        return _linear(points, "values above 1 are no device depth", {})
    if hits.min() < 0.0:
        return DepthFinding(None, "values below 0 are neither distance nor device depth", {})
    shares, c = _planar_shares(frames)
    return _verdict(shares, c, hits, points, (near, far))


def _hit(frame: Values) -> NDArray[np.bool_]:
    """Where something was hit: not at 0 or 1 exactly (the clear values), and nearer than 1e9."""
    hit: NDArray[np.bool_] = (frame != 0.0) & (frame != 1.0) & (np.abs(frame) < FARTHEST)
    return hit


def _planar_shares(frames: Sequence[Values]) -> tuple[dict[str, float], float]:
    """The share of telling triples that are planar as device, linear and unit depth, and the unit's c."""
    low, middle, high = (np.concatenate(part) for part in zip(*map(_triples, frames), strict=True))
    if len(middle) < LEAST_TRIPLES:
        return {}, 0.0
    both, product = low + high, low * high
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10((2 * product - both * middle) / (2 * middle - both))
    logs = logs[np.isfinite(logs) & (logs > LOGS_OF_C[0]) & (logs < LOGS_OF_C[1])]
    c = 0.0
    if len(logs):
        counts, edges = np.histogram(logs, bins=np.arange(LOGS_OF_C[0], LOGS_OF_C[1] + BIN, BIN))
        top = int(counts.argmax())
        c = float(10 ** np.median(logs[(logs >= edges[top]) & (logs <= edges[top + 1])]))
    rounding = (
        HALF_ROUNDING if all((f == f.astype(np.float16)).all() for f in (low, high)) else FLOAT_ROUNDING
    )
    shares = {"device": _planar(low, middle, high, rounding * middle)}
    for kind, offset in (("linear", 0.0), ("unit", c)):
        inverse = 1.0 / (np.stack([low, middle, high]) + offset)
        shares[kind] = _planar(inverse[0], inverse[1], inverse[2], rounding * middle * inverse[1] ** 2)
    return shares, c


def _triples(frame: Values) -> tuple[Values, Values, Values]:
    """Values at even steps across and down, where device and linear depth can be told apart."""
    step = max(2, max(frame.shape) // STEP_SHARE)
    rounding = HALF_ROUNDING if (frame == frame.astype(np.float16)).all() else FLOAT_ROUNDING
    found = []
    for plane in (frame, frame.T):
        low, middle, high = plane[: -2 * step], plane[step:-step], plane[2 * step :]
        known = _hit(low) & _hit(middle) & _hit(high)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.abs(high - low) / (2 * np.abs(middle))
            bend = 2 * slope**2  # by which the two readings of a plane differ, of the value
            telling = known & (slope < STEEPEST) & (bend > 4 * (4 * rounding + 2 * EXACT * slope))
        found.append([each[telling] for each in (low, middle, high)])
    across, down = found
    return tuple(np.concatenate(pair) for pair in zip(across, down, strict=True))  # type: ignore[return-value]


def _planar(low: Values, middle: Values, high: Values, rounding: Values) -> float:
    bent = np.abs(low - 2 * middle + high)
    return float((bent <= 4 * rounding + EXACT * np.abs(high - low)).mean())


def _verdict(
    shares: dict[str, float],
    c: float,
    hits: Values,
    points: Values,
    planes: tuple[float | None, float | None],
) -> DepthFinding:
    """The kind by its planes, then what joints or the user say of scale, near and far."""
    straight = max(shares.get("linear", 0.0), shares.get("unit", 0.0))
    device = shares.get("device", 0.0)
    if max(straight, device) < LEAST_PLANAR or not max(straight, device) > CLEAR * min(straight, device):
        said = ", ".join(f"{kind} {100 * share:.1f} %" for kind, share in shares.items()) or "too few pixels"
        return DepthFinding(
            None,
            f"no kind has clearly more planes ({said}): it cannot be told; 16-bit floats are too coarse",
            shares,
        )
    if device > straight:
        return _device(hits, points, planes, shares)
    if shares["unit"] > BETTER * shares["linear"]:
        return _unit(c, points, planes, shares)
    return _linear_below_one(points, planes, shares)


def _linear(points: Values, why: str, shares: dict[str, float]) -> DepthFinding:
    scale, said = 1.0, "metres assumed: no joints in space to measure by"
    if len(points) >= LEAST_JOINTS:
        scale, said = (
            _rounded(float(np.median(points[:, 1] / points[:, 0]))),
            f"by {len(points)} joints in space",
        )
    return DepthFinding(DepthEncoding("linear", scale), f"linear, scale {scale:g} ({said}); {why}", shares)


def _linear_below_one(
    points: Values, planes: tuple[float | None, float | None], shares: dict[str, float]
) -> DepthFinding:
    """Linear depth that never reaches 1: another unit of length if joints say so, else shares of far."""
    near, far = planes
    if far is not None:
        encoding = DepthEncoding("unit", 1.0, near or 0.0, far)
        return DepthFinding(encoding, f"linear from near {encoding.near:.4g} m to far {far:.4g} m", shares)
    found = _linear(points, "walls are planes as 1 / v", shares)
    assert found.encoding is not None
    if len(points) < LEAST_JOINTS or found.encoding.scale not in ROUND_SCALES:
        return _without_planes("linear up to a far plane", "joints in space measure no round unit", shares)
    return found


def _rounded(scale: float) -> float:
    """A unit of length that is near, else the measured scale."""
    nearest = min(ROUND_SCALES, key=lambda each: abs(np.log(each / scale)))
    return nearest if abs(nearest / scale - 1.0) < NEAR_ROUND else scale


def _unit(
    c: float, points: Values, planes: tuple[float | None, float | None], shares: dict[str, float]
) -> DepthFinding:
    near, far = planes
    if near is None and far is None and len(points) >= LEAST_JOINTS:
        span = float(np.median(points[:, 1] / (points[:, 0] + c)))
        near, far = c * span, (1.0 + c) * span
    elif far is not None:
        near = far * c / (1.0 + c) if near is None else near
    elif near is not None:
        far = near * (1.0 + c) / c
    if near is None or far is None:
        return _without_planes("linear from near to far", f"near is {c / (1 + c):.4g} of far", shares)
    return DepthFinding(
        DepthEncoding("unit", 1.0, near, far), f"linear from near {near:.4g} m to far {far:.4g} m", shares
    )


def _device(
    hits: Values, points: Values, planes: tuple[float | None, float | None], shares: dict[str, float]
) -> DepthFinding:
    """Which end is near by where the values crowd; near and far by the user, else by joints."""
    middle = float(np.median(hits))
    if CROWDED[0] <= middle <= CROWDED[1]:
        return DepthFinding(
            None, f"device depth with a median of {middle:.2f}: which end is near is not clear", shares
        )
    kind = "normalised" if middle > 0.5 else "reversed"
    near, far = planes
    if near is None and len(points) >= LEAST_JOINTS:
        near, far = _planes_of(points, kind == "reversed")
    if near is None:
        return _without_planes(f"device depth, {kind}", "which pictures do not show", shares)
    far = np.inf if far is None else far
    if not 0 < near < far:
        return DepthFinding(
            None, f"{kind}, but near {near:.4g} and far {far:.4g} m do not fit together", shares
        )
    encoding = DepthEncoding("reversed" if kind == "reversed" else "normalised", 1.0, near, far)
    return DepthFinding(encoding, f"device depth, {kind}, near {near:.4g} m, far {far:.4g} m", shares)


def _planes_of(points: Values, is_reversed: bool) -> tuple[float, float]:
    """Near and far from joints: 1 / z is a line in v, fitted to the middle of ten groups by value."""
    order = points[np.argsort(points[:, 0])]
    groups = [group for group in np.array_split(order, 10) if len(group)]
    v, inverse = np.array([(np.median(group[:, 0]), np.median(1.0 / group[:, 1])) for group in groups]).T
    slope, start = np.polyfit(v, inverse, 1)
    ends = (start + slope, start) if is_reversed else (start, start + slope)  # 1 / near, 1 / far
    near = 1.0 / ends[0] if ends[0] > 0 else np.nan
    return float(near), float(1.0 / ends[1]) if ends[1] > 1e-3 * ends[0] else float(np.inf)


def _without_planes(what: str, why: str, shares: dict[str, float]) -> DepthFinding:
    return DepthFinding(
        None, f"{what}; near and far cannot be told ({why}): give the camera's with --near and --far", shares
    )


def _joint_depths(shot: Shot, t: int, frame: NDArray[np.float32]) -> Values:
    """[N, 2]: the stored depth at frame t's seen joints and their distance along the view axis in metres.

    The camera of joints.json: `position`, and `rotation` with rows right, up, forward in the world.
    """
    rows = [np.empty((0, 2))]
    joints = read_joints(shot, t, t + 1)[0] if "joints" in shot.passes else None
    camera = None if joints is None else _camera(joints.camera)
    if joints is None or camera is None:
        return rows[0]
    position, rotation = camera
    for figure in joints.figures:
        if figure.world is None:
            continue
        x, y = np.rint(figure.points[:, :2]).astype(int).T
        inside = (figure.points[:, 2] == SEEN) & (x >= 0) & (x < shot.width) & (y >= 0) & (y < shot.height)
        stored = frame[y[inside], x[inside]].astype(np.float64)
        away = (figure.world[inside].astype(float) - position) @ rotation[2]
        rows.append(np.stack([stored, away], axis=1)[_hit(stored) & (away > 0)])
    return np.concatenate(rows)


def _camera(record: Mapping[str, Any]) -> tuple[Values, Values] | None:
    """Position [3] and rotation [3, 3] of a camera record; None where it has none that can be read."""
    try:
        position, rotation = (np.array(record[key], np.float64) for key in ("position", "rotation"))
    except (KeyError, TypeError, ValueError):
        return None
    return (position, rotation) if position.shape == (3,) and rotation.shape == (3, 3) else None
