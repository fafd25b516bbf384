"""Holding frames steady: visibility, warping, blending, temporal metrics. Geometry and pixels, no models."""

from pipeline.steady.blend import Carried, carry, finish
from pipeline.steady.warp import warp

__all__ = ["Carried", "carry", "finish", "warp"]
