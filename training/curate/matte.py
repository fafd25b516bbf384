"""What of a picture is the subject: its mask, where there is one, else rembg's (extra `lookdev[prepare]`).

rembg fetches its networks by itself, and has some that compute elsewhere; here it only ever gets a file that
lies on this machine.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from pipeline.image import UInt8Array

Matte = Callable[[UInt8Array], UInt8Array]  # uint8 RGB [H, W, 3] -> uint8 [H, W], 255 where the subject is
USUAL_NETWORK = "u2net"


def load_matte(network: str = USUAL_NETWORK) -> Matte:
    """rembg with the network of that name, or of an .onnx file of u2net's kind.

    Raises `ModelError`, one line: rembg is not installed, or the network's file is not on this machine.
    """
    path = Path(network) if Path(network).suffix.lower() == ".onnx" else _kept(network)
    try:
        import rembg
    except ImportError:
        raise ModelError(
            "--background without masks beside the images, and --matte, need rembg, which is not installed: "
            "pip install 'lookdev[prepare]'"
        ) from None
    if not path.is_file():
        raise ModelError(f"{path}: not there; put rembg's network there (its releases have it)")
    kind = "dis_custom" if path.stem.startswith("isnet") else "u2net_custom"  # how each wants its pictures
    try:
        with _home(path.parent):  # rembg takes files from there alone
            session: Any = rembg.new_session(kind, model_path=str(path.resolve()))
    except Exception as error:  # onnxruntime raises its own kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ModelError(f"{path}: cannot be loaded by rembg ({reason})") from None

    def matte(picture: UInt8Array) -> UInt8Array:
        alpha: Any = rembg.remove(picture, session=session, only_mask=True)
        return np.asarray(alpha, np.uint8).reshape(picture.shape[:2])

    return matte


def _kept(network: str) -> Path:
    """Where rembg keeps a network of that name: under $U2NET_HOME, ~/.u2net or ~/.rembg."""
    named = os.environ.get("U2NET_HOME")
    homes = [Path(named)] if named else [Path("~/.u2net").expanduser(), Path("~/.rembg").expanduser()]
    places = [home / place for home in homes for place in (f"{network}.onnx", f"{network}/{network}.onnx")]
    return next((place for place in places if place.is_file()), places[0])


@contextlib.contextmanager
def _home(folder: Path) -> Iterator[None]:
    before = os.environ.get("U2NET_HOME")
    os.environ["U2NET_HOME"] = str(folder.resolve())
    try:
        yield
    finally:
        os.environ.pop("U2NET_HOME")
        if before is not None:
            os.environ["U2NET_HOME"] = before


def over(picture: UInt8Array, alpha: UInt8Array, colour: tuple[int, int, int]) -> UInt8Array:
    """The picture [H, W, 3] with its background, where `alpha` [H, W] is 0, in one colour; rounded."""
    share = alpha[..., None].astype(np.float32) / np.float32(255.0)
    mixed = picture.astype(np.float32) * share + np.asarray(colour, np.float32) * (1.0 - share)
    return np.asarray(np.rint(mixed), np.uint8)
