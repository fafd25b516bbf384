"""img2img with ControlNets over a batch of frames.

The settings are light; `img2img` and `Regions` load torch and diffusers at their first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.diffuse.settings import (
    SCHEDULER_NAMES,
    ControlUse,
    Img2ImgSettings,
    KnownPixels,
    Prompts,
    Region,
)

if TYPE_CHECKING:
    from pipeline.diffuse.denoise import img2img, start_noise
    from pipeline.diffuse.regions import Regions

_HOMES = {"img2img": "denoise", "start_noise": "denoise", "Regions": "regions"}

__all__ = [
    "SCHEDULER_NAMES",
    "ControlUse",
    "Img2ImgSettings",
    "KnownPixels",
    "Prompts",
    "Region",
    "Regions",
    "img2img",
    "start_noise",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
