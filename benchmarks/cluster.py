"""Two Ray workers on this machine against one process: the same bytes, also when a worker is killed mid-shot.

    python -m benchmarks.cluster [--workers 2]

The batch is three small shots (`benchmarks.kills`), the long one in pieces; also with processes of lookdev's
own (`--workers`).
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from benchmarks.kills import contents, write_shots
from benchmarks.table import Value, markdown
from pipeline.batch import Settings, find_jobs, local_crew, ray_crew, run_batch
from pipeline.batch.tasks import Crew

SEGMENT = 4
TRIES = 3  # to catch a worker in the middle of a shot: on an idle machine a shot may be over first

Hire = Callable[[Settings], Crew]


def render(shots: Path, out: Path, hire: Hire | None, *, kill: bool = False) -> tuple[float, int]:
    """Render the batch; returns its seconds and how many workers were killed in the middle of a shot."""
    crews: list[Crew] = []
    killed: list[int] = []

    def hired(settings: Settings) -> Crew:
        assert hire is not None
        crews.append(hire(settings))
        return crews[0]

    def on_frame(name: str, done: int, total: int) -> None:
        if kill and not killed and done < total:  # in the middle of a shot
            killed.append(crews[0].pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    started = time.perf_counter()
    run = run_batch(
        find_jobs(shots),
        Settings(out),
        hire=None if hire is None else hired,
        segment_frames=SEGMENT,
        on_frame=on_frame,
    )
    failures = [outcome.failure for outcome in run if outcome.result is None]
    if failures:
        raise RuntimeError(f"the batch failed: {failures[0]}")
    return time.perf_counter() - started, len(killed)


def without_machine(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """Pictures and videos: a record names the folder it is in."""
    return {name: data for name, data in found.items() if not name.endswith(".json")}


def compare(folder: Path, ways: Mapping[str, tuple[Hire | None, bool]]) -> list[dict[str, Value]]:
    """One row for each way to render, in order; the first is the truth."""
    write_shots(folder / "shots")
    truth: dict[str, bytes] | None = None
    rows: list[dict[str, Value]] = []
    for number, (name, (hire, kill)) in enumerate(ways.items()):
        for attempt in range(TRIES if kill else 1):
            out = folder / f"out{number}-{attempt}"
            seconds, killed = render(folder / "shots", out, hire, kill=kill)
            if killed:
                break
        found = without_machine(contents(out))
        truth = truth or found
        same = sum(found.get(name) == data for name, data in truth.items())
        rows.append(
            {
                "rendered by": name,
                "workers killed": killed,
                "files": len(found),
                "same bytes": same if found.keys() == truth.keys() else 0,
                "s": seconds,
            }
        )
    return rows


@click.command(help=__doc__)
@click.option("--workers", default=2, show_default=True)
def main(workers: int) -> None:
    ways: dict[str, tuple[Hire | None, bool]] = {
        "one process": (None, False),
        f"{workers} processes": (local_crew(workers), False),
        f"{workers} processes, one killed": (local_crew(workers), True),
        f"{workers} Ray workers": (ray_crew("local", workers), False),
        f"{workers} Ray workers, one killed": (ray_crew("local", workers), True),
    }
    with tempfile.TemporaryDirectory() as name:
        rows = compare(Path(name), ways)
    click.echo(markdown(rows))
    sys.exit(0 if all(row["same bytes"] == row["files"] for row in rows) else 1)


if __name__ == "__main__":
    main()
