"""Make estimates once, frame by frame onto disk, and hand out the shot with them as ordinary passes.

A run that was stopped goes on at the first frame that is missing. Memory is a few frames, whatever the
length.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.controls import FAR_METRES, NEAR_METRES
from pipeline.estimate.flow import Flow, dis_flow, raft_flow, ways_between
from pipeline.estimate.people import follow
from pipeline.estimate.place import attached, finish, folder_of, frame_file, is_finished
from pipeline.estimate.values import METHODS, Estimate
from pipeline.files import write_text
from pipeline.image import Float32Array, UInt8Array, write_png
from pipeline.shot import Shot, iterate_frames, read_motion, read_pass, write_joints
from pipeline.shot.exr import read_channels, write_channels
from pipeline.shot.folder import JOINTS_FILE
from pipeline.shot.read import DEPTH_CHANNELS, MOTION_CHANNELS, NORMAL_CHANNELS
from pipeline.steady.metrics import Step
from pipeline.steady.visibility import VISIBLE_NEXT, VISIBLE_PREVIOUS, seen_both_ways
from pipeline.steady.warp import BoolArray

OnFrame = Callable[[str, int, int], None]  # (what, frames done, frames in all)
WINDOW = 8  # frames read at a time
RAW = "raw"  # what a network said, until all frames are there
LOWEST, HIGHEST = 0.5, 99.5  # percentiles of a frame's disparity: a few wild pixels must not set the range


@dataclass(frozen=True)
class _Work:
    """One estimate of one shot: where it goes, and the device its network computes on."""

    shot: Shot
    estimate: Estimate
    folder: Path
    device: str

    @property
    def weights(self) -> Path:
        assert self.estimate.weights is not None
        return self.estimate.weights

    def file(self, name: str, t: int) -> Path:
        """The file of frame index t of a pass, or of what stands for it until the end."""
        number = self.shot.frame_numbers[t]
        if name == RAW:
            return (
                self.folder / RAW / f"raw.{number:04d}.{'exr' if 'depth' in self.estimate.passes else 'json'}"
            )
        return frame_file(self.folder, name, number)

    def pictures(self, start: int) -> Iterator[UInt8Array]:
        """The shot's pictures from frame index `start` on, uint8 RGB [H, W, 3]."""
        for window in iterate_frames(self.shot, WINDOW, start=start):
            yield from window


def make_estimates(
    shot: Shot,
    estimates: Sequence[Estimate],
    *,
    fallback: Path | None = None,
    device: str | None = None,
    on_frame: OnFrame | None = None,
) -> Shot:
    """The shot with the passes of all `estimates`: those that are there are taken, the rest made, in order.

    `fallback` is where they go if nothing can be written beside the shot; `device` is torch's name of one,
    absent: the accelerator where there is one. Raises ShotError, ModelError or OutputError.
    """
    bare = shot  # no estimate is made of another
    for estimate in estimates:
        folder = folder_of(bare, estimate, fallback=fallback)
        if not is_finished(folder):
            _make(_Work(bare, estimate, folder, _device(device, estimate)), on_frame or _silent)
        shot = attached(shot, estimate, folder)
    return shot


def _make(work: _Work, on_frame: OnFrame) -> None:
    started, total = time.perf_counter(), work.shot.num_frames
    what = f"{work.shot.name}: {' and '.join(work.estimate.passes)} {work.estimate.origin}"
    kept = LAST_WRITTEN[work.estimate.method]
    first = next((t for t in range(total) if not work.file(kept, t).is_file()), total)
    on_frame(what, first, total)
    if first < total:
        for t in FRAMES[work.estimate.method](work, first):
            on_frame(what, t + 1, total)
    if work.estimate.method in LAST_STEPS:
        LAST_STEPS[work.estimate.method](work)
    finish(work.folder, work.estimate, num_frames=total, seconds=time.perf_counter() - started)
    shutil.rmtree(work.folder / RAW, ignore_errors=True)


def _dis(work: _Work, start: int) -> Iterator[int]:
    return _motion(work, start, dis_flow())


def _raft(work: _Work, start: int) -> Iterator[int]:
    return _motion(work, start, raft_flow(work.weights, work.device))


def _motion(work: _Work, start: int, flow: Flow) -> Iterator[int]:
    """Write vectors and what is seen of the frames from `start` on.

    Where the renderer's ids or depth are there, they tell what is hidden, else the pictures do.
    """
    shot, first = work.shot, max(0, start - 1)

    def seen(index: int, forward: Float32Array, backward: Float32Array) -> tuple[BoolArray, BoolArray]:
        ids, depth = (
            read_pass(shot, name, first + index, first + index + 2) if name in shot.passes else None
            for name in ("ids", "depth")
        )
        return seen_both_ways(forward, backward, ids=ids, depth=depth)

    by_passes = seen if {"ids", "depth"} & shot.passes.keys() else None
    ways = ways_between(work.pictures(first), flow, seen=by_passes)
    from_before: Step | None = None
    for t in range(first, shot.num_frames):
        onward, back = next(ways, (None, None))
        if t >= start:
            _write_motion(work.file("motion", t), shot, onward, from_before)
            there, here = (None if way is None else way.seen for way in (onward, from_before))
            _write_visible(work.file("visible", t), shot, there, here)
            yield t
        from_before = back


def _write_motion(path: Path, shot: Shot, onward: Step | None, back: Step | None) -> None:
    nothing = np.full((shot.height, shot.width, 2), np.nan, np.float32)
    flows = [nothing if step is None else step.flow for step in (onward, back)]
    planes = np.moveaxis(np.concatenate(flows, axis=2), 2, 0)  # [4, H, W]
    write_channels(path, dict(zip(MOTION_CHANNELS, planes, strict=True)), half=True)


def _write_visible(path: Path, shot: Shot, onward: BoolArray | None, back: BoolArray | None) -> None:
    bits = np.zeros((shot.height, shot.width), np.uint8)
    for seen, bit in ((onward, VISIBLE_NEXT), (back, VISIBLE_PREVIOUS)):
        if seen is not None:
            bits[seen] |= bit
    write_png(path, bits)


def _round_trip(work: _Work, start: int) -> Iterator[int]:
    """What is seen along the shot's own motion pass, there and back."""
    shot, from_before = work.shot, None
    for t in range(max(0, start - 1), shot.num_frames):
        onward = back = None
        if t + 1 < shot.num_frames:
            motion = read_motion(shot, t, t + 2)
            onward, back = seen_both_ways(motion.forward[0], motion.backward[1])
        if t >= start:
            _write_visible(work.file("visible", t), shot, onward, from_before)
            yield t
        from_before = back


def _normals(work: _Work, start: int) -> Iterator[int]:
    from pipeline.estimate.detectors import bae_normals

    detect = bae_normals(work.weights, work.device)
    for t, picture in enumerate(work.pictures(start), start=start):
        planes = np.moveaxis(detect(picture), 2, 0)  # [3, H, W]
        write_channels(work.file("normal", t), dict(zip(NORMAL_CHANNELS, planes, strict=True)), half=True)
        yield t


def _lines(work: _Work, start: int) -> Iterator[int]:
    from pipeline.estimate.detectors import lineart_lines

    detect = lineart_lines(work.weights, work.device)
    for t, picture in enumerate(work.pictures(start), start=start):
        write_png(work.file("lineart", t), detect(picture))
        yield t


def _disparity(work: _Work, start: int) -> Iterator[int]:
    from pipeline.estimate.detectors import midas_disparity

    detect = midas_disparity(work.weights, work.device)
    for t, picture in enumerate(work.pictures(start), start=start):
        write_channels(work.file(RAW, t), {DEPTH_CHANNELS[0]: detect(picture)})
        yield t


def _depth_of_disparity(work: _Work) -> None:
    """Disparity of no scale -> metres, by one line for the whole shot: its range fills the control's.

    So the depth control draws the network's own picture, and its grey does not change with the frames.
    """
    raw = [work.file(RAW, t) for t in range(work.shot.num_frames)]
    ranges = [np.percentile(_plane(path), (LOWEST, HIGHEST)) for path in raw]
    low, high = min(each[0] for each in ranges), max(each[1] for each in ranges)
    for t, path in enumerate(raw):
        share = np.clip((_plane(path) - low) / max(high - low, 1e-6), 0.0, 1.0)
        metres = 1.0 / (1.0 / FAR_METRES + share * (1.0 / NEAR_METRES - 1.0 / FAR_METRES))
        write_channels(work.file("depth", t), {DEPTH_CHANNELS[0]: metres.astype(np.float32)}, half=True)


def _plane(path: Path) -> Float32Array:
    return read_channels(path, DEPTH_CHANNELS)[0]


def _people(work: _Work, start: int) -> Iterator[int]:
    from pipeline.estimate.detectors import openpose_people

    return _write_people(work, start, openpose_people(work.weights, work.device))


def _whole_people(work: _Work, start: int) -> Iterator[int]:
    from pipeline.estimate.dwpose import dwpose_people

    beside = METHODS[work.estimate.method].beside
    assert beside is not None
    return _write_people(work, start, dwpose_people(work.weights, work.weights.parent / beside))


def _write_people(work: _Work, start: int, detect: Callable[[UInt8Array], Float32Array]) -> Iterator[int]:
    for t, picture in enumerate(work.pictures(start), start=start):
        write_text(work.file(RAW, t), json.dumps(detect(picture).tolist()) + "\n")
        yield t


def _joints_of_people(work: _Work) -> None:
    shot = work.shot
    raw = [work.file(RAW, t) for t in range(shot.num_frames)]
    people = (
        np.array(json.loads(path.read_text(encoding="utf-8")), np.float32).reshape(-1, 18, 3) for path in raw
    )
    diagonal = float(np.hypot(shot.width, shot.height))
    write_joints(work.folder / JOINTS_FILE, list(follow(people, shot.frame_numbers, diagonal=diagonal)))


# Method -> writes the frames from an index on and yields each when it is whole.
FRAMES: dict[str, Callable[[_Work, int], Iterator[int]]] = {
    "dis": _dis,
    "raft": _raft,
    "round_trip": _round_trip,
    "midas": _disparity,
    "openpose": _people,
    "dwpose": _whole_people,
    "normalbae": _normals,
    "lineart": _lines,
    "lineart_coarse": _lines,
}
# What is there of each finished frame; of two passes the one written last.
LAST_WRITTEN = {
    "dis": "visible",
    "raft": "visible",
    "round_trip": "visible",
    "midas": RAW,
    "openpose": RAW,
    "dwpose": RAW,
    "normalbae": "normal",
    "lineart": "lineart",
    "lineart_coarse": "lineart",
}
LAST_STEPS: dict[str, Callable[[_Work], None]] = {
    "midas": _depth_of_disparity,
    "openpose": _joints_of_people,
    "dwpose": _joints_of_people,
}


def _device(name: str | None, estimate: Estimate) -> str:
    if name is not None or estimate.weights is None:
        return name or "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _silent(what: str, done: int, total: int) -> None:
    """For callers that watch no progress."""
