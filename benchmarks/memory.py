"""Peak memory of opening, probing and streaming a shot, and of rendering one: 2,000 frames against 100.

    python -m benchmarks.memory [--frames 100,2000] [--size 256] [--kind keys]

Each measurement is a process of its own. A stage shot with all its passes is repeated to the wanted length
by hard links, so that disk is not what is measured; and a video of the same length. "keys" renders a wall
that slides past for ever, one stretch without a cut, at 128 px by the method `keys` with the miniature.
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
import cv2
import numpy as np

from benchmarks.motion import scenes, stage
from benchmarks.table import Value, markdown
from pipeline.output import encode_video
from pipeline.preset import Control, Preset, Temporal
from pipeline.render import render_shot
from pipeline.shot import (
    FramePasses,
    Motion,
    Shot,
    iterate_frames,
    open_shot,
    probe_motion,
    read_joints,
    read_motion,
    read_pass,
    write_joints,
    write_shot,
)
from pipeline.shot.values import FrameJoints

WINDOW = 8
MOST_MORE = 0.10  # the longer shot may take this share more
BASE_FRAMES = 20
KEYS_SIZE = 128  # pixels a side of the shot that is rendered
WALL_STEP = 2  # pixels that the wall slides a frame


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


def endless_wall(folder: Path) -> Shot:
    """A wall whose pattern repeats after as many frames as are written, so that it can be played for ever."""
    size, count = KEYS_SIZE, KEYS_SIZE // WALL_STEP
    pattern = np.random.default_rng(0).uniform(0.0, 255.0, (size, size, 3)).astype(np.float32)
    tiled = cv2.GaussianBlur(np.tile(pattern, (3, 3, 1)), (0, 0), 2.5)[size : 2 * size, size : 2 * size]
    spread = np.clip(127.5 + 6.0 * (tiled - tiled.mean()), 0.0, 255.0).astype(np.uint8)
    forward = np.zeros((count, size, size, 2), np.float32)
    forward[..., 0] = WALL_STEP
    visible = np.full((count, size, size), 3, np.uint8)
    visible[:, :, :WALL_STEP] &= 1  # what slides in was not seen before
    passes = FramePasses(
        rgb=np.stack([np.roll(spread, WALL_STEP * t, axis=1) for t in range(count)]),
        depth=np.full((count, size, size), 3.0, np.float32),
        motion=Motion(forward=forward, backward=-forward),
        ids=np.ones((count, size, size), np.uint32),
        visible=visible,
        joints=tuple(FrameJoints(t + 1, ()) for t in range(count)),
    )
    return write_shot(folder, [passes], fps=Fraction(24))


def render_by_keys(path: Path) -> None:
    """Render a shot as `lookdev render` does."""
    preset = Preset(
        prompt="a brick wall",
        strength=0.5,
        steps=4,
        guidance=1.0,
        size=(KEYS_SIZE, KEYS_SIZE),
        control=(Control(kind="depth"),),
        temporal=Temporal(method="keys", noise="mirrored"),
    )
    result = render_shot(open_shot(path), preset, path.parent / f"{path.name}_out")
    assert any("by 'keys'" in note for note in result.notes), result.notes


KINDS: dict[str, Callable[[Path], None]] = {"folder": stream, "video": stream, "keys": render_by_keys}


@click.command()
@click.option("--frames", default="100,2000", show_default=True, help="The two lengths.")
@click.option("--size", default=256, show_default=True, help="Pixels a side of what is streamed.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="all if absent")
def main(frames: str, size: int, kinds: tuple[str, ...]) -> None:
    """Print one row for a folder of passes, one for a video, one for a render by keys."""
    short, long = (int(each) for each in frames.split(","))
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as name:
        for kind in kinds or KINDS:
            work, paths = KINDS[kind], make_shots(kind, Path(name), (short, long), size)
            less, more = (peak_megabytes(work, paths[count]) for count in (short, long))
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


def make_shots(kind: str, folder: Path, counts: tuple[int, ...], size: int) -> dict[int, Path]:
    """Shots of a kind by their numbers of frames, in `folder`."""
    if kind == "keys":
        wall = endless_wall(folder / "wall")
        return {count: repeat(wall, folder / f"keys_{count}", count) for count in counts}
    if not (folder / "base").exists():
        stage(scenes()["corridor_walk"], folder / "base", num_frames=BASE_FRAMES, size=size)
    base = open_shot(folder / "base")
    if kind == "folder":
        return {count: repeat(base, folder / f"shot_{count}", count) for count in counts}
    for count in counts:
        frames_of = (
            window for _ in range(-(-count // BASE_FRAMES)) for window in iterate_frames(base, WINDOW)
        )
        encode_video(frames_of, folder / f"video_{count}.mp4", fps=Fraction(24))
    return {count: folder / f"video_{count}.mp4" for count in counts}


if __name__ == "__main__":
    main()
