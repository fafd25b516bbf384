"""A batch on the screen: what it would do, how far it is, how it ended."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.batch import Forecast, Job, JobOutcome, KeyFrames

MOST_ROWS = 12  # a table taller than the terminal cannot be redrawn in place


def batch_table(outcomes: Sequence[JobOutcome]) -> Table:
    """One row a shot: what became of it, frames, pace, where the result is; `reasons` go below it."""
    table = Table("shot", "result", "frames", "s/frame")
    table.add_column("where", overflow="fold")  # a path cut short helps nobody
    for outcome in outcomes:
        result = outcome.result
        if result is None:
            table.add_row(_plain(outcome.job.name), "[red]failed[/red]", "", "", "")
        elif result.skipped:
            table.add_row(
                _plain(result.shot), "was done", str(result.num_frames), "", _plain(str(result.video))
            )
        else:
            pace = f"{result.seconds / result.num_rendered:.2f}" if result.num_rendered else ""
            row = (_plain(result.shot), "[green]rendered[/green]", str(result.num_frames), pace)
            table.add_row(*row, _plain(str(result.video)))
    return table


def forecast_table(forecasts: Sequence[Forecast]) -> Table:
    """One row a shot: its frames, how many are there, the time for the others; `reasons` go below it."""
    table = Table("shot", "frames", "there", "method", "key frames", "time")
    table.add_column("preset", overflow="fold")
    for each in forecasts:
        if each.failure:
            table.add_row(_plain(each.job.name), "", "[red]cannot be rendered[/red]", "", "", "", "")
            continue
        there = "done" if each.is_done else str(each.num_kept)
        preset = "its passes' default" if each.job.preset is None else str(each.job.preset)
        keys = "" if each.keys is None else _keys(each.keys)
        row = (_plain(each.name), str(each.num_frames), there, each.method, keys, _duration(each.seconds))
        table.add_row(*row, _plain(preset))
    return table


def reasons(ends: Sequence[Forecast | JobOutcome]) -> list[str]:
    """A line for each shot that failed or would: whole, so that its paths can be copied."""
    return [f"{end.job.name}: {end.failure}" for end in ends if end.failure]


def forecast_total(forecasts: Sequence[Forecast], *, num_workers: int = 1) -> str:
    """The sum of it in one line."""
    good = [each for each in forecasts if not each.failure]
    missing = sum(each.num_frames - each.num_kept for each in good)
    done = sum(each.is_done for each in good)
    said = f"{_shots(len(forecasts))}, {done} done, {missing} frames to make"
    by_keys = [each.keys for each in good if each.keys is not None]
    if by_keys:
        about = "" if all(keys.is_exact for keys in by_keys) else "about "
        said += f" with {about}{sum(keys.num_keys - keys.num_kept for keys in by_keys)} key frames"
    if len(good) < len(forecasts):
        said += f", {_shots(len(forecasts) - len(good))} cannot be rendered"
    known = [each.seconds for each in good if each.seconds is not None]
    if len(known) < len(good):
        return f"{said}; no record here tells how long a frame takes: give --seconds-per-frame"
    return f"{said}, about {_duration(sum(known) / num_workers)}"


def _keys(keys: KeyFrames) -> str:
    """As in "~11, 4 there, 20 frames alone"; ~: not counted but estimated."""
    parts = [f"{'' if keys.is_exact else '~'}{keys.num_keys}"]
    if keys.num_kept:
        parts.append(f"{keys.num_kept} there")
    if keys.num_alone:
        parts.append(f"{keys.num_alone} frames alone")
    return ", ".join(parts)


def _shots(count: int) -> str:
    return f"{count} shot" if count == 1 else f"{count} shots"


@dataclass
class _Row:
    state: str = "waiting"
    done: int = 0
    total: int = 0
    first: int = 0  # frames that were there when it started
    started: float = 0.0


@dataclass
class BatchScreen:
    """What a live table shows; `advance` and `ended` tell it what happens."""

    jobs: Sequence[Job]
    _rows: dict[str, _Row] = field(default_factory=dict)
    _started: float = field(default_factory=lambda: time.monotonic())

    def __post_init__(self) -> None:
        self._rows = {job.name: _Row() for job in self.jobs}

    def advance(self, name: str, done: int, total: int) -> None:
        """A shot has `done` of `total` frames."""
        row = self._rows.setdefault(name, _Row())
        if row.state == "waiting":
            row.state, row.first, row.started = "rendering", done, time.monotonic()
        row.done, row.total = done, total

    def ended(self, outcome: JobOutcome) -> None:
        """A job has its outcome."""
        row, result = self._rows[outcome.job.name], outcome.result
        if result is None:
            row.state = "failed"
            return
        row.state = "was done" if result.skipped else "rendered"
        row.done = row.total = result.num_frames

    def seconds_left(self) -> float | None:
        """For all shots, at the pace so far; shots not opened yet are taken to be as long as the others."""
        opened = [row for row in self._rows.values() if row.total and row.state != "was done"]
        made = sum(row.done - row.first for row in opened)
        if made <= 0:
            return None
        waiting = sum(row.state == "waiting" for row in self._rows.values())
        running = sum(row.total - row.done for row in opened if row.state == "rendering")
        length = sum(row.total for row in opened) / len(opened)
        return (running + waiting * length) * (time.monotonic() - self._started) / made

    def __rich__(self) -> Table:
        ended = sum(row.state not in ("waiting", "rendering") for row in self._rows.values())
        title = f"{ended} of {len(self._rows)} shots"
        if (left := self.seconds_left()) is not None:
            title += f", {_duration(left)} left"
        table = Table("shot", "state", "frames", "s/frame", "left", title=title)
        for name, row in self._shown():
            pace = _pace(row)
            remaining = _duration((row.total - row.done) * pace) if pace else ""
            frames = f"{row.done}/{row.total}" if row.total else ""
            table.add_row(_plain(name), row.state, frames, f"{pace:.2f}" if pace else "", remaining)
        return table

    def _shown(self) -> list[tuple[str, _Row]]:
        """All where they fit, else those at work, then those that come, then the last that ended."""
        rows = list(self._rows.items())
        if len(rows) <= MOST_ROWS:
            return rows
        order = {"rendering": 0, "failed": 1, "waiting": 2}
        first = sorted(rows, key=lambda pair: order.get(pair[1].state, 3))[:MOST_ROWS]
        return [pair for pair in rows if pair in first]


@contextlib.contextmanager
def batch_progress(console: Console, jobs: Sequence[Job]) -> Iterator[BatchScreen]:
    """A live table while a batch runs; only in a terminal: a log would fill with its copies."""
    screen = BatchScreen(jobs)
    if not console.is_interactive:
        yield screen
        return
    with Live(screen, console=console, refresh_per_second=2, transient=True):
        yield screen


def _pace(row: _Row) -> float:
    """Seconds a frame, or 0 where nothing was made yet."""
    made = row.done - row.first
    return (time.monotonic() - row.started) / made if made > 0 and row.state == "rendering" else 0.0


def _duration(seconds: float | None) -> str:
    """For people: 1:02:03."""
    return "?" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))


def _plain(text: str) -> str:
    """Text that rich must not read as its own markup."""
    return text.replace("[", r"\[")
