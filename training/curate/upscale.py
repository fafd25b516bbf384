"""Pictures enlarged by the user's own model, through spandrel (extra `lookdev[prepare]`).

Weights are read here, not by spandrel: .safetensors, or with `allow_pickle` a .pth by torch's restricted
reader, which takes plain weights and runs no code.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from pipeline.image import UInt8Array

TILE, OVERLAP = 256, 16  # pixels: a whole photograph at once would fill the memory
_PICKLES = (".pth", ".pt", ".ckpt")


@dataclass(frozen=True)
class Upscaler:
    """A model that enlarges `scale` times; `name` is its architecture's."""

    name: str
    scale: int
    enlarge: Callable[[UInt8Array], UInt8Array]  # uint8 RGB [H, W, 3] -> [scale * H, scale * W, 3]


def load_upscaler(path: Path, *, allow_pickle: bool = False, device: str = "cpu") -> Upscaler:
    """The model of a weights file. Raises `ModelError`: spandrel is not installed, no file, no upscaler."""
    try:
        import spandrel
    except ImportError:
        raise ModelError(
            f"--upscale {path}: needs spandrel, which is not installed: pip install 'lookdev[prepare]'"
        ) from None
    import torch

    state = _read(path, allow_pickle=allow_pickle)
    try:
        model: Any = spandrel.ModelLoader(device=torch.device(device)).load_from_state_dict(
            spandrel.canonicalize_state_dict(state)
        )
    except (spandrel.UnsupportedModelError, RuntimeError, KeyError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ModelError(f"{path}: is no upscaler that spandrel knows ({reason})") from None
    fits = isinstance(model, spandrel.ImageModelDescriptor) and model.purpose == "SR"
    if not fits or model.input_channels != 3 or model.output_channels != 3 or model.scale < 2:
        raise ModelError(f"{path}: is {model.architecture.name}, which enlarges no RGB; expected an upscaler")
    model.eval().float()
    scale = int(model.scale)

    def enlarge(picture: UInt8Array) -> UInt8Array:
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).to(device)
        values = pixels.movedim(-1, 0)[None].float() / 255.0  # [1, 3, H, W]
        with torch.inference_mode():
            large = _in_tiles(model, values, scale)
        levels = large[0].movedim(0, -1).clamp(0, 1).mul(255.0).round().to(torch.uint8)
        return np.asarray(levels.cpu().numpy(), np.uint8)

    return Upscaler(model.architecture.name, scale, enlarge)


def _read(path: Path, *, allow_pickle: bool) -> dict[str, Any]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"{path}: not there; expected an upscaling model's .safetensors")
    suffix = path.suffix.lower()
    if suffix in _PICKLES and not allow_pickle:
        raise ModelError(
            f"{path}: a {suffix} file may hold more than weights; take .safetensors, or add --allow-pickle"
        )
    try:
        if suffix == ".safetensors":
            return dict(load_file(path))
        if suffix in _PICKLES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of newer pickle protocols, which it then refuses or reads
                return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, TypeError):
        raise ModelError(f"{path}: holds no plain weights, or is damaged; fetch the file again") from None
    raise ModelError(f"{path}: expected .safetensors (or .pth with --allow-pickle)")


def _in_tiles(model: Any, values: Any, scale: int) -> Any:
    """[1, 3, H, W] through the model by tiles that overlap; what lies in no seam is the whole picture's."""
    _, _, height, width = values.shape
    if height <= TILE and width <= TILE:
        return model(values)
    large = values.new_zeros((1, 3, height * scale, width * scale))
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            bottom, right = min(height, top + TILE), min(width, left + TILE)
            above, before = max(0, top - OVERLAP), max(0, left - OVERLAP)
            below, after = min(height, bottom + OVERLAP), min(width, right + OVERLAP)
            part = model(values[..., above:below, before:after])
            y, x = (top - above) * scale, (left - before) * scale
            tall, wide = (bottom - top) * scale, (right - left) * scale
            large[..., top * scale : bottom * scale, left * scale : right * scale] = part[
                ..., y : y + tall, x : x + wide
            ]
    return large
