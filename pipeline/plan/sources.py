"""The files that a plan was made from, and whether they are still what they were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ShotError
from pipeline.files import stamp
from pipeline.plan.digest import input_files
from pipeline.plan.values import Plan
from pipeline.shot import Shot

Stamps = Mapping[Path, tuple[str | int, ...]]


def source_stamps(shot: Shot, plan: Plan) -> Stamps:
    """Each file of the shot that decides the result, with its size and time of change. Raises ShotError."""
    sound = [] if shot.audio is None else [shot.audio]
    return {file: _stamped(file, shot.root) for file in dict.fromkeys([*input_files(shot, plan), *sound])}


def check_sources(shot: Shot, plan: Plan, before: Stamps) -> None:
    """Raise ShotError, which names the first file, where one changed since `before`.

    The frames made meanwhile stay on disk under the old files' digests, so the next run makes again those,
    and only those, that depend on what changed.
    """
    now = source_stamps(shot, plan)
    changed = [file for file, was in before.items() if now.get(file) != was]
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ShotError(
            f"{changed[0]}{others}: changed while the shot was rendered; expected one version from start to "
            "end: run the same command again, which makes again what depends on it"
        )


def _stamped(file: Path, root: Path) -> tuple[str | int, ...]:
    try:
        return tuple(stamp(file, root))
    except OSError as error:
        raise ShotError(
            f"{file}: went away while the shot was read ({error.strerror}); put it back and run again"
        ) from None
