"""Frames as an EXR sequence, half floats in linear light, for a compositor.

Styled frames are display-referred: sRGB-encoded, [0, 1]. They leave through the inverse sRGB curve (IEC
61966-2-1), so white is 1.0 and the primaries are BT.709's, OpenEXR's default: what an engine's own render at
scene-linear exposure 0 looks like. 8-bit levels survive the way there and back exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.files import writing
from pipeline.image import UInt8Array, linear_light
from pipeline.shot.exr import write_channels


def write_exr_sequence(windows: Iterable[UInt8Array], folder: Path, names: Sequence[str]) -> int:
    """Write uint8 RGB [T, H, W, 3] windows as `folder/<name>`, one name a frame in order; returns how many.

    Other EXRs in the folder are removed: they are of an earlier result. Each file appears whole or not at
    all. Raises OutputError, ValueError where names and frames differ in number.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in set(folder.glob("*.exr")) - {folder / name for name in names}:
            stale.unlink()
    frames = (frame for window in windows for frame in window)
    for name, frame in zip(names, frames, strict=True):
        linear = linear_light(frame)  # [H, W, 3]
        channels = {channel: linear[..., axis] for axis, channel in enumerate("RGB")}
        write_channels(folder / name, channels, half=True)
    return len(names)
