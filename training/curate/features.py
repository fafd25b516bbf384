"""What a general image model (DINOv2, CLIP) makes of a picture, for images that are not the stage's.

Nothing is fetched: the model is a folder, or lies in the hub's cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.image import UInt8Array
from training.curate.image_models import model_folder, reading

FloatArray = NDArray[np.float64]

USUAL_MODELS = (
    "facebook/dinov2-base",
    "facebook/dinov2-small",
    "openai/clip-vit-large-patch14",
    "openai/clip-vit-base-patch32",
)
_FILES = ("*.json", "*.safetensors")
_BATCH = 16
_CLASS_TOKENS = ("cls_token", "class_embedding")  # names of the parameter, in ViT and DINOv2, and in CLIP


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

    Its features are the class token; of a model without one what it pools, else the mean over its patches.
    Raises `ModelError`: not there, or not a model of images with its processor, or no .safetensors.
    """
    folder = model_folder(name, kind="image", files=_FILES)
    import torch
    from transformers import AutoImageProcessor, AutoModel

    with reading(folder, kind="image"):
        processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        loaded: Any = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    whole, info = loaded
    network: Any = getattr(whole, "vision_model", whole).to(device).eval()  # of CLIP the half that sees
    if network.main_input_name != "pixel_values":
        raise ModelError(f"{folder}: is a model of {network.main_input_name}, not of images")

    features_of = _choose(network, can_pool=not any("pool" in key for key in info["missing_keys"]))

    def look(pictures: Sequence[UInt8Array]) -> FloatArray:
        parts = []
        for start in range(0, len(pictures), _BATCH):
            inputs = processor(images=list(pictures[start : start + _BATCH]), return_tensors="pt").to(device)
            with torch.inference_mode():
                seen = features_of(network(**inputs))
            if seen is None:
                raise ModelError(f"{folder}: gives neither tokens nor pooled features; take another model")
            parts.append(torch.nn.functional.normalize(seen.double(), dim=1).cpu().numpy())
        return np.concatenate(parts)

    return Features(str(name), look)


def _choose(network: Any, *, can_pool: bool) -> Callable[[Any], Any]:
    """What of a model's output are its features [N, D]; that gives None where there are none.

    `can_pool`: the pooling's own weights were in the file; transformers fills in random ones else.
    """
    has_class = any(name.endswith(_CLASS_TOKENS) for name, _ in network.named_parameters())

    def features_of(output: Any) -> Any:
        tokens, pooled = output.get("last_hidden_state"), output.get("pooler_output")
        are_tokens = tokens is not None and tokens.ndim == 3  # [N, T, D], else [N, D, h, w]
        if has_class and are_tokens:
            return tokens[:, 0]
        if pooled is not None and can_pool:
            return pooled.flatten(1)
        return tokens.mean(dim=1) if are_tokens else None

    return features_of
