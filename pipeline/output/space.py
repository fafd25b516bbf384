"""Is there room? Asked before the first frame is rendered, not found out at the last."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.errors import OutputError

RESERVE_BYTES = 256 << 20  # left free for the rest of the machine
VIDEO_BYTES_PER_PIXEL = 0.5  # x264 at crf 14-18 stays below 4 bits a pixel even on film grain


def render_bytes(num_frames: int, height: int, width: int) -> int:
    """An upper estimate of what one rendered shot takes: PNG frames (at most raw size), video, records."""
    pixels = num_frames * height * width
    return int(pixels * (3 + VIDEO_BYTES_PER_PIXEL)) + (1 << 20)


def check_space(folder: Path, needed_bytes: int, *, reserve_bytes: int = RESERVE_BYTES) -> None:
    """Raise OutputError unless the disk of `folder` (which need not exist yet) holds `needed_bytes` more.

    `reserve_bytes` must stay free on top.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise OutputError(f"{place}: is a file; expected a folder to write to; choose another output folder")
    free = shutil.disk_usage(place).free
    if free < needed_bytes + reserve_bytes:
        raise OutputError(
            f"{folder}: {_size(free)} free on its disk; expected {_size(needed_bytes + reserve_bytes)} here; "
            "free some space or choose another folder"
        )


def _size(num_bytes: int) -> str:
    """A size for people: MB below 1 GB."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
