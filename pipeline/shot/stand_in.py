"""What stands in for a frame that is missing or damaged, where the user asked for the shot to go on.

A picture that cannot be used is the one before it (at the start, the one after it), with all of that frame's
passes, so that they fit each other; and no motion leads to or from it. A pass's frame alone is that pass's
frame before; motion has none there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ShotError
from pipeline.shot.sequence import list_numbers

MISSING = "missing"
Bad = Mapping[str, Mapping[int, str]]  # pass -> frame number -> what is wrong with it, or MISSING


@dataclass(frozen=True)
class Filled:
    """Every pass's file of each frame, which frames are held (from 0), and what to say of it."""

    files: Mapping[str, tuple[Path, ...]]
    held: Mapping[int, int] = field(default_factory=dict)
    without_motion: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def fill(root: Path, numbers: tuple[int, ...], files: Mapping[str, Mapping[int, Path]], bad: Bad) -> Filled:
    """Put usable files in the place of those in `bad`. Raises ShotError where a pass has none at all."""
    for name, reasons in bad.items():
        if not set(files[name]) - set(reasons):
            raise ShotError(
                f"{root}: none of the {len(numbers)} frames of {name} can be used; the first: "
                f"{next(iter(reasons.values()))}"
            )
    pictures = bad.get("rgb", {})
    shown = {number: _nearest(number, numbers, pictures) for number in numbers}
    filled = {}
    for name, frames in files.items():
        reasons = bad.get(name, {})
        filled[name] = tuple(frames[_nearest(shown[number], numbers, reasons)] for number in numbers)
    index = {number: position for position, number in enumerate(numbers)}
    around = {index[number] + step for number in pictures for step in (-1, 0, 1)}
    still = around | {index[number] for number in bad.get("motion", {})}
    return Filled(
        files=filled,
        held={index[number]: index[shown[number]] for number in pictures},
        without_motion=frozenset(still & set(range(len(numbers)))) if "motion" in files else frozenset(),
        notes=tuple(note for name in files if bad.get(name) for note in _notes(name, bad[name], shown)),
    )


def _nearest(number: int, numbers: tuple[int, ...], wrong: Mapping[int, str]) -> int:
    """`number`, or the nearest before it that is not wrong, or the first after it."""
    if number not in wrong:
        return number
    start = numbers.index(number)
    order = (*reversed(numbers[: start + 1]), *numbers[start + 1 :])
    return next(each for each in order if each not in wrong)


def _notes(name: str, reasons: Mapping[int, str], shown: Mapping[int, int]) -> list[str]:
    """One line for all missing frames of a pass, and one for each damaged file."""
    place = {
        "rgb": "the frame before stands in, with its passes and without motion",
        "motion": "taken as without motion",
    }.get(name, "the one before stands in")
    missing = [number for number, reason in reasons.items() if reason == MISSING]
    which = f"frame {missing[0]} is" if len(missing) == 1 else f"frames {list_numbers(missing)} are"
    notes = [f"{name}: {which} missing; {place}"] if missing else []
    for number, reason in reasons.items():
        if reason != MISSING:
            put = (
                f"frame {shown[number]} stands in, with its passes and without motion"
                if name == "rgb"
                else place
            )
            notes.append(f"{name}: frame {number} skipped: {reason}; {put}")
    return notes
