"""One training image with all that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.image import UInt8Array


@dataclass(frozen=True)
class Example:
    """One training image, cut to its bucket's size."""

    path: Path
    image: UInt8Array  # [H, W, 3] RGB
    caption: str
    concept: int  # index into the file's concepts
    controls: Mapping[str, UInt8Array]  # kind -> [H, W, 3] RGB
    engine: UInt8Array | None = None  # [H, W, 3] RGB, what img2img would start from
    mask: UInt8Array | None = None  # [H, W], 255 where the subject is
    original: tuple[int, int] = (0, 0)  # H, W of the picture on disk
    corner: tuple[int, int] = (0, 0)  # top, left of the cut in the picture once that is reduced
    is_mirrored: bool = False
