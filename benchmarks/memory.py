"""Peak memory of opening, probing and streaming a shot: 2,000 frames against 100.

    python -m benchmarks.memory [--frames 100,2000] [--size 256]

Each measurement is a process of its own. A stage shot with all its passes is repeated to the wanted length
by hard links, so that disk is not what is measured; and a video of the same length.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import tempfile
from collections.abc import Callable
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path

import click

from benchmarks.motion import scenes, stage
from benchmarks.table import Value, markdown
from pipeline.output import encode_video
from pipeline.shot import (
    Shot,
    iterate_frames,
    open_shot,
    probe_motion,
    read_joints,
    read_motion,
    read_pass,
    write_joints,
)
from pipeline.shot.values import FrameJoints

WINDOW = 8
MOST_MORE = 0.10  # the longer shot may take this share more
BASE_FRAMES = 20


def repeat(shot: Shot, root: Path, num_frames: int) -> Path:
    """`shot` played over and over up to `num_frames`, as hard links."""
    for name, source in shot.passes.items():
        if name == "joints":
            continue
        (root / name).mkdir(parents=True)
        for number in range(num_frames):
            file = source.files[number % shot.num_frames]
            os.link(file, root / name / f"{name}.{number + 1:05d}{file.suffix}")
    joints = read_joints(shot, 0, shot.num_frames)
    repeated = [joints[number % shot.num_frames] for number in range(num_frames)]
    write_joints(
        root / "joints.json",
        [FrameJoints(n + 1, each.figures, each.camera) for n, each in enumerate(repeated)],
    )
    (root / "shot.toml").write_text('fps = "24/1"\n', encoding="utf-8")
    return root


def stream(path: Path) -> None:
    """Open, probe and read a shot to its end, every pass, window by window."""
    shot = open_shot(path)
    if "motion" in shot.passes:
        probe_motion(shot)
    for _ in iterate_frames(shot, WINDOW):
        pass
    for start in range(0, shot.num_frames, WINDOW):
        window = start, min(start + WINDOW, shot.num_frames)
        for name in ("depth", "normal", "ids"):
            if name in shot.passes:
                read_pass(shot, name, *window)
        if "motion" in shot.passes:
            read_motion(shot, *window)


def peak_megabytes(work: Callable[[Path], None], path: Path) -> float:
    """The peak resident memory of a new process that does `work`; its decoders are not counted."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(work, path, sender))
    process.start()
    sender.close()
    megabytes: float = receiver.recv()
    process.join()
    return megabytes


def _measured(work: Callable[[Path], None], path: Path, sender: Connection) -> None:
    work(path)
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage keeps the parent's peak
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    sender.send(int(kibibytes) / 1024)


@click.command()
@click.option("--frames", default="100,2000", show_default=True, help="The two lengths.")
@click.option("--size", default=256, show_default=True, help="Pixels a side.")
def main(frames: str, size: int) -> None:
    """Print one row for a folder of passes and one for a video."""
    short, long = (int(each) for each in frames.split(","))
    scene = scenes()["corridor_walk"]
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = stage(scene, folder / "base", num_frames=BASE_FRAMES, size=size)
        paths = {}
        for count in (short, long):
            paths["folder of passes", count] = repeat(base, folder / f"shot_{count}", count)
            frames_of = (
                window for _ in range(-(-count // BASE_FRAMES)) for window in iterate_frames(base, WINDOW)
            )
            paths["video", count] = folder / f"video_{count}.mp4"
            encode_video(frames_of, paths["video", count], fps=Fraction(24))
        for kind in ("folder of passes", "video"):
            less, more = (peak_megabytes(stream, paths[kind, count]) for count in (short, long))
            rows.append(
                {
                    "shot": kind,
                    f"MB at {short}": less,
                    f"MB at {long}": more,
                    "more, %": 100 * (more / less - 1),
                }
            )
    click.echo(markdown(rows))
    right = all(float(row["more, %"]) <= 100 * MOST_MORE for row in rows)
    click.echo(f"wanted: at most {100 * MOST_MORE:.0f} % more: {'yes' if right else 'NO'}")


if __name__ == "__main__":
    main()
