"""Windows of a shot's frames and passes.

T frames, H W pixels. `start` and `stop` count from 0 within the shot, whatever the numbers on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ShotError
from pipeline.image import Float32Array, UInt8Array, read_png
from pipeline.shot.encoding import FARTHEST, LINEAR_DEPTH, NATIVE_MOTION, VectorEncoding, decode, decode_depth
from pipeline.shot.exr import read_channels
from pipeline.shot.fetch import invert
from pipeline.shot.ids import by_palette, read_ids
from pipeline.shot.joints import read_joints_file
from pipeline.shot.picture import read_rgb
from pipeline.shot.solo import read_solo_joints
from pipeline.shot.values import FrameJoints, Motion, PassSource, Shot
from pipeline.shot.video import iterate_video

MOTION_CHANNELS = ("forward.X", "forward.Y", "backward.X", "backward.Y")  # what `write_shot` writes
NORMAL_CHANNELS = ("X", "Y", "Z")
DEPTH_CHANNELS = ("Z",)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def read_frames(shot: Shot, start: int, stop: int) -> UInt8Array:
    """Frames [start, stop) as uint8 RGB [T, H, W, 3]. Raises ShotError for an unreadable file."""
    _check_range(shot, start, stop)
    (window,) = iterate_frames(shot, stop - start, start=start, stop=stop)
    return window


def iterate_frames(
    shot: Shot, window: int, *, start: int = 0, stop: int | None = None
) -> Iterator[UInt8Array]:
    """Frames [start, stop) as uint8 RGB [T, H, W, 3] in windows of at most `window`; memory is one window.

    For a video one decoder serves all windows, so this is the way to read a long one. Raises ShotError.
    """
    stop = shot.num_frames if stop is None else stop
    _check_range(shot, start, stop)
    if window < 1:
        raise ValueError(f"window is {window}; expected at least 1")
    source = shot.passes["rgb"]
    if source.video is not None:
        yield from iterate_video(
            source.video, window, start=start, stop=stop, width=shot.width, height=shot.height
        )
        return
    for first in range(start, stop, window):
        files = source.files[first : min(first + window, stop)]
        yield np.stack([read_file(shot, "rgb", file) for file in files])


def read_pass(shot: Shot, name: str, start: int, stop: int) -> NDArray[Any]:
    """Frames [start, stop) of one pass, T first.

    "rgb", "truth" uint8 RGB [T, H, W, 3]; "depth" float32 [T, H, W] metres, inf where nothing was hit;
    "normal" float32 [T, H, W, 3] camera space; "ids" uint32 [T, H, W]; "visible" uint8 [T, H, W], bit 0: seen
    in t+1, bit 1: seen in t-1; "lineart" uint8 [T, H, W], white lines on black. Motion and joints have their
    own readers. Raises ShotError when the shot has no such pass or a file is unreadable.
    """
    if name == "rgb":
        return read_frames(shot, start, stop)
    if name not in READERS:
        raise ValueError(f"pass is {name!r}; expected {', '.join(READERS)} (or read_motion, read_joints)")
    _check_range(shot, start, stop)
    values = np.stack([read_file(shot, name, file) for file in _source(shot, name).files[start:stop]])
    if name == "depth" and shot.depth != LINEAR_DEPTH:
        return decode_depth(values, shot.depth)
    return values


def read_file(shot: Shot, name: str, file: Path) -> NDArray[Any]:
    """What one file of a pass stores, as `read_pass` gives it, depth not yet decoded. Raises ShotError."""
    source = _source(shot, name)
    return _sized(shot, file, READERS[name](shot, source, file))


def read_as(shot: Shot, names: Sequence[str]) -> dict[str, str]:
    """How these passes' files are read, for a plan's digest: what shot.toml says of them, and what is held.

    A pass that is read as lookdev writes it says nothing.
    """
    said: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        source = shot.passes[name]
        said[name] += [f"channels {source.channels}, view {shot.view}"] if source.channels else []
        said[name] += [f"palette {source.palette}"] if source.palette else []
        said[name] += [repr(shot.display)] if name == "rgb" and source.origin == "exr" else []
        said[name] += [f"held {sorted(shot.held.items())}"] if shot.held else []
        shown = source.video.shown if source.video is not None else None
        said[name] += [f"shown {shown}"] if shown is not None else []
    if "motion" in said and shot.motion != NATIVE_MOTION:
        said["motion"].append(repr(shot.motion))
    if "motion" in said and shot.without_motion:
        said["motion"].append(f"none in {sorted(shot.without_motion)}")
    if "depth" in said and shot.depth != LINEAR_DEPTH:
        said["depth"].append(repr(shot.depth))
    return {name: "; ".join(texts) for name, texts in said.items() if texts}


def read_motion(shot: Shot, start: int, stop: int) -> Motion:
    """Motion of [start, stop): float32 [T, H, W, 2] each way, pixels, nan where absent.

    Decoded as the shot's sidecar says. A direction that was not written is found by following the other one
    back from the neighbour frame (`invert`). Raises ShotError.
    """
    _check_range(shot, start, stop)
    written = shot.motion
    both = {"forward": written.forward, "backward": written.backward}
    stored = {direction: vector for direction, vector in both.items() if vector is not None}
    frames = [_vectors(shot, t, *stored.values()) for t in range(start, stop)]
    flows = {
        direction: list(flow) for direction, flow in zip(stored, zip(*frames, strict=True), strict=False)
    }
    if "forward" not in flows:
        assert written.backward is not None
        flows["forward"] = _derived(shot, start, stop, flows["backward"], written.backward, step=1)
    elif "backward" not in flows:
        assert written.forward is not None
        flows["backward"] = _derived(shot, start, stop, flows["forward"], written.forward, step=-1)
    return Motion(forward=np.stack(flows["forward"]), backward=np.stack(flows["backward"]))


def _vectors(shot: Shot, t: int, *vectors: VectorEncoding) -> list[Float32Array]:
    """The stored vectors of frame t in pixels, [H, W, 2] each; nan where what stands in for the frame has
    none.
    """
    file = _source(shot, "motion").files[t]
    if t in shot.without_motion:
        return [np.full((shot.height, shot.width, 2), np.nan, np.float32) for _ in vectors]
    names = tuple(channel for vector in vectors for channel in vector.channels)
    try:
        stored = _sized(shot, file, _stack(shot, file, names, outside=np.nan))
        parts = [stored[..., n : n + 2] for n in range(0, len(names), 2)]
        return [decode(part, vector) for part, vector in zip(parts, vectors, strict=True)]
    except ShotError as error:
        if shot.motion is NATIVE_MOTION and "holds the channels" in str(error):
            raise ShotError(f"{error}, or run `lookdev shot probe {shot.root}`") from error
        raise


def _derived(
    shot: Shot, start: int, stop: int, known: list[Float32Array], vector: VectorEncoding, *, step: int
) -> list[Float32Array]:
    """The direction that was not written: to t + `step`, from the vectors of the frames there."""
    flows = []
    for offset, t in enumerate(range(start, stop)):
        other = t + step
        if not 0 <= other < shot.num_frames:
            flows.append(np.full((shot.height, shot.width, 2), np.nan, np.float32))
            continue
        inside = 0 <= other - start < len(known)
        there = known[other - start] if inside else _vectors(shot, other, vector)[0]
        flows.append(invert(there, known[offset]))
    return flows


def read_joints(shot: Shot, start: int, stop: int) -> list[FrameJoints]:
    """The joints of frames [start, stop), one entry per frame. Raises ShotError."""
    _check_range(shot, start, stop)
    source = _source(shot, "joints")
    if source.origin == "solo":
        rows = zip(source.files[start:stop], shot.frame_numbers[start:stop], strict=True)
        return [read_solo_joints(file, source.channels[0], number) for file, number in rows]
    (path,) = source.files
    frames = read_joints_file(path)
    shown = [shot.frame_numbers[shot.held.get(t, t)] for t in range(start, stop)]
    missing = [number for number in shown if number not in frames]
    if missing:  # the file changed since open_shot
        raise ShotError(
            f"{path}: no joints for frame {missing[0]}; expected every frame of rgb; export them again"
        )
    numbers = shot.frame_numbers[start:stop]
    return [replace(frames[seen], frame=number) for seen, number in zip(shown, numbers, strict=True)]


def _stack(shot: Shot, path: Path, channels: tuple[str, ...], *, outside: float = 0.0) -> NDArray[Any]:
    return np.stack(read_channels(path, channels, outside=outside, view=shot.view), axis=-1)


def _read_rgb(shot: Shot, source: PassSource, path: Path) -> NDArray[Any]:
    return read_rgb(path, source.channels, shot.view, shot.display)


def _read_depth(shot: Shot, source: PassSource, path: Path) -> NDArray[Any]:
    """Depth as stored; where nothing was stored, or Blender's 1e10, nothing was hit: inf."""
    names = source.channels or DEPTH_CHANNELS
    (depth,) = read_channels(path, names, outside=np.inf, view=shot.view)
    if np.isnan(depth).any():
        y, x = (int(place) for place in np.argwhere(np.isnan(depth))[0])
        raise ShotError(
            f"{path}: {int(np.isnan(depth).sum())} depths are nan, the first at (x={x}, y={y}); "
            "expected numbers, or inf where nothing was hit; render the frame again, or take --skip-bad"
        )
    depth[depth >= FARTHEST] = np.inf
    return depth


def _read_normal(shot: Shot, source: PassSource, path: Path) -> NDArray[Any]:
    return _stack(shot, path, source.channels or NORMAL_CHANNELS)


def _read_lineart(shot: Shot, source: PassSource, path: Path) -> NDArray[Any]:
    """Lines uint8 [H, W], white on black; a drawing on light paper is turned round."""
    grey: UInt8Array = np.rint(_read_rgb(shot, source, path) @ LUMA).astype(np.uint8)
    return 255 - grey if np.median(grey) > 127 else grey


READERS: dict[str, Callable[[Shot, PassSource, Path], NDArray[Any]]] = {
    "rgb": _read_rgb,
    "truth": _read_rgb,
    "depth": _read_depth,
    "normal": _read_normal,
    "ids": lambda shot, source, path: by_palette(
        read_ids(path, source.channels, shot.view), dict(source.palette)
    ),
    "lineart": _read_lineart,
    "visible": lambda shot, source, path: read_png(path, kind="gray", error=ShotError),
}


def _source(shot: Shot, name: str) -> PassSource:
    if name not in shot.passes:
        have = ", ".join(shot.passes)
        raise ShotError(f"{shot.root}: no {name} pass (it has {have}); export it to {shot.root.name}/{name}")
    return shot.passes[name]


def _check_range(shot: Shot, start: int, stop: int) -> None:
    if not 0 <= start < stop <= shot.num_frames:
        raise ValueError(f"frames [{start}, {stop}) of {shot.num_frames}; expected a range inside the shot")


def _sized(shot: Shot, path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
    """The pixels, after checking that the file still has the size it had when the shot was opened."""
    height, width = pixels.shape[:2]
    if (height, width) != (shot.height, shot.width):
        raise ShotError(
            f"{path}: decodes to {width} x {height} ; expected {shot.width} x {shot.height}; export it again"
        )
    return pixels
