"""The only door for pixel conversions.

A frame is uint8 RGB [H, W, 3] in [0, 255]; models see float32 RGB [3, H, W] in [-1, 1]; OpenCV sees BGR.
Torch is imported only by the two functions that need it, so that planning a shot costs no torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.files import write_bytes

if TYPE_CHECKING:
    import torch

UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]
Float32Array = NDArray[np.float32]
PngKind = Literal["rgb", "gray", "uint16"]

log = logging.getLogger(__name__)

PNG_COMPRESSION = 3  # zlib level: 4x faster than 9 for 5 % more bytes on stage frames
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xae\x42\x60\x82"
PNG_HEADER_END = 33  # the signature and IHDR, which comes first and has one size
PNG_CHUNK_FRAME = 12  # bytes of a chunk around its data: length, type, checksum
JPEG_SIGNATURE = b"\xff\xd8"
JPEG_END = b"\xff\xd9"
# What libjpeg says of damaged data, which it then fills with grey (libjpeg-turbo, jerror.h: JWRN_*).
JPEG_DAMAGE = re.compile(r"Corrupt JPEG data|Premature end of JPEG|Inconsistent progression")
CODEC_LINE = re.compile(rf"libpng |Warning: unknown JFIF|{JPEG_DAMAGE.pattern}")
_stderr_lock = threading.Lock()


def to_tensor(frames: UInt8Array, *, device: str | torch.device = "cpu") -> torch.Tensor:
    """uint8 RGB [..., H, W, 3] in [0, 255] to float32 RGB [..., 3, H, W] in [-1, 1] on `device`."""
    import torch

    if frames.dtype != np.uint8 or frames.shape[-1] != 3:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; expected uint8 [..., H, W, 3]")
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device)
    return pixels.movedim(-1, -3).contiguous().float().div(127.5).sub(1.0)  # [..., 3, H, W]


class NotFiniteError(ValueError):
    """A picture holds nan or infinity."""


def to_uint8(pixels: torch.Tensor) -> UInt8Array:
    """float RGB [..., 3, H, W] in [-1, 1] to uint8 RGB [..., H, W, 3]; clipped and rounded to nearest.

    Exact inverse of `to_tensor`. Raises NotFiniteError on nan, which would otherwise be a black pixel unseen.
    """
    import torch

    values = pixels.detach().to(torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise NotFiniteError("pixels hold nan or inf; expected floats in [-1, 1]")
    levels = values.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return cast(UInt8Array, levels.movedim(-3, -1).contiguous().cpu().numpy())


def swap_rgb_bgr(image: NDArray[Any]) -> NDArray[Any]:
    """RGB [..., 3] to BGR or back; a contiguous copy, as OpenCV wants it."""
    return np.ascontiguousarray(image[..., ::-1])


def srgb_to_linear(values: Float32Array) -> Float32Array:
    """sRGB-encoded values in [0, 1] to linear light (IEC 61966-2-1), any shape, float32."""
    x = np.asarray(values, np.float32)
    low = x / np.float32(12.92)
    high = ((np.maximum(x, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(x <= 0.04045, low, high).astype(np.float32)


def linear_to_srgb(values: Float32Array) -> Float32Array:
    """Linear light in [0, 1] to sRGB-encoded values (IEC 61966-2-1), any shape, float32. Not clipped."""
    x = np.asarray(values, np.float32)
    high = np.float32(1.055) * np.maximum(x, 0) ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(x <= 0.0031308, x * np.float32(12.92), high).astype(np.float32)


def linear_light(frames: UInt8Array) -> Float32Array:
    """uint8 sRGB [..., H, W, 3] in [0, 255] to linear light float32 [..., H, W, 3] in [0, 1]."""
    return srgb_to_linear(frames.astype(np.float32) / np.float32(255.0))


def resize(images: NDArray[Any], *, height: int, width: int) -> NDArray[Any]:
    """Resize [H, W], [H, W, 3] or [T, H, W, 3] (uint8, uint16 or float32) with antialiasing; dtype is kept.

    An axis that shrinks is area-averaged, one that grows is Lanczos-interpolated; each on its own, because
    OpenCV's area method averages neither axis as soon as one grows. Not for ids: labels do not average.
    """
    if height < 1 or width < 1:
        raise ValueError(f"size {width} x {height}; expected at least 1 x 1")
    if images.ndim == 4:
        return np.stack([resize(image, height=height, width=width) for image in images])
    image = _resize_axis(images, width, axis=1)
    return _resize_axis(image, height, axis=0)


def _resize_axis(image: NDArray[Any], size: int, *, axis: int) -> NDArray[Any]:
    old = image.shape[axis]
    if size == old:
        return image
    target = (image.shape[1], size) if axis == 0 else (size, image.shape[0])
    method = cv2.INTER_AREA if size < old else cv2.INTER_LANCZOS4
    return cast(NDArray[Any], cv2.resize(np.ascontiguousarray(image), target, interpolation=method))


def read_image(path: Path, *, error: type[UserError] = UserError) -> UInt8Array:
    """Read a PNG, JPEG or WebP as uint8 RGB [H, W, 3]; alpha is dropped, grey is repeated, 16 bits become 8.

    Raises `error` (the caller's kind of UserError) when the file is missing, truncated, damaged or not an
    image. A JPEG has no checksum: damage that still decodes as valid codes cannot be told from a picture.
    """
    return cast(UInt8Array, swap_rgb_bgr(_decode(path, cv2.IMREAD_COLOR, error)))


def read_png(path: Path, *, kind: PngKind = "rgb", error: type[UserError] = UserError) -> NDArray[Any]:
    """Read a picture by what it holds: "rgb" uint8 [H, W, 3], "gray" uint8 [H, W], "uint16" uint16 [H, W].

    "gray" and "uint16" must be stored as one channel of that depth, because they carry numbers rather than a
    picture ("uint16" also takes 8-bit files, whose numbers are the same). Raises `error` otherwise.
    """
    if kind == "rgb":
        return read_image(path, error=error)
    raw = _decode(path, cv2.IMREAD_UNCHANGED, error)
    allowed = (np.uint8,) if kind == "gray" else (np.uint8, np.uint16)
    if raw.ndim != 2 or raw.dtype not in allowed:
        channels = 1 if raw.ndim == 2 else raw.shape[2]
        expected = "8-bit" if kind == "gray" else "16-bit"
        raise error(f"{path}: holds {channels} channel(s) of {raw.dtype}; expected one {expected} channel")
    return raw if kind == "gray" else raw.astype(np.uint16)


def read_stored(path: Path, *, error: type[UserError] = UserError) -> NDArray[Any]:
    """What a PNG, JPEG or TIFF stores: uint8 or uint16, [H, W] or RGB(A) [H, W, 3 or 4].

    Raises `error` as `read_image` does, and for numbers of another kind (a TIFF of floats).
    """
    stored = _decode(path, cv2.IMREAD_UNCHANGED, error)
    if stored.dtype not in (np.uint8, np.uint16):
        raise error(f"{path}: holds {stored.dtype} numbers; expected 8 or 16 bits; export it as EXR or PNG")
    if stored.ndim == 3:
        stored = stored[..., [2, 1, 0, 3][: stored.shape[2]]]
    return stored


def read_picture(path: Path, *, error: type[UserError] = UserError) -> UInt8Array:
    """A render's PNG, JPEG or TIFF as uint8 RGB [H, W, 3]: over black where it is see-through.

    Its alpha is taken as straight, as PNG has it (W3C PNG, 13.16); 16 bits are rounded to the nearest of 8,
    grey is repeated. Raises `error` as `read_stored` does.
    """
    stored = read_stored(path, error=error)
    if stored.ndim == 2:
        stored = np.repeat(stored[..., None], 3, axis=2)
    if stored.dtype == np.uint16 or stored.shape[2] == 4:
        return over_black(stored)
    return np.ascontiguousarray(stored)


def over_black(pixels: NDArray[Any]) -> UInt8Array:
    """RGB or RGBA (straight alpha) of 8 or 16 bits, [..., H, W, 3 or 4], over black: uint8 RGB, rounded."""
    most = float(np.iinfo(pixels.dtype).max)
    colours = pixels[..., :3].astype(np.float32) * np.float32(255.0 / most)
    if pixels.shape[-1] == 4:
        colours *= pixels[..., 3:].astype(np.float32) / np.float32(most)
    return cast(UInt8Array, np.rint(colours).astype(np.uint8))


def _decode(path: Path, flags: int, error: type[UserError]) -> NDArray[Any]:
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror}); check the path") from reason
    if not data:
        raise error(f"{path}: the file is empty; expected an image; write it again")
    # OpenCV may fill the missing rows of a truncated file and say nothing, so look for its end.
    cut_png = data.startswith(PNG_SIGNATURE) and PNG_END not in data[-64:]
    cut_jpeg = data.startswith(JPEG_SIGNATURE) and JPEG_END not in data[-4096:]
    if cut_png or cut_jpeg:
        raise error(f"{path}: the file is cut short ({len(data)} bytes); write it again")
    with _codec_messages() as messages:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            image = None
    if image is None:
        raise error(
            f"{path}: not a readable image (PNG, JPEG, TIFF or WebP expected), or corrupt; write it again"
        )
    for message in messages:
        if JPEG_DAMAGE.match(message):
            raise error(f"{path}: the file is damaged ({message}); write it again")
        log.info("%s: %s", path, message)
    return cast(NDArray[Any], image)


def is_whole_png(path: Path) -> bool:
    """Whether `path` is a PNG whose chunks fit their checksums up to the end mark; nothing is decoded."""
    return _png_chunks(path) is not None


def png_text(path: Path, keyword: str) -> str | None:
    """What a whole PNG says by a keyword in Latin-1 (`write_png`); None where it says nothing, or is none."""
    for kind, data in _png_chunks(path) or ():
        name, _, text = data.partition(b"\0")
        if kind == b"tEXt" and name == keyword.encode("latin-1"):
            return text.decode("latin-1")
    return None


def _png_chunks(path: Path) -> list[tuple[bytes, bytes]] | None:
    """The chunks (kind, data) of a whole PNG, else None."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    at, chunks = len(PNG_SIGNATURE), list[tuple[bytes, bytes]]()
    if data[:at] != PNG_SIGNATURE:
        return None
    while at + PNG_CHUNK_FRAME <= len(data):
        end = at + PNG_CHUNK_FRAME + int.from_bytes(data[at : at + 4], "big")
        checksum = int.from_bytes(data[end - 4 : end], "big")
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != checksum:
            return None
        chunks.append((data[at + 4 : at + 8], data[at + 8 : end - 4]))
        if chunks[-1][0] == PNG_END[:4]:
            return chunks
        at = end
    return None


@contextlib.contextmanager
def _codec_messages() -> Iterator[list[str]]:
    """Collect the lines that libjpeg and libpng write to the process's stderr; all other lines go through.

    OpenCV has no other door to them, and they are the only sign of a damaged JPEG: its pixels come back all
    the same.
    """
    messages: list[str] = []
    with _stderr_lock, tempfile.TemporaryFile() as caught:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            stderr = os.dup(2)
        except OSError:  # closed, as for a process without a console: then nothing can be heard
            yield messages
            return
        os.dup2(caught.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                text = line.decode(errors="replace").rstrip()
                if CODEC_LINE.match(text):
                    messages.append(text)
                else:  # another thread's, while the picture was decoded
                    os.write(2, line)


def write_png(
    path: Path,
    image: NDArray[Any],
    *,
    compression: int = PNG_COMPRESSION,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write uint8 RGB [H, W, 3], uint8 [H, W] or uint16 [H, W] as a PNG, whole or not at all.

    `texts`: what the file says beside its pixels, by keyword ("parameters"). Raises OutputError when the
    system refuses, ValueError for another shape or dtype.
    """
    data = encode_png(image, compression=compression)
    chunks = b"".join(_text_chunk(key, text) for key, text in (texts or {}).items())
    write_bytes(path, data[:PNG_HEADER_END] + chunks + data[PNG_HEADER_END:])


def _text_chunk(keyword: str, text: str) -> bytes:
    """A PNG chunk that holds a text: tEXt where Latin-1 has its letters, else iTXt (PNG 1.2, 4.2.3)."""
    try:
        kind, data = b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:  # two zeros: not compressed; then no language, no translated keyword
        kind, data = b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8")
    checksum = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + checksum


def encode_png(image: NDArray[Any], *, compression: int = PNG_COMPRESSION) -> bytes:
    """PNG bytes of uint8 RGB [H, W, 3], uint8 [H, W] or uint16 [H, W]; the same for the same input."""
    colour = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    plain = image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
    if not (colour or plain):
        raise ValueError(f"image is {image.dtype} {image.shape}; not uint8 [H, W, 3] or uint8/16 [H, W]")
    pixels = swap_rgb_bgr(image) if colour else np.ascontiguousarray(image)
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, compression])
    assert done, "OpenCV encodes every 8- and 16-bit array of these shapes"
    return data.tobytes()
