"""Speed here: the command's start, a render's seconds per frame, LoRA images/s, peak memory, the demo.

    python -m benchmarks.commands --dataset samples/characters/iris/dataset.toml [--demo]

Each line is a process of its own, so that its peak memory is its own. Run it on an idle machine.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.held_out import held_out, stage
from benchmarks.table import markdown
from pipeline.files import write_text

HELP_RUNS = 7
KIBIBYTE = 1024  # Linux counts the peak resident set in these (getrusage(2))


# A process starts with the peak memory of the one it came from (Linux keeps it across exec), so each command
# is started by an interpreter with nothing imported.
LAUNCH = """
import os, sys, time
started = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as report:
    spent = usage.ru_utime + usage.ru_stime
    code = os.waitstatus_to_exitcode(status)
    print(time.perf_counter() - started, spent, usage.ru_maxrss, code, file=report)
"""


@dataclass(frozen=True)
class Run:
    """One finished process. `processor`: seconds of it and of what it waited for. `peak_mib`: its own largest
    resident set and that of no child.
    """

    seconds: float
    processor: float
    peak_mib: float
    output: str


def run(command: Sequence[str]) -> Run:
    """Run a command to its end. Raises RuntimeError with its last lines if it fails."""
    with tempfile.NamedTemporaryFile("r") as report:
        launcher = [sys.executable, "-S", "-c", LAUNCH, report.name, *command]
        done = subprocess.run(
            launcher, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        seconds, processor, peak, code = report.read().split()
    if int(code) != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{done.stdout[-1000:]}")
    return Run(float(seconds), float(processor), int(peak) / KIBIBYTE, done.stdout)


def help_seconds() -> float:
    """The median time of `lookdev --help`, in seconds."""
    return statistics.median(run([*LOOKDEV, "--help"]).seconds for _ in range(HELP_RUNS))


LOOKDEV = (sys.executable, "-m", "pipeline.cli")


def render_row(preset: str, *, num_frames: int, folder: Path) -> dict[str, str | float]:
    """Seconds per frame of one preset on a held-out shot: of the whole command, and of the frames alone."""
    shot = stage(held_out("iris", num_shots=1, num_frames=num_frames)[0], folder).shot
    out = folder / preset
    done = run([*LOOKDEV, "render", str(shot.root), "--preset", preset, "--out", str(out)])
    record = json.loads((out / shot.name / "record.json").read_text(encoding="utf-8"))
    frames_only = float(record["seconds"]["frames"]) / num_frames
    return {
        "what": f"render, {preset}, {num_frames} frames",
        "value": frames_only,
        "unit": "s/frame",
        "whole command, s": done.seconds,
        "peak, MiB": done.peak_mib,
    }


TRAIN = """
import json, sys
from pathlib import Path
from training.run import train_from_file
result = train_from_file(Path(sys.argv[1]), out=Path(sys.argv[2]), steps=int(sys.argv[3]), progress=False)
print(json.dumps(result.images_per_second))
"""


def train_row(dataset: Path, *, steps: int, folder: Path) -> dict[str, str | float]:
    """Images/s of a LoRA training cut to `steps` steps."""
    done = run([sys.executable, "-c", TRAIN, str(dataset), str(folder / "lora"), str(steps)])
    return {
        "what": f"LoRA training, {steps} steps",
        "value": float(json.loads(done.output.strip().splitlines()[-1])),
        "unit": "images/s",
        "whole command, s": done.seconds,
        "peak, MiB": done.peak_mib,
    }


def command_row(what: str, command: Sequence[str]) -> dict[str, str | float]:
    """The wall time of a command."""
    done = run([*LOOKDEV, *command])
    return {
        "what": what,
        "value": done.seconds,
        "unit": "s",
        "whole command, s": done.seconds,
        "peak, MiB": done.peak_mib,
    }


@click.command(help=__doc__)
@click.option("--dataset", type=click.Path(path_type=Path), help="of the LoRA training; left out without it")
@click.option("--preset", "presets", multiple=True, default=("mini_frame", "mini_blend"), show_default=True)
@click.option("--frames", default=24, show_default=True)
@click.option("--steps", default=40, show_default=True, help="of the LoRA training")
@click.option("--demo", is_flag=True, help="also `lookdev demo`, training included")
@click.option("--out", type=click.Path(path_type=Path), help="also write the table as JSON")
def main(
    dataset: Path | None, presets: tuple[str, ...], frames: int, steps: int, demo: bool, out: Path | None
) -> None:
    start = help_seconds()
    rows: list[dict[str, str | float]] = [
        {"what": "lookdev --help", "value": start, "unit": "s", "whole command, s": start, "peak, MiB": 0.0}
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows += [render_row(preset, num_frames=frames, folder=folder) for preset in presets]
        if dataset is not None:
            rows.append(train_row(dataset, steps=steps, folder=folder))
        if demo:
            rows.append(command_row("lookdev demo", ["demo", "--out", str(folder / "demo")]))
    machine = platform.processor() or platform.machine()
    click.echo(f"{machine}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    click.echo(markdown(rows))
    if out is not None:
        write_text(out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
