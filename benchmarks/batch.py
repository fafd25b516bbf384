"""What a batch costs beside its model, and whether memory grows with a shot's length.

    python -m benchmarks.batch [--shots 20] [--frames 48] [--lengths 100 --lengths 1000]

The shots are copies of the sample corridor walk, rendered by the built-in miniature with `mini_frame` as it
ships. Memory is measured on its first frame and depth, repeated, at one step. Each command is a process of
its own. Run it on an idle machine.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import click
import numpy as np

from benchmarks.commands import LOOKDEV, run
from benchmarks.table import Value, markdown
from pipeline.shot import FramePasses, open_shot, read_frames, read_pass, write_shot

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "shots" / "corridor_walk"
WINDOW = 50
WANTED_OVERHEAD, WANTED_GROWTH = 0.10, 0.10  # issue 6

# The command itself, with a clock around what the model does: loading, and styling frames.
CLOCKED = """
import json, sys, time
begun = time.perf_counter()
from pipeline import styling
from pipeline.models import load
from pipeline.diffuse import denoise
spent = {"imports": time.perf_counter() - begun, "load": 0.0, "frames": 0.0}
def clocked(name, work):
    def wrapped(*arguments, **options):
        started = time.perf_counter()
        try:
            return work(*arguments, **options)
        finally:
            spent[name] += time.perf_counter() - started
    return wrapped
styling.load_stylist = clocked("load", styling.load_stylist)
styling.Stylist.style = clocked("frames", styling.Stylist.style)
from pipeline.cli import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as report:
    json.dump(spent, report)
sys.exit(code)
"""


def copy_shots(root: Path, *, num_shots: int, num_frames: int) -> None:
    """Copies of the sample, `num_frames` long, each with a name of its own."""
    shot = open_shot(SAMPLE)
    if not 0 < num_frames <= shot.num_frames:
        raise click.UsageError(f"--frames {num_frames}; the sample shot has {shot.num_frames}")
    for index in range(num_shots):
        target = root / f"walk_{index:02d}"
        shutil.copytree(SAMPLE, target, ignore=shutil.ignore_patterns("preset.toml", "truth"))
        for path in target.glob("*/*"):
            if int(path.stem.rsplit(".", 1)[1]) > num_frames:
                path.unlink()
        joints = json.loads((SAMPLE / "joints.json").read_text(encoding="utf-8"))
        joints["frames"] = joints["frames"][:num_frames]
        (target / "joints.json").write_text(json.dumps(joints), encoding="utf-8")
        (target / "shot.toml").write_text(f'fps = "{shot.fps}"\nname = "{target.name}"\n', encoding="utf-8")


def overhead_row(folder: Path, *, num_shots: int, num_frames: int) -> dict[str, Value]:
    """Where the seconds of a batch go."""
    copy_shots(folder / "shots", num_shots=num_shots, num_frames=num_frames)
    report = folder / "clock.json"
    arguments = ["batch", str(folder / "shots"), "--preset", "mini_frame", "--out", str(folder / "out")]
    done = run([sys.executable, "-c", CLOCKED, str(report), *arguments])
    spent = json.loads(report.read_text(encoding="utf-8"))
    rest = done.seconds - spent["imports"] - spent["load"] - spent["frames"]
    return {
        "batch": f"{num_shots} shots x {num_frames} frames",
        "whole command, s": done.seconds,
        "imports, s": spent["imports"],
        "model loaded, s": spent["load"],
        "model on frames, s": spent["frames"],
        "all else, s": rest,
        "all else, share": rest / done.seconds,
        "peak, MiB": done.peak_mib,
    }


def long_shot(root: Path, num_frames: int) -> None:
    """The sample's first frame and depth, `num_frames` times, a little brighter each time."""
    sample = open_shot(SAMPLE)
    picture, depth = read_frames(sample, 0, 1), read_pass(sample, "depth", 0, 1)

    def windows() -> Iterator[FramePasses]:
        for start in range(0, num_frames, WINDOW):
            count = min(WINDOW, num_frames - start)
            brighter = np.arange(start, start + count) % 32  # [T]
            rgb = np.minimum(picture.astype(np.int16) + brighter[:, None, None, None], 255).astype(np.uint8)
            yield FramePasses(rgb=rgb, depth=depth.repeat(count, axis=0))

    write_shot(root, windows(), fps=Fraction(24))


def memory_row(folder: Path, num_frames: int) -> dict[str, Value]:
    """The peak memory of a shot of this length."""
    shot, out = folder / f"long_{num_frames}", folder / "out_long"
    long_shot(shot, num_frames)
    settings = ("steps=2", 'control=[{kind="depth"}]', 'vars.view="front view"')
    overrides = [part for setting in settings for part in ("--set", setting)]
    done = run([*LOOKDEV, "render", str(shot), "--preset", "mini_frame", "--out", str(out), *overrides])
    return {"shot, frames": num_frames, "peak, MiB": done.peak_mib, "whole command, s": done.seconds}


@click.command(help=__doc__)
@click.option("--shots", "num_shots", default=20, show_default=True)
@click.option("--frames", "num_frames", default=48, show_default=True, help="of each shot")
@click.option("--lengths", multiple=True, type=int, default=(100, 1000), show_default=True)
def main(num_shots: int, num_frames: int, lengths: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        row = overhead_row(Path(name), num_shots=num_shots, num_frames=num_frames)
        click.echo(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n\n{markdown([row])}")
        click.echo(f"wanted: all else at most {WANTED_OVERHEAD:.0%} of the whole\n")
        rows = [memory_row(Path(name), length) for length in lengths]
    click.echo(markdown(rows))
    growth = float(rows[-1]["peak, MiB"]) / float(rows[0]["peak, MiB"]) - 1.0
    click.echo(f"growth: {growth:+.1%}; wanted: at most {WANTED_GROWTH:.0%}")


if __name__ == "__main__":
    main()
