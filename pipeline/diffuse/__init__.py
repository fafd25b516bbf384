"""img2img with ControlNets over a batch of frames.

The settings are light; `img2img` loads torch and diffusers at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.diffuse.settings import SCHEDULER_NAMES, ControlUse, Img2ImgSettings, KnownPixels

if TYPE_CHECKING:
    from pipeline.diffuse.denoise import img2img

__all__ = ["SCHEDULER_NAMES", "ControlUse", "Img2ImgSettings", "KnownPixels", "img2img"]


def __getattr__(name: str) -> Any:
    if name != "img2img":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.denoise").img2img
