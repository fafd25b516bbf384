"""What a general image model (DINOv2, CLIP) makes of a picture, for images that are not the stage's.

Nothing is fetched: the model is a folder, or lies in the hub's cache.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.image import UInt8Array
from pipeline.models.hub import hub_snapshot, is_hub_id

FloatArray = NDArray[np.float64]

USUAL_MODELS = (
    "facebook/dinov2-base",
    "facebook/dinov2-small",
    "openai/clip-vit-large-patch14",
    "openai/clip-vit-base-patch32",
)
_FILES = ("*.json", "*.safetensors")
_BATCH = 16


@dataclass(frozen=True)
class Features:
    """A model's name, and N pictures uint8 RGB [H, W, 3] -> their features [N, D], unit length."""

    name: str
    look: Callable[[Sequence[UInt8Array]], FloatArray]


def find_features() -> Features:
    """The first of `USUAL_MODELS` that is in the hub's cache. Raises `ModelError` where none is."""
    for name in USUAL_MODELS:
        with contextlib.suppress(ModelError):
            return load_features(name)
    raise ModelError(f"no general image model is in the hub's cache ({', '.join(USUAL_MODELS)})")


def load_features(name: str | Path, *, device: str = "cpu") -> Features:
    """A vision model of transformers (DINOv2, CLIP, ViT ...), from a folder or the hub's cache.

    Raises `ModelError`: not there, or not a model of images with its processor, or no .safetensors.
    """
    folder = _folder(name)
    import torch
    from transformers import AutoImageProcessor, AutoModel

    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            whole: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
    except Exception as error:  # transformers raises whatever it meets: OSError, KeyError, ValueError ...
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(f"{folder}: is no image model that transformers reads ({reason})") from None
    network: Any = getattr(whole, "vision_model", whole).to(device).eval()  # of CLIP the half that sees
    if network.main_input_name != "pixel_values":
        raise ModelError(f"{folder}: is a model of {network.main_input_name}, not of images")

    def look(pictures: Sequence[UInt8Array]) -> FloatArray:
        parts = []
        for start in range(0, len(pictures), _BATCH):
            inputs = processor(images=list(pictures[start : start + _BATCH]), return_tensors="pt").to(device)
            with torch.inference_mode():
                seen = network(**inputs).last_hidden_state[:, 0]  # the class token
            parts.append(torch.nn.functional.normalize(seen.double(), dim=1).cpu().numpy())
        return np.concatenate(parts)

    return Features(str(name), look)


def _folder(name: str | Path) -> Path:
    if is_hub_id(name):
        try:
            return hub_snapshot(str(name), offline=True, allow_patterns=_FILES)
        except ModelError:
            raise ModelError(
                f"--model {name}: is not in the hub's cache, and nothing is fetched here; give its folder"
            ) from None
    if not (Path(name) / "config.json").is_file():
        raise ModelError(f"--model {name}: no config.json there; expected a folder of an image model")
    return Path(name)
