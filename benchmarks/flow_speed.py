"""How fast motion is estimated from a plain film: DIS both ways with the mask of what is seen.

    python -m benchmarks.flow_speed [--size 512] [--frames 24]

A frame is one pair of frames: flow there and back, the round trip and the grey compared. "made" also reads
the pictures and writes vectors and masks to disk, as a render does the first time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import click
import cv2
import numpy as np

from benchmarks.table import Value, markdown
from pipeline.estimate import Estimate, dis_flow, make_estimates, ways_between
from pipeline.image import UInt8Array
from pipeline.shot import FramePasses, Shot, write_shot
from samples.stage.render import render
from samples.stage.shots import SAMPLE_SHOTS


def film(num_frames: int, size: int) -> UInt8Array:
    """The film look of a sample shot: grain and texture, as in a finished film."""
    scene = SAMPLE_SHOTS["corridor_walk"]
    return np.stack([render(scene, t, size=(size, size)).film for t in range(num_frames)])


def flow_row(frames: UInt8Array, threads: int) -> dict[str, Value]:
    """Flow and masks of frames in memory, with so many of OpenCV's threads."""
    cv2.setNumThreads(threads)
    flow = dis_flow()
    list(ways_between(frames[:2], flow))  # warm
    started, processor = time.perf_counter(), time.process_time()
    seen = [float(onward.seen.mean()) for onward, _ in ways_between(frames, flow)]
    return _row(f"flow and masks, {threads} threads", len(seen), started, processor, float(np.mean(seen)))


def made_row(shot: Shot, threads: int) -> dict[str, Value]:
    """The same from disk to disk."""
    cv2.setNumThreads(threads)
    started, processor = time.perf_counter(), time.process_time()
    make_estimates(replace(shot, passes={"rgb": shot.passes["rgb"]}), [Estimate("dis")])
    return _row(f"made, {threads} threads", shot.num_frames, started, processor, float("nan"))


def _row(what: str, count: int, started: float, processor: float, seen: float) -> dict[str, Value]:
    return {
        "what": what,
        "frames/s": count / (time.perf_counter() - started),
        "by processor time": count / (time.process_time() - processor),
        "seen, %": 100 * seen,
    }


def written(frames: UInt8Array, root: Path) -> Shot:
    """The film as a shot folder."""

    def windows() -> Iterator[FramePasses]:
        yield FramePasses(rgb=frames)

    return write_shot(root, windows(), fps=Fraction(24))


@click.command()
@click.option("--size", default=512, show_default=True, help="Pixels a side.")
@click.option("--frames", "num_frames", default=24, show_default=True)
def main(size: int, num_frames: int) -> None:
    """Print the rows for one thread and for all cores."""
    frames = film(num_frames, size)
    counts = sorted({1, os.cpu_count() or 1})
    rows = [flow_row(frames, threads) for threads in counts]
    with tempfile.TemporaryDirectory() as folder:
        rows += [made_row(written(frames, Path(folder) / f"film{n}"), n) for n in counts]
    click.echo(f"{size}x{size}, {num_frames} frames, load {os.getloadavg()[0]:.1f}\n")
    click.echo(markdown(rows))


if __name__ == "__main__":
    main()
