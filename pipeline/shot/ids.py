"""Object ids as renderers write them: numbers, the colours of a segmentation, Cryptomatte hashes.

An id is a uint32 that is the same wherever its object is seen; 0 is the background. A Cryptomatte's id is its
hash (specification 1.2.0: a MurmurHash3 stored as the bits of a float), of the object that covers most.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import ShotError
from pipeline.image import UInt32Array, read_stored
from pipeline.shot.exr import read_channels
from pipeline.shot.exr_header import whole_parts
from pipeline.shot.layers import CRYPTOMATTE

MOST_EXACT = 2**24  # whole numbers that a float32 still counts one by one


def read_ids(path: Path, channels: tuple[str, ...], view: str | None) -> UInt32Array:
    """The ids of one frame, uint32 [H, W], from a PNG or TIFF, or from an EXR's channel. Raises ShotError.

    A picture's one channel is the id; three are a colour of a segmentation mask, r * 65536 + g * 256 + b.
    """
    if not channels:
        return _from_picture(path)
    (plane,) = read_channels(path, channels, view=view)
    if CRYPTOMATTE.search(channels[0]):
        return np.ascontiguousarray(plane).view(np.uint32)
    whole = np.rint(plane)
    if not (np.isfinite(plane).all() and (plane >= 0).all() and (whole <= MOST_EXACT).all()):
        raise ShotError(
            f"{path}: its ids ({channels[0]}) hold nan, inf or numbers outside 0-{MOST_EXACT}; "
            "expected whole numbers; export the index pass without filtering"
        )
    return whole.astype(np.uint32)


def _from_picture(path: Path) -> UInt32Array:
    stored = read_stored(path, error=ShotError)
    if stored.ndim == 2:
        return stored.astype(np.uint32)
    if stored.dtype != np.uint8:
        raise ShotError(
            f"{path}: holds {stored.shape[2]} channels of 16 bits; expected one, or colours of 8 bits; "
            "export the ids again"
        )
    red, green, blue = (stored[..., channel].astype(np.uint32) for channel in range(3))
    return ((red << 16) | (green << 8) | blue).astype(np.uint32)


def by_palette(colours: UInt32Array, palette: Mapping[int, int]) -> UInt32Array:
    """Colours [H, W] as the ids that a palette gives them; without one they are ids themselves.

    A colour that is not in the palette is background.
    """
    if not palette:
        return colours
    known = np.array(sorted(palette), np.uint32)
    ids = np.array([palette[int(colour)] for colour in known], np.uint32)
    place = np.minimum(np.searchsorted(known, colours), len(known) - 1)
    return np.where(known[place] == colours, ids[place], np.uint32(0)).astype(np.uint32)


def id_names(path: Path, channels: tuple[str, ...]) -> Mapping[int, str]:
    """Id -> object's name from a Cryptomatte's manifest; empty where there is none. Raises ShotError."""
    if not channels or not CRYPTOMATTE.search(channels[0]):
        return {}
    layer = CRYPTOMATTE.search(channels[0])
    assert layer is not None
    kind = layer[0][:-2].lower()  # without the rank's two digits
    for part in whole_parts(path):
        for key, name in part.texts.items():
            if key.endswith("/name") and name.lower().endswith(kind):
                manifest = part.texts.get(key.removesuffix("name") + "manifest", "{}")
                return _parse_manifest(path, manifest)
    return {}


def _parse_manifest(path: Path, text: str) -> dict[int, str]:
    try:
        return {int(str(value), 16): str(name) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise ShotError(
            f"{path}: its Cryptomatte's manifest is not JSON of names and hashes; export it again"
        ) from error
