"""Is there room? Asked before the first frame is rendered, not found out at the last."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.preset import Output

RESERVE_BYTES = 256 << 20  # left free for the rest of the machine
GRAIN_CRF, GRAIN_BYTES_PER_PIXEL = 14, 0.5  # x264 stays below 4 bits a pixel here even on film grain
CRF_OF_HALF = 6  # x264's rate halves with every 6 of crf
DEFAULT_OUTPUT = Output(crf=GRAIN_CRF)
EXR_BYTES_PER_PIXEL = 6.0  # three halfs, should nothing compress
# The most bits a macroblock (256 pixels) that prores_ks spends, on small frames (its source: br_tab).
PRORES_BITS = {"proxy": 300, "lt": 720, "standard": 1050, "hq": 1566, "4444": 2350}
LOSSLESS_BYTES_PER_PIXEL = 1.75  # 4:2:0 is 1.5 raw; noise costs a little more than that


def render_bytes(num_frames: int, height: int, width: int, *, output: Output = DEFAULT_OUTPUT) -> int:
    """An upper estimate of what one rendered shot takes: PNG frames (at most raw size), result, records.

    height, width: of the frames, in pixels; a video's are `output.scale` times as many each way.
    """
    pixels = num_frames * height * width
    return int(pixels * 3 + pixels * _result_bytes(output)) + (1 << 20)


def _result_bytes(output: Output) -> float:
    """Bytes that the result takes for each pixel of the frames."""
    if output.format == "png":
        return 0.0
    if output.format == "exr":
        return EXR_BYTES_PER_PIXEL
    scale = output.scale * output.scale
    if output.format == "prores":
        return PRORES_BITS[output.profile] / 8 / 256 * scale
    grain = GRAIN_BYTES_PER_PIXEL * math.exp2((GRAIN_CRF - output.crf) / CRF_OF_HALF)
    return scale * min(LOSSLESS_BYTES_PER_PIXEL, grain)


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
