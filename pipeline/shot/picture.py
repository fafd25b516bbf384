"""A picture of a shot, whatever file holds it: uint8 RGB as a display shows it, over black."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import ShotError
from pipeline.image import Float32Array, UInt8Array, read_picture
from pipeline.shot.display import Display, to_display
from pipeline.shot.exr import read_channels

PICTURE_CHANNELS = ("R", "G", "B")
REC709 = (0.2126, 0.7152, 0.0722)  # luminance of red, green and blue light


def read_rgb(path: Path, channels: tuple[str, ...], view: str | None, display: Display) -> UInt8Array:
    """One picture, uint8 RGB [H, W, 3], from PNG, JPEG, TIFF (8 or 16 bits) or EXR (scene-linear).

    An EXR's light goes through `display`; `channels` are its R G B, its luminance and chroma, or its
    luminance. Raises ShotError for a file that is missing, damaged, or holds nan or infinite light.
    """
    if path.suffix.lower() != ".exr":
        return read_picture(path, error=ShotError)
    names = channels or PICTURE_CHANNELS
    light = _light(read_channels(path, names, view=view), names)
    wrong = ~np.isfinite(light).all(axis=2)
    if wrong.any():
        y, x = (int(place) for place in np.argwhere(wrong)[0])
        raise ShotError(
            f"{path}: {int(wrong.sum())} pixels are nan or infinite, the first at (x={x}, y={y}); expected "
            "finite light; render the frame again, or take --skip-bad"
        )
    return to_display(light, display)


def _light(planes: list[Float32Array], names: tuple[str, ...]) -> Float32Array:
    """RGB [H, W, 3] from its planes, from luminance Y and chroma RY, BY, or from luminance alone."""
    if len(planes) == 1:
        return np.repeat(planes[0][..., None], 3, axis=2)
    if names[1].rpartition(".")[2].upper() == "RY":  # OpenEXR, "Luminance/chroma images"
        luminance, red, blue = planes[0], (planes[1] + 1) * planes[0], (planes[2] + 1) * planes[0]
        green = (luminance - REC709[0] * red - REC709[2] * blue) / REC709[1]
        return np.stack([red, green, blue], axis=-1)
    return np.stack(planes, axis=-1)
