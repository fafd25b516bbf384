"""A shot's timeline as one picture: how much of each frame the keys show, and the keys themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.image import UInt8Array, resize, write_png

HEIGHT = 64  # pixels of the bars, and of the keys' pictures
WIDEST = 1600  # pixels of a long shot's strip
BACK, BAR, KEY, OTHER = (24, 24, 24), (92, 132, 150), (245, 190, 80), (120, 84, 84)


def write_strip(
    path: Path,
    shown: Sequence[float],
    spared: Sequence[bool],
    keys: Collection[int],
    picture_of: Callable[[int], UInt8Array],
) -> None:
    """One bar for each frame, as high as the share of its surface that keys show; keys stand out.

    Above it stand as many of the keys' pictures, uint8 [H, W, 3], as have room; `picture_of` is asked for
    those alone. Frames that are not `spared`, styled one by one, are red. Raises OutputError.
    """
    wide = max(2, min(12, WIDEST // len(shown)))
    strip = np.full((2 * HEIGHT + 4, wide * len(shown), 3), BACK, np.uint8)
    for t, share in enumerate(shown):
        colour = KEY if t in keys else BAR if spared[t] else OTHER
        top = 2 * HEIGHT + 4 - round(HEIGHT * (share if spared[t] else 1.0))
        strip[top:, t * wide : (t + 1) * wide - (wide > 3)] = colour
    free = 0
    for t in sorted(keys):
        if t * wide < free:
            continue
        picture = picture_of(t)
        width = min(round(HEIGHT * picture.shape[1] / picture.shape[0]), strip.shape[1])
        left = min(t * wide, strip.shape[1] - width)
        if left >= free:
            strip[:HEIGHT, left : left + width] = resize(picture[None], height=HEIGHT, width=width)[0]
            cv2.line(strip, (t * wide, HEIGHT), (t * wide, HEIGHT + 3), KEY, 1)
            free = left + width + 2
    write_png(path, strip)
