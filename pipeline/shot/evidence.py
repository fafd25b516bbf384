"""Which reading of a stored vector is believed: by the pictures, and by joints where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.shot.encoding import VectorEncoding
from pipeline.shot.hypotheses import (
    EXPLAINED,
    MARGIN,
    MARGIN_STILL,
    SIGMAS,
    Sample,
    Scored,
    compare,
    factor_of,
    readings,
    same,
)
from pipeline.shot.probe_joints import ONE_FRAME, JointSteps, compare_joints, length_ratio

ANOTHER_LENGTH = 0.12  # a fitted factor nearer to 1 is the convention itself: fits are up to 11 % short


@dataclass(frozen=True)
class Evidence:
    """What the readings of one stored vector are judged by: pictures, and joints where there are any."""

    samples: tuple[Sample, ...]
    channels: tuple[str, str]
    joints: JointSteps | None

    def clear(self, best: Scored, other: Scored, margin: float) -> bool:
        """Whether `best` is clearly better, by pictures or by joints, and by neither clearly worse."""
        assert best.reading is not None
        found = [compare(self.samples, best, other, self.channels)]
        if self.joints is not None:
            found.append(compare_joints(self.joints, best.reading, other.reading, self.channels))
        better = any(ratio > margin and sigmas > SIGMAS for ratio, sigmas in found)
        worse = self.joints is not None and found[-1][0] < 1 / margin and found[-1][1] < -SIGMAS
        return better and not worse

    def over_one_frame(self, reading: VectorEncoding) -> bool | None:
        """Whether the joints go as far as the vectors; None where there are none, or they go elsewhere."""
        if self.joints is None:
            return None
        ratio = length_ratio(self.joints, reading, self.channels)
        return None if ratio is None else ONE_FRAME[0] <= ratio <= ONE_FRAME[1]


def accept(evidence: Evidence, scored: list[Scored]) -> VectorEncoding | None:
    """The best reading, if it is clearly better than every one that gives another flow; else None.

    Among readings that give the same flow, the one that stands first in the tables is taken.
    """
    samples, pair = evidence.samples, evidence.channels
    best = _candidate(samples, scored, pair)
    if best is None or best.reading is None:
        return None
    twins = [best.reading]
    for other in scored:
        if other is best:
            continue
        if same(samples, best.reading, other.reading, pair):
            twins += [other.reading] if other.reading is not None else []
            continue
        is_still = same(samples, None, other.reading, pair)  # as UV read as pixels is, nearly
        if is_still:
            ratio, _ = compare(samples, best, other, pair)
            if ratio > MARGIN_STILL or (evidence.joints and evidence.clear(best, other, MARGIN)):
                continue
            return None
        if not evidence.clear(best, other, MARGIN):
            return None
    order = readings(pair, encoded=best.reading.offset != 0.0)
    return min(twins, key=lambda twin: order.index(twin) if twin in order else len(order))


def _candidate(samples: Sequence[Sample], scored: list[Scored], pair: tuple[str, str]) -> Scored | None:
    """The best reading in which something moves.

    "Nothing moves" may have the least error over all pixels, where light stays while surfaces turn; whether
    it is better where the two differ is for `compare` to say.
    """
    return next((each for each in scored if not same(samples, None, each.reading, pair)), None)


def with_its_length(
    evidence: Evidence, scored: list[Scored], free: list[Scored], winner: VectorEncoding | None
) -> tuple[VectorEncoding | None, str]:
    """The reading with the length that is believed, or None and why.

    Light that lags behind a turning surface looks like vectors that are too long, a shutter's vectors are
    too short, and both together like a convention. So a convention is taken where joints go as far, or where
    it explains the pictures well and no other length does better; a measured length where it explains them
    well and joints do not deny it.
    """
    samples, pair = evidence.samples, evidence.channels
    named, fitted = (_candidate(samples, each, pair) for each in (scored, free))
    if named is None or fitted is None or named.reading is None or fitted.reading is None:
        return winner, ""
    by_joints = evidence.over_one_frame(winner or named.reading)
    if by_joints:
        return winner, ""
    still = next(each for each in free if each.reading is None)
    ratio, sigmas = compare(samples, fitted, named, pair)
    factor = factor_of(fitted.reading)
    is_other = ratio > MARGIN and sigmas > SIGMAS and abs(factor - 1.0) > ANOTHER_LENGTH
    if (
        is_other
        and _explains(evidence, fitted, still)
        and evidence.over_one_frame(fitted.reading) is not False
    ):
        return accept(evidence, free), ""
    if winner is None:
        return None, ""
    if by_joints is None and not is_other and _explains(evidence, named, still):
        return winner, ""
    other = f"vectors {factor:.2f} times as long fit better than" if is_other else "others fit as well as"
    by_joints_too = ", and joints do not go as far as the vectors" if by_joints is False else ""
    return None, (
        f"{other} those over one frame{by_joints_too}: vectors over a shutter interval, or light that "
        "lags: it cannot be told; if the renderer's are from frame to frame, say --one-frame"
    )


def _explains(evidence: Evidence, reading: Scored, still: Scored) -> bool:
    """Whether a reading makes so much of the pictures fit that its length is believed."""
    ratio, sigmas = compare(evidence.samples, reading, still, evidence.channels)
    return ratio > EXPLAINED and sigmas > SIGMAS
