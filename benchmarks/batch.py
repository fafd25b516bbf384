"""What a batch costs beside its model, and whether memory grows with a shot's length.

    python -m benchmarks.batch [--preset mini_film] [--shots 20] [--frames 48] [--lengths 100 --lengths 1000]

The shots are copies of the sample corridor walk, rendered by the built-in miniature with a preset as it
ships: `mini_film` (method `keys`), or `mini_frame`. "At work" is the wall time in which the model styles
frames or the method puts them together from keys, counted once where both do, without what is read meanwhile
unless the model works beside it. Importing torch and loading weights have columns of their own. "All else" is
the rest: the start of Python, planning, the search for key frames, reading, writing, encoding, journal, page,
record. The second table counts the same in seconds of processor time, of all threads and of ffmpeg: what runs
beside the model is not hidden there, and other people's programs change little (one thread of torch only).

Memory is measured on a picture that slides by two pixels a frame, at two steps. Each command is a process of
its own. Run it on an idle machine.
"""

from __future__ import annotations

import bisect
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import click
import numpy as np

from benchmarks.commands import LOOKDEV, run
from benchmarks.table import Value, markdown
from pipeline.shot import FramePasses, Motion, open_shot, read_frames, write_shot

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "shots" / "corridor_walk"
WINDOW = 50
SLIDE = 2  # pixels a frame
WANTED_OVERHEAD, WANTED_GROWTH = 0.10, 0.10  # issue 6

# The command itself, with clocks: the intervals in which each thread is at something.
CLOCKED = """
import functools, json, sys, threading, time
begun, spent = time.perf_counter(), time.process_time()
from pipeline import footage, keys, methods, patches, styling
from pipeline.diffuse import denoise
from pipeline.models import load
imported = time.perf_counter() - begun, time.process_time() - spent
spans = {"load": [], "model": [], "carry": [], "read": []}
def clocked(kind, work):
    @functools.wraps(work)
    def wrapped(*arguments, **options):
        started, spent = time.perf_counter(), time.thread_time()
        try:
            return work(*arguments, **options)
        finally:
            spent = time.thread_time() - spent
            spans[kind].append((threading.get_ident(), started, time.perf_counter(), spent))
    return wrapped
def clocked_frames(frames):
    def wrapped(self, first):
        step = clocked("carry", lambda made: next(made, None))
        made = frames(self, first)
        while (frame := step(made)) is not None:
            yield frame
    return wrapped
styling.load_stylist = clocked("load", styling.load_stylist)
styling.Stylist.style = clocked("model", styling.Stylist.style)
keys.Carrier.frames = clocked_frames(keys.Carrier.frames)
for place, name in ((keys.Carrier, "_view"), (keys.Carrier, "_key"), (keys, "compose")):  # by other threads
    setattr(place, name, clocked("carry", getattr(place, name)))
reading = ("frames_at", "read_motion", "read_pass", "read_joints", "read_inputs", "read_png", "write_png")
for module in (footage, keys, patches, methods):
    for name in reading:
        if hasattr(module, name):
            setattr(module, name, clocked("read", getattr(module, name)))
from pipeline.cli import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as report:
    json.dump({"imports": imported, "spans": spans}, report)
sys.exit(code)
"""

Span = tuple[float, float]
Spans = Mapping[str, Sequence[tuple[int, float, float, float]]]  # thread, start, stop, processor seconds


def union(spans: Iterable[Span]) -> list[Span]:
    """Spans of time, each moment once, in order."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def length(spans: Iterable[Span]) -> float:
    """Seconds, each moment once."""
    return sum(stop - start for start, stop in union(spans))


def without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """What is left of spans where others are cut out."""
    left, cuts = [], union(taken)
    for start, stop in union(spans):
        for first, last in cuts:
            if last <= start or first >= stop:
                continue
            if first > start:
                left.append((start, first))
            start = max(start, last)
        if start < stop:
            left.append((start, stop))
    return left


def at_work(spans: Spans) -> float:
    """Wall seconds in which the model styles frames or the method puts them together."""
    working = [(start, stop) for _, start, stop, _ in spans["model"]]
    for thread in {each for each, *_ in spans["carry"]}:
        own = {
            kind: [(a, b) for each, a, b, _ in spans[kind] if each == thread] for kind in ("carry", "read")
        }
        working += without(own["carry"], own["read"])
    return length(working)


def processor_at_work(spans: Spans) -> float:
    """The same in seconds of processor time: what is read in the midst of carrying is none."""
    spent = sum(cpu for *_, cpu in spans["model"])
    for thread in {each for each, *_ in spans["carry"]}:
        carried = outermost(spans["carry"], thread)
        starts = [start for start, *_ in carried]
        spent += sum(cpu for *_, cpu in carried)
        for start, stop, cpu in outermost(spans["read"], thread):
            around = bisect.bisect_right(starts, start) - 1
            if around >= 0 and stop <= carried[around][1]:
                spent -= cpu
    return spent


def outermost(
    spans: Iterable[tuple[int, float, float, float]], thread: int
) -> list[tuple[float, float, float]]:
    """Those of a thread that lie in no other of it, in order: start, stop, processor seconds."""
    found: list[tuple[float, float, float]] = []
    own = sorted((start, -stop, cpu) for each, start, stop, cpu in spans if each == thread)
    for start, stop, cpu in own:
        if not found or start >= found[-1][1]:
            found.append((start, -stop, cpu))
    return found


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


def overhead_rows(folder: Path, preset: str, *, num_shots: int, num_frames: int) -> list[dict[str, Value]]:
    """Where the seconds of a batch go: of the wall clock, and of the processor."""
    copy_shots(folder / "shots", num_shots=num_shots, num_frames=num_frames)
    report = folder / "clock.json"
    arguments = ["batch", str(folder / "shots"), "--preset", preset, "--out", str(folder / "out")]
    done = run([sys.executable, "-c", CLOCKED, str(report), *arguments])
    clock = json.loads(report.read_text(encoding="utf-8"))
    spans, (imports, imports_cpu) = clock["spans"], clock["imports"]
    load, load_cpu = length((a, b) for _, a, b, _ in spans["load"]), sum(cpu for *_, cpu in spans["load"])
    what = f"{preset}, {num_shots} shots x {num_frames} frames"
    return [
        _shares(f"{what}, wall", done.seconds, imports, load, at_work(spans)),
        _shares(f"{what}, processor", done.processor, imports_cpu, load_cpu, processor_at_work(spans)),
    ]


def _shares(what: str, whole: float, imports: float, load: float, working: float) -> dict[str, Value]:
    rest = whole - imports - load - working
    return {
        "batch": what,
        "whole command, s": whole,
        "imports, s": imports,
        "loaded, s": load,
        "at work, s": working,
        "all else, s": rest,
        "all else, share": rest / whole,
        "with imports and loading": 1.0 - working / whole,
    }


def long_shot(root: Path, num_frames: int) -> None:
    """The sample's first picture and its mirror image, which slide by two pixels a frame; with motion."""
    picture = read_frames(open_shot(SAMPLE), 0, 1)[0]
    band = np.concatenate([picture, picture[:, ::-1]], axis=1)  # [H, 2 W, 3], without a seam
    height, width = picture.shape[:2]

    def windows() -> Iterator[FramePasses]:
        for start in range(0, num_frames, WINDOW):
            numbers = np.arange(start, min(start + WINDOW, num_frames))
            flow = np.zeros((len(numbers), height, width, 2), np.float32)
            flow[..., 0] = SLIDE
            forward, backward = flow.copy(), -flow
            forward[numbers == num_frames - 1], backward[numbers == 0] = np.nan, np.nan
            yield FramePasses(
                rgb=np.stack([np.roll(band, SLIDE * t, axis=1)[:, :width] for t in numbers]),
                depth=np.full(flow.shape[:3], 3.0, np.float32),
                motion=Motion(forward=forward, backward=backward),
            )

    write_shot(root, windows(), fps=Fraction(24))


def memory_row(folder: Path, preset: str, num_frames: int) -> dict[str, Value]:
    """The peak memory of a shot of this length."""
    shot, out = folder / f"long_{num_frames}", folder / "out_long"
    long_shot(shot, num_frames)
    settings = ("steps=2", 'control=[{kind="depth"}]', 'vars.view="front view"')
    overrides = [part for setting in settings for part in ("--set", setting)]
    done = run([*LOOKDEV, "render", str(shot), "--preset", preset, "--out", str(out), *overrides])
    record = json.loads((out / shot.name / "record.json").read_text(encoding="utf-8"))
    return {
        "preset": preset,
        "shot, frames": num_frames,
        "styled, share": record["denoised"],
        "peak, MiB": done.peak_mib,
        "whole command, s": done.seconds,
    }


@click.command(help=__doc__)
@click.option("--preset", default="mini_film", show_default=True)
@click.option("--shots", "num_shots", default=20, show_default=True, help="0: memory only")
@click.option("--frames", "num_frames", default=48, show_default=True, help="of each shot")
@click.option("--lengths", multiple=True, type=int, default=(100, 1000), show_default=True, help="0: none")
def main(preset: str, num_shots: int, num_frames: int, lengths: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        if num_shots:
            found = overhead_rows(Path(name), preset, num_shots=num_shots, num_frames=num_frames)
            click.echo(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n\n{markdown(found)}")
            click.echo(f"wanted: all else at most {WANTED_OVERHEAD:.0%} of the whole\n")
        rows = [memory_row(Path(name), preset, length) for length in lengths if length]
    if not rows:
        return
    click.echo(markdown(rows))
    growth = float(rows[-1]["peak, MiB"]) / float(rows[0]["peak, MiB"]) - 1.0
    click.echo(f"growth: {growth:+.1%}; wanted: at most {WANTED_GROWTH:.0%}")


if __name__ == "__main__":
    main()
