"""img2img with ControlNets over a batch of frames.

The settings are light; `img2img` loads torch and diffusers at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.diffuse.settings import SCHEDULER_NAMES, ControlUse, Img2ImgSettings, KnownPixels, Prompts

if TYPE_CHECKING:
    from pipeline.diffuse.denoise import img2img, start_noise

__all__ = [
    "SCHEDULER_NAMES",
    "ControlUse",
    "Img2ImgSettings",
    "KnownPixels",
    "Prompts",
    "img2img",
    "start_noise",
]


def __getattr__(name: str) -> Any:
    if name not in ("img2img", "start_noise"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.denoise"), name)
