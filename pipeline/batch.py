"""A folder of shots: find them, give each its preset, render what is not done; one failure stops no other.

Done is known by the digest in a shot's own output folder, so a batch that was interrupted is run again
and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PresetError, ShotError, UserError
from pipeline.preset import DEFAULT_PRESET, PICTURES_PRESET, Preset, load_preset
from pipeline.render import Machine, OnFrame, RenderResult, render_shot
from pipeline.shot import VIDEO_SUFFIXES, Shot, open_shot

log = logging.getLogger(__name__)

PICTURES = frozenset({"rgb", "truth"})  # the film truth is never an input


@dataclass(frozen=True)
class Job:
    """One shot to render and the preset it gets: a path, a name of one that ships; None: its default."""

    shot: Path
    preset: str | Path | None

    @property
    def name(self) -> str:
        return self.shot.stem if self.shot.is_file() else self.shot.name


@dataclass(frozen=True)
class JobOutcome:
    """How one job ended: `result` where it was rendered (or found done), else `failure`, one line.

    bad_input: it failed by a UserError, so what it was given has to change.
    """

    job: Job
    result: RenderResult | None
    failure: str = ""
    bad_input: bool = False


def find_jobs(folder: Path, *, preset: str | Path | None = None, skip: Path | None = None) -> list[Job]:
    """Every sub-folder and every video in `folder`, by name, each with its preset.

    Hidden entries and `skip` (the output folder) are left out. Raises ShotError for a missing or empty
    folder.
    """
    if not folder.is_dir():
        raise ShotError(f"{folder}: no such folder; expected a folder whose sub-folders or videos are shots")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    shots = [
        entry
        for entry in entries
        if (entry.is_dir() and not (skip and entry.samefile(skip))) or entry.suffix.lower() in VIDEO_SUFFIXES
    ]
    if not shots:
        raise ShotError(f"{folder}: holds no shot; expected sub-folders or videos (.mp4, .mov ...)")
    return [Job(shot, preset_for(shot, fallback=preset)) for shot in shots]


def preset_for(shot: Path, *, fallback: str | Path | None = None) -> str | Path | None:
    """SHOT/preset.toml (for clip.mp4: clip.toml beside it), else `fallback`; None: `default_preset`."""
    own = shot / "preset.toml" if shot.is_dir() else shot.with_suffix(".toml")
    return own if own.is_file() else fallback


def default_preset(shot: Shot) -> str:
    """The preset that ships for such a shot: with the renderer's passes, or with pictures alone."""
    return DEFAULT_PRESET if shot.passes.keys() - PICTURES else PICTURES_PRESET


def check_presets(jobs: Sequence[Job], *, preset: str | Path | None, overrides: Sequence[str]) -> None:
    """Raise the PresetError that every job would meet: of `preset`, or of overrides that suit none."""
    if preset is not None:
        load_preset(preset)
    errors = []
    for each in dict.fromkeys(job.preset or DEFAULT_PRESET for job in jobs):
        try:
            load_preset(each, overrides=overrides)
            return
        except PresetError as error:
            errors.append(error)
    raise errors[0]


def run_batch(
    jobs: Sequence[Job],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    machine: Machine = Machine(),  # noqa: B008
    offline: bool = False,
    allow_partial: bool = False,
    fill_gaps: bool = False,
    skip_bad: bool = False,
    on_frame: OnFrame | None = None,
) -> Iterator[JobOutcome]:
    """Render the jobs one after another and yield each outcome as it comes.

    `machine`, `offline` and `allow_partial` are for all of them, as `render_shot` has them; `fill_gaps` and
    `skip_bad` as `open_shot` has them.
    """
    taken: dict[str, Path] = {}

    def render(job: Job) -> RenderResult:
        shot, preset = _opened(job, overrides, taken, fill_gaps=fill_gaps, skip_bad=skip_bad)
        return render_shot(
            shot,
            preset,
            out,
            machine=machine,
            offline=offline,
            allow_partial=allow_partial,
            on_frame=on_frame,
        )

    for job in jobs:
        yield _run(job, lambda job=job: render(job))  # type: ignore[misc]


def _run(job: Job, work: Callable[[], RenderResult]) -> JobOutcome:
    try:
        return JobOutcome(job, work())
    except UserError as error:
        return JobOutcome(job, None, str(error), bad_input=True)
    except PermissionError as error:
        said = f"{error.filename or job.shot}: {error.strerror}; check who may read it"
        return JobOutcome(job, None, said, bad_input=True)
    except Exception as error:  # a fault of ours in one shot must not cost the night's other shots
        log.exception("%s: failed", job.name)
        return JobOutcome(job, None, f"{job.shot}: internal error: {error!r}; see the traceback above")


def _opened(
    job: Job, overrides: Sequence[str], taken: dict[str, Path], *, fill_gaps: bool, skip_bad: bool
) -> tuple[Shot, Preset]:
    shot = open_shot(job.shot, fill_gaps=fill_gaps, skip_bad=skip_bad)
    first = taken.setdefault(shot.name, job.shot)
    if first != job.shot:
        raise ShotError(f"{job.shot}: has the same name '{shot.name}' as {first}; rename one of them")
    return shot, load_preset(job.preset or default_preset(shot), overrides=overrides)
