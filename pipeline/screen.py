"""What the command line shows: a progress bar, the health table, the scores."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pipeline.doctor import Finding
from pipeline.score import Score
from pipeline.steady.metrics import LONG_RANGE

SCORE_ROWS = (
    ("e_warp", "E_warp, x 1e-4", 1e4),
    ("source", "E_warp of the source, x 1e-4", 1e4),
    ("ratio", "E_warp to the source's", 1.0),
    ("e_warp_long", f"E_warp over {LONG_RANGE} frames, x 1e-4", 1e4),
    ("drift", "drift from the first frame, x 1e-4", 1e4),
    ("luma_deviation", f"luma's deviation along {LONG_RANGE} frames, levels of 255", 255.0),
    ("sharpness", "sharpness to the source's", 1.0),
    ("depth_edges", "depth edges drawn (0.5 = by chance)", 1.0),
)
Advance = Callable[[str, int, int], None]


@contextlib.contextmanager
def frame_progress(console: Console) -> Iterator[Advance]:
    """A bar of frames with the time left; yields what to call with (shot name, frames done, in all).

    It appears with the first call, and only in a terminal: in a log, rich leaves an empty line behind.
    """
    if not console.is_interactive:
        yield lambda name, done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, transient=True)
    tasks: dict[str, TaskID] = {}

    def advance(name: str, done: int, total: int) -> None:
        if not tasks:
            progress.start()
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total, completed=done)
        progress.update(tasks[name], completed=done, visible=done < total)

    try:
        yield advance
    finally:
        if tasks:
            progress.stop()


def doctor_table(findings: Sequence[Finding]) -> Table:
    """One row a finding; what is missing says what to do."""
    table = Table("what")
    table.add_column("found", overflow="fold")
    table.add_column("")
    for finding in findings:
        mark = (
            "[green]ok[/green]"
            if finding.ok
            else "[red]missing[/red]"
            if finding.needed
            else "[yellow]-[/yellow]"
        )
        text = finding.found if finding.ok else f"{finding.found}; {finding.advice}"
        table.add_row(finding.what, _plain(text), mark)
    return table


def demo_table(score: Sequence[tuple[str, str]]) -> Table:
    """One row a measure of the demo's score."""
    table = Table("measure", "value")
    for name, value in score:
        table.add_row(name, _plain(value))
    return table


def score_table(score: Score) -> Table:
    """One row a measure of a styled film; what each means is in docs/measures.md."""
    means = score.means()
    table = Table("measure", "value", title=f"{len(score.frames)} frames, motion: {score.motion}")
    for key, name, scale in SCORE_ROWS:
        value = means[key]
        table.add_row(name, "-" if value is None else f"{value * scale:.3f}")
    return table


def _plain(text: str) -> str:
    """Text that rich must not read as its own markup."""
    return text.replace("[", r"\[")
