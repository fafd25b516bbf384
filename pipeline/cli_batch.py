"""`lookdev batch`: a folder of shots, one command, any number of nights."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli_options import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    FolderPath,
    model_options,
    on_machine,
    shot_options,
)

if TYPE_CHECKING:
    from pipeline.batch import Job, JobOutcome, Settings
    from pipeline.batch.run import Hire


@click.command()
@click.argument("folder", type=FolderPath)
@click.option(
    "--presets", type=FolderPath, help="Folder of <shot>.toml, for shots without a preset.toml of their own."
)
@click.option("--preset", help="Preset for shots that have none in either place.")
@click.option("--out", type=FolderPath, default=Path("out"), show_default=True, help="Results' folder.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key in every preset."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--seconds-per-frame", type=click.FloatRange(min=0.0), help="For --dry-run; absent: as records say."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that render; absent: one, or one for each accelerator.",
)
@click.option(
    "--ray", metavar="ADDRESS|local", help="Render on a Ray cluster (needs lookdev[cluster]); docs/batch.md."
)
@click.option(
    "--segment",
    type=click.IntRange(min=0),
    default=120,
    show_default=True,
    help="Frames that one of several workers takes of a long shot; 0: whole shots.",
)
@shot_options
@model_options
def batch(
    folder: Path,
    presets: Path | None,
    preset: str | None,
    out: Path,
    overrides: Sequence[str],
    dry_run: bool,
    seconds_per_frame: float | None,
    workers: int | None,
    ray: str | None,
    segment: int,
    **how: Any,
) -> None:
    """Restyle every shot in FOLDER.

    Shots are its sub-folders and videos. What is done is skipped; a shot that fails stops no other. Run the
    same command again to resume.
    """
    from pipeline.batch import Settings, check_presets, find_jobs

    jobs = find_jobs(folder, preset=preset, presets=presets, skip=out if out.is_dir() else None)
    check_presets(jobs, preset=preset, overrides=overrides)
    settings = Settings(out=out, overrides=tuple(overrides), **on_machine(**how))
    if dry_run:
        _foretell(jobs, settings, seconds_per_frame, workers or 1)
        return
    outcomes: list[JobOutcome] = []
    try:
        _render(jobs, settings, _hire(workers, ray), segment, outcomes)
    finally:  # an interrupt too leaves a table of what was done
        _show(jobs, outcomes)
    _end(outcomes)


def _foretell(
    jobs: Sequence[Job], settings: Settings, seconds_per_frame: float | None, num_workers: int
) -> None:
    from rich.console import Console

    from pipeline.batch import forecast
    from pipeline.screen_batch import forecast_table, forecast_total, reasons

    with Console(stderr=True).status("looking for key frames"):  # which reads shots through
        forecasts = list(forecast(jobs, settings, seconds_per_frame=seconds_per_frame))
    Console().print(forecast_table(forecasts))
    for reason in reasons(forecasts):
        click.secho(reason, fg="red")
    click.echo(forecast_total(forecasts, num_workers=num_workers))
    for each in forecasts:
        for note in each.notes:
            click.echo(f"note: {each.name}: {note}", err=True)
    if any(each.failure for each in forecasts):
        raise SystemExit(EXIT_BAD_INPUT)


def _hire(workers: int | None, ray: str | None) -> Hire | None:
    """What gets workers together; None: this process does it alone."""
    from pipeline.batch import default_workers, local_crew, ray_crew

    if ray is not None:
        return ray_crew(ray, workers)
    count = workers or default_workers()
    return local_crew(count) if count > 1 else None


def _render(
    jobs: Sequence[Job], settings: Settings, hire: Hire | None, segment: int, outcomes: list[JobOutcome]
) -> None:
    """Fill `outcomes` as they come."""
    from rich.console import Console

    from pipeline.batch import run_batch
    from pipeline.screen_batch import batch_progress

    with _interruptible(), batch_progress(Console(stderr=True), jobs) as screen:

        def end(outcome: JobOutcome) -> None:
            outcomes.append(outcome)
            screen.ended(outcome)

        run = run_batch(
            jobs, settings, hire=hire, segment_frames=segment, on_frame=screen.advance, on_end=end
        )
        for _ in run:
            pass


def _show(jobs: Sequence[Job], outcomes: Sequence[JobOutcome]) -> None:
    """The summary in the order of the jobs, if there is anything to sum up."""
    from rich.console import Console

    from pipeline.screen_batch import batch_table, reasons

    if not outcomes:
        return
    ended = {outcome.job: outcome for outcome in outcomes}
    in_order = [ended[job] for job in jobs if job in ended]
    Console().print(batch_table(in_order))
    for reason in reasons(in_order):
        click.secho(reason, fg="red")
    for result in (outcome.result for outcome in ended.values() if outcome.result is not None):
        for note in result.notes:
            click.echo(f"note: {result.shot}: {note}", err=True)


def _end(outcomes: Sequence[JobOutcome]) -> None:
    """Exit by what failed."""
    failed = [outcome for outcome in outcomes if outcome.result is None]
    if failed:
        click.secho(f"error: {len(failed)} of {len(outcomes)} shots failed", fg="red", err=True)
        raise SystemExit(EXIT_BAD_INPUT if all(each.bad_input for each in outcomes) else EXIT_FAILED)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A polite kill (SIGTERM: a system that shuts down, a cluster's scheduler) ends as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
