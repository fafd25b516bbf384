"""A distance of pictures as a network sees them, in the manner of LPIPS (Zhang et al. 2018).

LPIPS' own weights cannot be had without a download. The features are those of the miniature's autoencoder,
each layer's channels to unit length, squared differences averaged over the picture; no layer is weighted. So
it knows the stage's pictures only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pipeline.image import UInt8Array, to_tensor
from pipeline.models import load_model

BATCH = 16


@dataclass(frozen=True)
class Perceptual:
    """The encoder whose blocks' outputs are compared."""

    encoder: Any

    @classmethod
    def load(cls) -> Perceptual:
        """Of the built-in miniature."""
        return cls(load_model("mini", controls=(), device="cpu").vae.encoder)

    @torch.inference_mode()
    def distance(self, frames: UInt8Array, others: UInt8Array) -> float:
        """The mean over frame pairs, both uint8 RGB [T, H, W, 3]; 0 for equal pictures."""
        total = 0.0
        for start in range(0, len(frames), BATCH):
            parts = [self._features(each[start : start + BATCH]) for each in (frames, others)]
            for a, b in zip(*parts, strict=True):
                total += float((a - b).square().sum(dim=1).mean(dim=(1, 2)).sum())
        return total / len(frames)

    def _features(self, frames: UInt8Array) -> list[torch.Tensor]:
        """Each block's output, [T, C, h, w], channels of unit length."""
        x, found = self.encoder.conv_in(to_tensor(frames)), []
        for block in self.encoder.down_blocks:
            x = block(x)
            found.append(x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt())
        return found
