"""Which frames a beat is for, and how it comes and goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from pipeline.errors import PresetError
from pipeline.preset.schema import Preset


def beat_weights(preset: Preset, index: int, frame_numbers: Sequence[int], fps: Fraction) -> list[float]:
    """How much beat `index` counts in each frame: 1 in its range, eased outside it, else 0.

    Raises PresetError for a range that the shot has not.
    """
    beat = preset.beat[index]
    first, last = _range(preset, index, frame_numbers, fps)
    ease = beat.ease if beat.frames is not None else beat.ease * float(fps)
    return [_eased(max(first - t, t - last, 0), ease) for t in range(len(frame_numbers))]


def turning_points(preset: Preset, frame_numbers: Sequence[int], fps: Fraction) -> tuple[int, ...]:
    """Indices of the frames where a beat begins, is reached, is left and is over: what lies between is eased.

    Raises PresetError as `beat_weights` does.
    """
    points = set[int]()
    for index in range(len(preset.beat)):
        weights = beat_weights(preset, index, frame_numbers, fps)
        for t in range(1, len(weights)):
            before, now = weights[t - 1], weights[t]
            if before != now:
                points |= {n for n, weight in ((t - 1, before), (t, now)) if weight in (0.0, 1.0)}
    return tuple(sorted(points))


def _eased(distance: int, ease: float) -> float:
    """Smoothstep from 1 at distance 0 to 0 past `ease` frames."""
    u = 1.0 - distance / (ease + 1.0)
    return 0.0 if u <= 0.0 else u * u * (3.0 - 2.0 * u)


def _range(preset: Preset, index: int, frame_numbers: Sequence[int], fps: Fraction) -> tuple[int, int]:
    """First and last frame index of a beat, both included."""
    beat = preset.beat[index]
    if beat.frames is not None:
        first, last = beat.frames
        if first not in frame_numbers or last not in frame_numbers:
            raise PresetError(
                f"{preset.where('beat', index, 'frames')}: found {list(beat.frames)}; the shot has frames "
                f"{frame_numbers[0]} to {frame_numbers[-1]}"
            )
        return frame_numbers.index(first), frame_numbers.index(last)
    assert beat.seconds is not None  # the schema asks for one of the two
    # As written, not as the nearest binary fraction: 0.1 s at 10 fps is frame 1.
    begin, end = (math.ceil(Fraction(str(second)) * fps) for second in beat.seconds)
    if begin >= end or end > len(frame_numbers):
        raise PresetError(
            f"{preset.where('beat', index, 'seconds')}: found {list(beat.seconds)}; expected at least a "
            f"frame within the shot's {float(len(frame_numbers) / fps):g} seconds"
        )
    return begin, end - 1
