"""Write the shot layout of docs/architecture.md: what the stage exports and `open_shot` reads."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import OutputError, ShotError
from pipeline.files import PARTIAL, write_text, writing
from pipeline.image import Float32Array, UInt8Array, UInt32Array, write_png
from pipeline.shot.encoding import DepthEncoding, MotionEncoding, depth_table, motion_table
from pipeline.shot.exr import write_channels
from pipeline.shot.folder import JOINTS_FILE
from pipeline.shot.joints import write_joints
from pipeline.shot.open import open_shot
from pipeline.shot.read import DEPTH_CHANNELS, MOTION_CHANNELS, NORMAL_CHANNELS
from pipeline.shot.sidecar import SIDECAR
from pipeline.shot.values import FrameJoints, Motion, Shot

HALF_PASSES = frozenset({"depth", "normal", "motion"})  # those that may be 16-bit floats: half the bytes
LARGEST_ID = 65535  # ids are 16-bit PNGs


@dataclass(frozen=True)
class FramePasses:
    """A window of T frames to write. Absent passes are None; each array has T first and one H x W.

    rgb, truth uint8 RGB [T, H, W, 3]; depth float32 [T, H, W] metres; normal float32 [T, H, W, 3] camera
    space; motion pixels; ids [T, H, W] = 256 * figure + part; visible uint8 [T, H, W]; joints one per frame.
    """

    rgb: UInt8Array
    depth: Float32Array | None = None
    normal: Float32Array | None = None
    motion: Motion | None = None
    ids: UInt32Array | None = None
    visible: UInt8Array | None = None
    truth: UInt8Array | None = None
    joints: tuple[FrameJoints, ...] = ()


def write_shot(
    root: Path,
    windows: Iterable[FramePasses],
    *,
    fps: Fraction,
    name: str | None = None,
    characters: tuple[str, ...] = (),
    first_number: int = 1,
    half: frozenset[str] = frozenset(),
    replace: bool = False,
) -> Shot:
    """Write a whole shot folder window by window and open it; memory is one window (and the joints).

    It is written beside `root` and renamed, so a kill leaves no half shot. `half` names the passes stored as
    16-bit floats. Raises OutputError when `root` is there (unless `replace`) or the system refuses; ShotError
    when what was written does not make a shot (a pass that only some windows have).
    """
    if root.exists() and not replace:
        raise OutputError(f"{root}: is already there; expected a new folder; remove it or choose another")
    partial = root.with_name(f".{root.name}{PARTIAL}")
    joints: list[FrameJoints] = []
    number = first_number
    with writing(root):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for passes in windows:
                write_frame_passes(partial, number, passes, half=half)
                joints.extend(passes.joints)
                number += len(passes.rgb)
            if joints:
                write_joints(partial / JOINTS_FILE, joints)
            write_sidecar(partial, fps=fps, name=name or root.name, characters=characters)
            open_shot(partial)
            if root.exists():
                shutil.rmtree(root)
            partial.rename(root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return open_shot(root)


def write_frame_passes(
    root: Path, first_number: int, passes: FramePasses, *, half: frozenset[str] = frozenset()
) -> None:
    """Write one window's image passes as `<pass>/<pass>.0001.<png|exr>`, numbered from `first_number`.

    Joints are not written here: they are one file for the shot (`write_joints`). Raises OutputError, and
    ValueError for arrays that do not belong together.
    """
    unknown = half - HALF_PASSES
    if unknown:
        raise ValueError(f"half names {sorted(unknown)}; expected some of {sorted(HALF_PASSES)}")
    _check_window(passes, first_number)
    for name, write in WRITERS.items():
        values = getattr(passes, name)
        if values is None:
            continue
        suffix = "exr" if name in HALF_PASSES else "png"
        for offset in range(len(passes.rgb)):
            path = root / name / f"{name}.{first_number + offset:04d}.{suffix}"
            write(path, values, offset, name in half)


def write_sidecar(root: Path, *, fps: Fraction, name: str, characters: tuple[str, ...] = ()) -> None:
    """Write shot.toml. Raises OutputError."""
    lines = [f'fps = "{fps.numerator}/{fps.denominator}"', f"name = {json.dumps(name)}"]
    if characters:
        lines.append(f"characters = {json.dumps(list(characters))}")  # a JSON list of strings is also TOML
    write_text(root / SIDECAR, "\n".join(lines) + "\n")


def write_motion_encoding(shot: Shot, encoding: MotionEncoding) -> Path:
    """Note how the motion pass was written as `[motion]` in the shot's shot.toml; the rest of it is kept.

    Returns the sidecar's path. Raises OutputError, and ShotError where the shot is no folder.
    """
    return _write_section(shot, "motion", motion_table(encoding))


def write_depth_encoding(shot: Shot, encoding: DepthEncoding) -> Path:
    """The same for the depth pass, as `[depth]`."""
    return _write_section(shot, "depth", depth_table(encoding))


def _write_section(shot: Shot, name: str, table: str) -> Path:
    if not shot.root.is_dir():
        raise ShotError(f"{shot.root}: not a folder; expected a shot folder that can hold {SIDECAR}")
    path = shot.root / SIDECAR
    if path.exists():
        section = re.compile(rf"^\[{name}\]\n(?:(?!\[).*\n?)*", re.MULTILINE)
        kept = section.sub("", path.read_text(encoding="utf-8")).rstrip() + "\n"
    else:
        kept = f'fps = "{shot.fps.numerator}/{shot.fps.denominator}"\n'
    write_text(path, f"{kept}\n{table}")
    return path


def _write_picture(path: Path, values: UInt8Array, index: int, half: bool) -> None:
    write_png(path, values[index])


def _write_depth(path: Path, values: Float32Array, index: int, half: bool) -> None:
    write_channels(path, {DEPTH_CHANNELS[0]: values[index]}, half=half)


def _write_normal(path: Path, values: Float32Array, index: int, half: bool) -> None:
    planes = {name: values[index, ..., axis] for axis, name in enumerate(NORMAL_CHANNELS)}
    write_channels(path, planes, half=half)


def _write_motion(path: Path, values: Motion, index: int, half: bool) -> None:
    flow = np.concatenate([values.forward[index], values.backward[index]], axis=-1)  # [H, W, 4]
    write_channels(path, {name: flow[..., i] for i, name in enumerate(MOTION_CHANNELS)}, half=half)


def _write_ids(path: Path, values: UInt32Array, index: int, half: bool) -> None:
    if int(values[index].max()) > LARGEST_ID:
        raise ValueError(f"ids reach {values[index].max()}; expected at most {LARGEST_ID} = 255 figures")
    write_png(path, values[index].astype(np.uint16))


WRITERS: dict[str, Callable[[Path, Any, int, bool], None]] = {
    "rgb": _write_picture,
    "depth": _write_depth,
    "normal": _write_normal,
    "motion": _write_motion,
    "ids": _write_ids,
    "visible": _write_picture,
    "truth": _write_picture,
}


def _check_window(passes: FramePasses, first_number: int) -> None:
    size = passes.rgb.shape[:3]  # T, H, W
    arrays: dict[str, NDArray[Any] | None] = {
        "depth": passes.depth,
        "normal": passes.normal,
        "forward": passes.motion.forward if passes.motion else None,
        "backward": passes.motion.backward if passes.motion else None,
        "ids": passes.ids,
        "visible": passes.visible,
        "truth": passes.truth,
    }
    for name, array in arrays.items():
        if array is not None and array.shape[:3] != size:
            raise ValueError(f"{name} is {array.shape}; expected [T, H, W] = {size} as rgb")
    numbers = list(range(first_number, first_number + size[0]))
    joint_numbers = [joints.frame for joints in passes.joints]
    if joint_numbers and joint_numbers != numbers:
        raise ValueError(f"joints of frames {joint_numbers}; expected {numbers}, one for each frame")
