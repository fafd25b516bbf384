"""Find out how a shot's motion pass was written, from the shot's own pictures; never from its label."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ShotError
from pipeline.image import Float32Array, UInt8Array
from pipeline.shot.arrow import ODDS, Arrow, time_arrow
from pipeline.shot.encoding import MotionEncoding, VectorEncoding, decode, named_encodings
from pipeline.shot.evidence import Evidence, accept, with_its_length
from pipeline.shot.exr import channel_names
from pipeline.shot.fetch import fetch
from pipeline.shot.hypotheses import (
    FEWEST_PIXELS,
    MARGIN,
    Scored,
    factor_of,
    fit_factor,
    make_sample,
    readings,
    score,
)
from pipeline.shot.probe_frames import (
    frames_that_move,
    moments,
    motion_source,
    read_around,
    read_vectors,
    vector_pairs,
)
from pipeline.shot.probe_joints import joint_arrow, joint_steps
from pipeline.shot.read import read_frames
from pipeline.shot.values import PassSource, Shot

LONGEST_SIDE = 512  # pixels that the readings are scored at
ALIKE = 0.1  # relative; a fitted factor is known to a few percent
NEAR_NAMED = 1.05  # a fitted factor nearer to 1 than this is the convention itself


@dataclass(frozen=True)
class VectorFinding:
    """What the probe says of one stored vector: its readings, best first, the time arrow, and the verdict.

    `reading` (as a vector to t-1) is None where it cannot tell, and then `reason` says why.
    """

    channels: tuple[str, str]
    scored: tuple[Scored, ...]
    arrow: Arrow | None
    reading: VectorEncoding | None
    reason: str


@dataclass(frozen=True)
class MotionFinding:
    """The verdict on a motion pass. `encoding` is None where it cannot tell; `reason` is one line for a user.

    `frame` is the frame (from 0) that shows the verdict best.
    """

    encoding: MotionEncoding | None
    reason: str
    vectors: tuple[VectorFinding, ...]
    frame: int


def probe_motion(shot: Shot, *, one_frame: bool = False) -> MotionFinding:
    """Score every reading of the shot's motion pass. Reads a few dozen frames; memory is a few frames.

    `one_frame`: vectors are known to lead from frame to frame, as Unity's, Blender's and Unreal's do; else
    their length has to be seen too.

    Raises ShotError where the shot has no motion pass or a file is unreadable.
    """
    source = motion_source(shot)
    pairs = vector_pairs(channel_names(source.files[0], shot.view))
    if not pairs:
        names = ", ".join(channel_names(source.files[0], shot.view))
        raise ShotError(
            f"{source.files[0]}: holds the channels {names}; expected vectors as R G, X Y or X Y Z W; "
            "export the motion pass"
        )
    if shot.num_frames < 3:
        return MotionFinding(None, f"{shot.num_frames} frames cannot tell; at least 3 are needed", (), 0)
    chosen = frames_that_move(shot, source, pairs)
    findings = tuple(_probe_vector(shot, source, pair, chosen, one_frame=one_frame) for pair in pairs)
    told = [each for each in findings if each.reading is not None]
    if not told:
        return MotionFinding(None, findings[0].reason, findings, chosen[0])
    encoding, reason = _combine(told, pairs)
    return MotionFinding(encoding, reason, findings, chosen[0])


def _probe_vector(
    shot: Shot, source: PassSource, pair: tuple[str, str], chosen: list[int], *, one_frame: bool
) -> VectorFinding:
    reduction = max(1, -(-max(shot.width, shot.height) // LONGEST_SIDE))
    around = [read_around(shot, source, t, pair, reduction) for t in chosen]
    encoded = all(_looks_encoded(stored) for _, stored in around)
    named = readings(pair, encoded=encoded)
    size = (shot.width, shot.height)
    samples = [make_sample(*each, size=size, reduction=reduction, encoded=encoded) for each in around]
    samples = [sample for sample in samples if len(sample.points) >= FEWEST_PIXELS]
    if not samples:
        return VectorFinding(pair, (), None, None, "nothing moves in the sampled frames: it cannot be told")
    evidence = Evidence(tuple(samples), pair, joint_steps(shot, source, pair))
    scored = score(samples, named, pair)
    winner = accept(evidence, scored)
    why = ""
    if not one_frame:
        free = score(samples, fit_factor(samples, pair, named if winner is None else [winner]), pair)
        winner, why = with_its_length(evidence, scored, free, winner)
    if winner is None:
        return VectorFinding(pair, tuple(scored), None, None, why or _why_not(scored))
    if factor_of(winner) != 1.0:
        scored = free
    arrow = time_arrow(moments(shot, source, pair, winner))
    if evidence.joints is not None:
        arrow = _agreed(arrow, joint_arrow(evidence.joints, winner, pair))
    return VectorFinding(pair, tuple(scored), arrow, winner, "")


def _looks_encoded(stored: Float32Array) -> bool:
    """Whether numbers sit in [0, 1] round a half, as unsigned encodings do."""
    drawn = stored[(stored != 0.0).any(axis=2)]
    if len(drawn) == 0 or not np.isfinite(drawn).all():
        return False
    return bool(drawn.min() >= 0.0 and drawn.max() <= 1.0 and 0.25 < np.median(drawn) < 0.75)


def _why_not(scored: list[Scored]) -> str:
    best = scored[0]
    if best.reading is None:
        return "no reading explains the pictures better than no motion: it cannot be told"
    return (
        f"several readings come too close (best error {best.error:.2e}, next {scored[1].error:.2e}; "
        f"asked for is {MARGIN:g}x where they differ): it cannot be told"
    )


def _agreed(pictures: Arrow, joints: Arrow) -> Arrow:
    """The surer of two time arrows; one that says nothing where both are sure of opposite directions."""
    if None not in (pictures.direction, joints.direction) and pictures.direction != joints.direction:
        return replace(pictures, slope=0.0)
    return max(pictures, joints, key=lambda arrow: abs(arrow.log_odds))


def _combine(
    told: list[VectorFinding], pairs: tuple[tuple[str, str], ...]
) -> tuple[MotionEncoding | None, str]:
    """One encoding from the readings of one or two vectors: their time directions have to fit together."""
    first, second = told[0], told[1] if len(told) > 1 else None
    assert first.arrow is not None
    odds, even = first.arrow.log_odds, first.arrow.even
    if second is not None:
        assert second.arrow is not None
        if first.arrow.direction == second.arrow.direction is not None:
            return None, "both vectors point the same way in time: it cannot be told which to believe"
        odds, even = odds - second.arrow.log_odds, even and second.arrow.even
        if not _alike(first, second):
            return None, "the two vectors of the file read with different units or factors: it cannot be told"
    direction = _direction(odds)
    note = ""
    if direction is None:
        if not even:
            slope, error = first.arrow.slope, first.arrow.error
            return None, (
                f"the time direction is not clear (slope {slope:+.2f} +- {error:.2f}, in coarser detail "
                f"{first.arrow.coarser:+.2f}, expected +1 or -1): "
                "it cannot be told; a longer piece of the shot may"
            )
        direction = _conventional(first, pairs)
        note = "; speeds are even, so to t-1 and to t+1 agree to 0.05 px and the convention was taken"
    assert first.reading is not None
    factor = factor_of(first.reading)
    if factor != 1.0:
        note += (
            f"; {factor:.3g} times as long as over one frame, by the pictures, which on grey renders may "
            "be a tenth short: write the renderer's own number over it where you know it"
        )
    vectors = {direction: _pointed(first, direction)}
    if second is not None:
        opposite = "forward" if direction == "backward" else "backward"
        vectors[opposite] = _pointed(second, opposite)
    found = MotionEncoding("custom", **vectors)
    used = tuple(each.channels for each in told)
    for named in named_encodings(used):
        if _matches(found, named):
            found = named
            break
    return found, f"{found.name}, {' and '.join(sorted(vectors))}{note}"


def _alike(first: VectorFinding, second: VectorFinding) -> bool:
    """Whether two vectors of one file are in one unit at one size, as every renderer writes them."""
    one, other = first.reading, second.reading
    assert one is not None and other is not None
    sizes = np.abs([one.scale, other.scale])
    return one.unit == other.unit and bool(np.allclose(sizes[0], sizes[1], rtol=ALIKE))


def _direction(odds: float) -> str | None:
    """The time direction for log odds of "to t-1" over "to t+1", None where they are not clear."""
    return None if abs(odds) < ODDS else "backward" if odds > 0 else "forward"


def _conventional(first: VectorFinding, pairs: tuple[tuple[str, str], ...]) -> str:
    """The direction of the first named encoding that has this reading of the first vector."""
    for named in named_encodings(pairs):
        for direction in ("backward", "forward"):
            vector = getattr(named, direction)
            if vector is not None and _close(vector, _pointed(first, direction)):
                return direction
    return "backward"


def _pointed(finding: VectorFinding, direction: str) -> VectorEncoding:
    """The finding's reading, which is of a vector to t-1, for the direction it has."""
    assert finding.reading is not None
    reading = finding.reading
    if direction == "backward":
        return reading
    return replace(reading, scale=(-reading.scale[0], -reading.scale[1]))


def _matches(found: MotionEncoding, named: MotionEncoding) -> bool:
    return all(
        (one is None) == (other is None) and (one is None or other is None or _close(one, other))
        for one, other in ((found.forward, named.forward), (found.backward, named.backward))
    )


def _close(one: VectorEncoding, other: VectorEncoding) -> bool:
    near = np.allclose(one.scale, other.scale, rtol=NEAR_NAMED - 1.0)
    return one.channels == other.channels and one.unit == other.unit and one.offset == other.offset and near


def probe_picture(shot: Shot, encoding: MotionEncoding, frame: int) -> UInt8Array:
    """Frame, its warped neighbour, and their difference (times 4, grey = none), uint8 RGB [H, 3 W, 3]."""
    direction = "backward" if encoding.backward is not None else "forward"
    vector = encoding.backward or encoding.forward
    assert vector is not None
    other = frame - 1 if direction == "backward" else frame + 1
    flow = decode(read_vectors(shot, motion_source(shot), frame, vector.channels), vector)
    now = read_frames(shot, frame, frame + 1)[0].astype(np.float32)
    neighbour = read_frames(shot, other, other + 1)[0].astype(np.float32)
    warped, seen = fetch(neighbour, np.nan_to_num(flow, nan=0.0, posinf=0.0, neginf=0.0))
    known: NDArray[np.bool_] = seen & np.isfinite(flow).all(axis=2)
    difference = np.where(known[..., None], 128.0 + 4.0 * (warped - now), 128.0)
    sheet = np.concatenate([now, np.where(known[..., None], warped, 0.0), difference], axis=1)
    rounded: UInt8Array = np.clip(np.rint(sheet), 0, 255).astype(np.uint8)
    return rounded
