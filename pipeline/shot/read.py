"""The door of the shot room: open a path, then fetch windows of frames and passes.

T frames, H W pixels. `start` and `stop` count from 0 within the shot, whatever the numbers on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ShotError
from pipeline.image import Float32Array, UInt8Array, read_image, read_png
from pipeline.shot.encoding import LINEAR_DEPTH, NATIVE_MOTION, VectorEncoding, decode, decode_depth
from pipeline.shot.exr import channel_names, read_channels
from pipeline.shot.fetch import invert
from pipeline.shot.folder import open_folder
from pipeline.shot.joints import read_joints_file
from pipeline.shot.values import FrameJoints, Motion, PassSource, Shot
from pipeline.shot.video import VIDEO_SUFFIXES, iterate_video, probe_video

MOTION_CHANNELS = ("forward.X", "forward.Y", "backward.X", "backward.Y")  # what `write_shot` writes
NORMAL_CHANNELS = ("X", "Y", "Z")
DEPTH_CHANNELS = ("Z",)
DEPTH_NAMES = ("Depth.Z", "Z", "WorldDepth.R", "Depth.R", "R", "Y")  # as found, the surest first


def open_shot(path: Path) -> Shot:
    """Open a shot folder, a folder of numbered images, or a video file. No pixels are held.

    Raises ShotError (one line) for a missing path, an empty folder, gaps, files that are cut short, sizes or
    counts that differ between passes, a bad joints.json or shot.toml.
    """
    if path.is_dir():
        return open_folder(path)
    if not path.exists():
        raise ShotError(f"{path}: no such file or folder; expected a shot folder or a video; check the path")
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise ShotError(f"{path}: not a shot; expected a folder or a video ({', '.join(VIDEO_SUFFIXES)})")
    facts = probe_video(path)
    num_frames = len(facts.index.pts)
    source = PassSource(name="rgb", files=(path,), origin="video", video=facts.index)
    return Shot(
        name=path.stem,
        root=path,
        num_frames=num_frames,
        fps=facts.fps,
        width=facts.width,
        height=facts.height,
        frame_numbers=tuple(range(num_frames)),
        passes={"rgb": source},
        audio=path if facts.has_audio else None,
    )


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
        yield np.stack([_sized(shot, file, _read_rgb(file)) for file in files])


def read_pass(shot: Shot, name: str, start: int, stop: int) -> NDArray[Any]:
    """Frames [start, stop) of one pass, T first.

    "rgb", "truth" uint8 RGB [T, H, W, 3]; "depth" float32 [T, H, W] metres, inf where nothing was hit;
    "normal" float32 [T, H, W, 3] camera space; "ids" uint32 [T, H, W]; "visible" uint8 [T, H, W], bit 0: seen
    in t+1, bit 1: seen in t-1. Motion and joints have their own readers. Raises ShotError when the shot has
    no such pass or a file is unreadable.
    """
    if name == "rgb":
        return read_frames(shot, start, stop)
    if name not in READERS:
        raise ValueError(
            f"pass is {name!r}; expected rgb, {', '.join(READERS)} (or read_motion, read_joints)"
        )
    _check_range(shot, start, stop)
    files = _source(shot, name).files[start:stop]
    values = np.stack([_sized(shot, file, READERS[name](file)) for file in files])
    if name == "depth" and shot.depth != LINEAR_DEPTH:
        return decode_depth(values, shot.depth)
    return values


def read_motion(shot: Shot, start: int, stop: int) -> Motion:
    """Motion of [start, stop): float32 [T, H, W, 2] each way, pixels, nan where absent.

    Decoded as the shot's sidecar says. A direction that was not written is found by following the other one
    back from the neighbour frame (`invert`). Raises ShotError.
    """
    _check_range(shot, start, stop)
    written = shot.motion
    flows = {
        direction: [_vectors(shot, t, vector) for t in range(start, stop)]
        for direction, vector in (("forward", written.forward), ("backward", written.backward))
        if vector is not None
    }
    if "forward" not in flows:
        assert written.backward is not None
        flows["forward"] = _derived(shot, start, stop, flows["backward"], written.backward, step=1)
    elif "backward" not in flows:
        assert written.forward is not None
        flows["backward"] = _derived(shot, start, stop, flows["forward"], written.forward, step=-1)
    return Motion(forward=np.stack(flows["forward"]), backward=np.stack(flows["backward"]))


def _vectors(shot: Shot, t: int, vector: VectorEncoding) -> Float32Array:
    """The stored vector of frame t in pixels, [H, W, 2]."""
    file = _source(shot, "motion").files[t]
    try:
        return decode(_sized(shot, file, _stack(file, vector.channels, outside=np.nan)), vector)
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
        there = known[other - start] if inside else _vectors(shot, other, vector)
        flows.append(invert(there, known[offset]))
    return flows


def read_joints(shot: Shot, start: int, stop: int) -> list[FrameJoints]:
    """The joints of frames [start, stop), one entry per frame. Raises ShotError."""
    _check_range(shot, start, stop)
    (path,) = _source(shot, "joints").files
    frames = read_joints_file(path)
    missing = [number for number in shot.frame_numbers[start:stop] if number not in frames]
    if missing:  # the file changed since open_shot
        raise ShotError(
            f"{path}: no joints for frame {missing[0]}; expected every frame of rgb; export them again"
        )
    return [frames[number] for number in shot.frame_numbers[start:stop]]


def _read_rgb(path: Path) -> NDArray[Any]:
    return read_image(path, error=ShotError)


def _stack(path: Path, channels: tuple[str, ...], *, outside: float = 0.0) -> NDArray[Any]:
    return np.stack(read_channels(path, channels, outside=outside), axis=-1)


def _read_depth(path: Path) -> NDArray[Any]:
    """The depth of a file that may hold other layers too; where nothing was stored nothing was hit."""
    held = channel_names(path)
    names = (name for name in DEPTH_NAMES if any(each == name or each.endswith(f".{name}") for each in held))
    return read_channels(path, [next(names, DEPTH_CHANNELS[0])], outside=np.inf)[0]


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    "truth": _read_rgb,
    "depth": _read_depth,
    "normal": lambda path: _stack(path, NORMAL_CHANNELS),
    "ids": lambda path: read_png(path, kind="uint16", error=ShotError).astype(np.uint32),
    "visible": lambda path: read_png(path, kind="gray", error=ShotError),
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
