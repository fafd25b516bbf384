"""Training images as people have them: read rightly, with every conversion said, or refused in one line.

The file's header is looked at before any pixel is decoded, so a picture that would fill the memory, an
animation or a JPEG called .png costs nothing. What can be read in only one right way (16 bits, CMYK, a colour
profile, a camera's rotation) is converted and noted; what cannot (which frame of an animation?) is refused.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from pipeline.errors import DatasetError
from pipeline.image import UInt8Array, over_black, read_image, read_stored

MOST_PIXELS = 100_000_000  # 300 MB as RGB; a full-frame camera's picture has half as many
SUFFIXES_OF = {  # by what the file is, as Pillow names it; MPO: a JPEG with a second picture behind it
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
}
BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error)  # what Pillow raises of a damaged file
# EXIF's orientation -> (transpose first, flip rows, flip columns) of [H, W, C]; 1 is upright (CIPA DC-008).
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Picture:
    """A training image as it enters training, and what was done to bring it there."""

    pixels: UInt8Array  # [H, W, 3] RGB
    notes: tuple[str, ...] = ()
    """Each "what was found, what was done", for the user."""


def read_picture(path: Path) -> Picture:
    """Read a PNG, JPEG or WebP as uint8 sRGB [H, W, 3], upright.

    Raises `DatasetError`, one line: not there, empty, cut short, damaged, not an image, called by another
    format's suffix, several frames, or more than `MOST_PIXELS`.
    """
    header = _open(path)
    if header is None:  # for the reason, in the words that every picture gets
        return Picture(read_image(path, error=DatasetError))
    with header:
        _check(path, header)
        profile = header.info.get("icc_profile")
        notes: list[str] = []
        if header.mode == "CMYK":
            read_image(path, error=DatasetError)  # tells damage that Pillow would fill with grey
            pixels = _from_cmyk(header, profile, notes)
        else:
            pixels = _to_rgb(read_stored(path, error=DatasetError), notes)
            pixels = _to_srgb(pixels, profile, notes)
        turn = _turn(header, notes)
    if turn in _TURNS:
        notes.append("was taken with the camera turned (EXIF); it is used upright")
        pixels = upright(pixels, turn)
    return Picture(pixels, tuple(notes))


def upright(pixels: UInt8Array, turn: int) -> UInt8Array:
    """The picture [H, W, 3] as EXIF's orientation `turn` (1 to 8) means it to be seen."""
    swap, rows, columns = _TURNS.get(turn, (False, False, False))
    pixels = pixels.transpose(1, 0, 2) if swap else pixels
    pixels = pixels[::-1] if rows else pixels
    return np.ascontiguousarray(pixels[:, ::-1] if columns else pixels)


def _open(path: Path) -> Image.Image | None:
    """The file with its header read; None where it is no image that Pillow knows. Raises `DatasetError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own limit, and odd but readable metadata
        try:
            return Image.open(path)
        except Image.DecompressionBombError as error:
            found = re.search(r"\d+", str(error))
            raise _too_large(path, int(found[0]) if found else 2 * MOST_PIXELS) from None
        except (UnidentifiedImageError, *BROKEN):
            return None


def _check(path: Path, header: Image.Image) -> None:
    """Refuse what no conversion can mend, by the header alone."""
    kind = str(header.format)
    suffixes = SUFFIXES_OF.get(kind)
    if suffixes is None:
        raise DatasetError(f"{path}: is a {kind} file called {path.suffix}; save it as PNG")
    if path.suffix.lower() not in suffixes:
        raise DatasetError(
            f"{path}: is a {kind} file called {path.suffix}; rename it to {path.stem}{suffixes[0]}"
        )
    if header.width * header.height > MOST_PIXELS:
        raise _too_large(path, header.width * header.height)
    try:
        frames = int(getattr(header, "n_frames", 1))
    except BROKEN:
        frames = 1  # cut short or damaged: told when it is decoded
    if frames > 1 and kind != "MPO":
        raise DatasetError(f"{path}: is animated ({frames} frames); save the one that is meant as PNG")


def _turn(header: Image.Image, notes: list[str]) -> int:
    """EXIF's orientation, 1 where the file says nothing."""
    try:
        return int(header.getexif().get(ExifTags.Base.Orientation, 1))
    except (*BROKEN, TypeError):
        notes.append("has metadata (EXIF) that cannot be read; it is taken as upright")
        return 1


def _too_large(path: Path, pixels: int) -> DatasetError:
    return DatasetError(
        f"{path}: {pixels / 1e6:.0f} megapixels; expected at most {MOST_PIXELS // 1_000_000}; scale it down"
    )


def _to_rgb(stored: NDArray[Any], notes: list[str]) -> UInt8Array:
    """What a file stores, grey, RGB or RGBA of 8 or 16 bits, as uint8 RGB [H, W, 3]."""
    if stored.ndim == 2:
        stored = np.repeat(stored[..., None], 3, axis=2)
    if stored.dtype == np.uint16:
        notes.append("has 16 bits a channel; rounded to 8")
    if stored.shape[2] == 4 and (stored[..., 3] < np.iinfo(stored.dtype).max).any():
        notes.append("is see-through in places; laid over black")
        return over_black(stored)
    return over_black(np.ascontiguousarray(stored[..., :3]))


def _from_cmyk(header: Image.Image, profile: bytes | None, notes: list[str]) -> UInt8Array:
    """Print colours as sRGB: by the file's own profile, else by the plain formula."""
    if profile:
        try:
            rgb = _transform(header, profile)
            notes.append("is CMYK; converted to sRGB by its own colour profile")
            return rgb
        except (ImageCms.PyCMSError, OSError):
            pass
    notes.append("is CMYK without a usable colour profile; its colours as RGB are a guess")
    return np.asarray(header.convert("RGB"), np.uint8).copy()


def _to_srgb(pixels: UInt8Array, profile: bytes | None, notes: list[str]) -> UInt8Array:
    """Pixels of another RGB space (Display P3, Adobe RGB) as sRGB."""
    if not profile:
        return pixels
    try:
        read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(read).strip()
        if str(read.profile.xcolor_space).strip() != "RGB" or "srgb" in name.lower():
            return pixels
        converted = _transform(Image.fromarray(pixels), profile)
    except (ImageCms.PyCMSError, OSError):
        notes.append("has a colour profile that cannot be read; its colours are taken as sRGB")
        return pixels
    notes.append(f"has the colour profile '{name}'; converted to sRGB")
    return converted


def _transform(image: Image.Image, profile: bytes) -> UInt8Array:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    turned = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    assert turned is not None, "only inPlace returns nothing"
    return np.asarray(turned, np.uint8).copy()
