"""Which shots a folder holds, which preset each gets, and what every shot of a batch shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PresetError, ShotError
from pipeline.plan import Plan, make_plan
from pipeline.preset import DEFAULT_PRESET, PICTURES_PRESET, Preset, load_preset
from pipeline.render import Machine, RenderResult
from pipeline.shot import VIDEO_SUFFIXES, Shot, open_shot

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
class Settings:
    """What all shots of a batch share: where results go, and how shots are opened and rendered."""

    out: Path
    overrides: tuple[str, ...] = ()
    machine: Machine = field(default_factory=Machine)
    offline: bool = False
    allow_partial: bool = False
    fill_gaps: bool = False
    skip_bad: bool = False


@dataclass(frozen=True)
class JobOutcome:
    """How one job ended: `result` where it was rendered (or found done), else `failure`, one line.

    bad_input: it failed by a UserError, so what it was given has to change.
    """

    job: Job
    result: RenderResult | None
    failure: str = ""
    bad_input: bool = False


def find_jobs(
    folder: Path,
    *,
    preset: str | Path | None = None,
    presets: Path | None = None,
    skip: Path | None = None,
) -> list[Job]:
    """Every sub-folder and every video in `folder`, by name, each with its preset.

    Hidden entries, `skip` (the output folder) and `presets` are left out. Raises ShotError for a missing or
    empty folder, PresetError for a missing folder of presets.
    """
    if not folder.is_dir():
        raise ShotError(f"{folder}: no such folder; expected a folder whose sub-folders or videos are shots")
    if presets is not None and not presets.is_dir():
        raise PresetError(f"{presets}: no such folder; expected one that holds <shot>.toml files")
    others = [other for other in (skip, presets) if other is not None and other.exists()]
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    shots = [
        entry
        for entry in entries
        if (entry.is_dir() and not any(entry.samefile(other) for other in others))
        or (entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES)
    ]
    if not shots:
        raise ShotError(f"{folder}: holds no shot; expected sub-folders or videos (.mp4, .mov ...)")
    return [Job(shot, preset_for(shot, presets=presets, fallback=preset)) for shot in shots]


def preset_for(
    shot: Path, *, presets: Path | None = None, fallback: str | Path | None = None
) -> str | Path | None:
    """A shot's preset: its own, that of its name in the folder `presets`, `fallback`, in this order.

    Its own is SHOT/preset.toml, for clip.mp4 clip.toml beside it. None: `default_preset`.
    """
    is_folder = shot.is_dir()
    own = shot / "preset.toml" if is_folder else shot.with_suffix(".toml")
    if own.is_file():
        return own
    named = None if presets is None else presets / f"{shot.name if is_folder else shot.stem}.toml"
    return named if named is not None and named.is_file() else fallback


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


@dataclass(frozen=True)
class Prepared:
    """A job whose shot was opened and planned; nothing of a model is loaded."""

    job: Job
    shot: Shot
    preset: Preset
    plan: Plan


def opened(job: Job, settings: Settings) -> tuple[Shot, Preset]:
    """A job's shot and preset. Raises UserError."""
    shot = open_shot(job.shot, fill_gaps=settings.fill_gaps, skip_bad=settings.skip_bad)
    return shot, load_preset(job.preset or default_preset(shot), overrides=settings.overrides)


def prepare(job: Job, settings: Settings) -> Prepared:
    """Open a job's shot and plan its render. Raises UserError."""
    shot, preset = opened(job, settings)
    plan = make_plan(
        shot,
        preset,
        precision=settings.machine.precision,
        offline=settings.offline,
        allow_partial=settings.allow_partial,
    )
    return Prepared(job, shot, preset, plan)


class Names:
    """The names of shots that are taken: two shots of one name would share a folder."""

    def __init__(self) -> None:
        self._taken: dict[str, Path] = {}

    def take(self, name: str, job: Job) -> None:
        """Raise ShotError when another job has this name."""
        first = self._taken.setdefault(name, job.shot)
        if first != job.shot:
            raise ShotError(f"{job.shot}: has the same name '{name}' as {first}; rename one of them")
