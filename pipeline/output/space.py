"""Is there room? Asked before the first frame is rendered, not found out at the last."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.errors import OutputError

RESERVE_BYTES = 256 << 20  # left free for the rest of the machine
GRAIN_CRF, GRAIN_BYTES_PER_PIXEL = 14, 0.5  # x264 stays below 4 bits a pixel here even on film grain
CRF_OF_HALF = 6  # x264's rate halves with every 6 of crf
LOSSLESS_BYTES_PER_PIXEL = 1.75  # 4:2:0 is 1.5 raw; noise costs a little more than that


def render_bytes(num_frames: int, height: int, width: int, *, scale: int = 1, crf: int = GRAIN_CRF) -> int:
    """An upper estimate of what one rendered shot takes: PNG frames (at most raw size), video, records.

    height, width: of the frames, in pixels; the video's are `scale` times as many each way, at x264's `crf`.
    """
    pixels = num_frames * height * width
    grain = GRAIN_BYTES_PER_PIXEL * 2.0 ** ((GRAIN_CRF - crf) / CRF_OF_HALF)
    video = pixels * scale * scale * min(LOSSLESS_BYTES_PER_PIXEL, grain)
    return int(pixels * 3 + video) + (1 << 20)


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
