"""Parts of the frames under prompts and LoRAs of their own, so that likenesses do not bleed.

At every step each part's noise is predicted for the whole frame with that part's words and LoRAs alone, and
the predictions are laid together by masks; the sampler then takes one step (MultiDiffusion, Bar-Tal et al.
2023, eq. 5 with one crop, the frame; "latent couple" among web UIs). Where masks are hard, a pixel is drawn
by one prediction only. A part costs a forward pass in the frames where it is, and nothing elsewhere.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from pipeline.diffuse.guide import Guide
from pipeline.diffuse.settings import Img2ImgSettings, Region
from pipeline.models import LoraStack

_NOTHING = 1e-4  # of a latent: what is left of 1 by rounding


@dataclass(frozen=True)
class Regions:
    """The regions of some frames, the stack of all LoRAs, and what of it the rest of the frame wears."""

    parts: tuple[Region, ...]
    stack: LoraStack
    loras: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Part:
    """One prediction: of the frames `rows` [b], counted by `share` [b, 1, h, w]."""

    guide: Guide
    loras: tuple[tuple[float, float], ...]
    rows: torch.Tensor
    share: torch.Tensor


@dataclass(frozen=True)
class Composite:
    """Predicts as a `Guide` does, part by part."""

    whole: Guide
    parts: tuple[_Part, ...]
    stack: LoraStack

    @classmethod
    def prepare(
        cls,
        whole: Guide,
        regions: Regions,
        settings: Img2ImgSettings,
        shape: tuple[int, ...],  # B, H, W
        *,
        size: tuple[int, ...],  # h, w
        together: bool = False,
    ) -> Composite:
        """`whole` guides all frames under their own prompts; the stack wears `regions.loras`.

        `together`: the frames look at each other, so a part that is in any of them is predicted in all, each
        in its place. Raises ValueError for masks of another shape.
        """
        shares = _shares(regions.parts, shape, size).to(whole.model.device)  # [1 + R, B, h, w]
        sets = [regions.loras, *(part.loras for part in regions.parts)]
        regions.stack.hold(sets)
        parts = []
        for part, loras, share in zip((None, *regions.parts), sets, shares, strict=True):
            there = (share > 0.0).flatten(1).any(1)  # [B]
            if not there.any():
                continue
            rows = (torch.ones_like(there) if together else there).nonzero().flatten()  # [b]
            guide = whole.of(rows)
            if part is not None:
                regions.stack.wear(loras)
                guide = guide.told([part.prompts[row] for row in rows.tolist()], settings, shape[1:])
            parts.append(_Part(guide, loras, rows, share[rows, None]))
        return cls(whole=whole, parts=tuple(parts), stack=regions.stack)

    def hints_given(self) -> contextlib.AbstractContextManager[None]:
        """As `Guide.hints_given`; the parts share the ControlNets and what these read."""
        return self.whole.hints_given()

    def predict(self, noisy: torch.Tensor, t: torch.Tensor, step: int, num_steps: int) -> torch.Tensor:
        """float32 [B, C, h, w] from scaled noisy latents [B, C, h, w]."""
        out = torch.zeros_like(noisy, dtype=torch.float32)
        for part in self.parts:
            self.stack.wear(part.loras, texts=False)
            predicted = part.guide.predict(noisy[part.rows], t, step, num_steps)
            out[part.rows] += part.share * predicted
        return out


def _shares(parts: tuple[Region, ...], shape: tuple[int, ...], size: tuple[int, ...]) -> torch.Tensor:
    """Each part's share of each latent, float32 [1 + R, B, h, w]: the rest of the frame, then the regions."""
    for part in parts:
        if part.mask.shape != shape:
            raise ValueError(f"img2img: a region's mask is {part.mask.shape}; expected {shape}")
    masks = torch.stack([torch.from_numpy(part.mask) for part in parts])  # [R, B, H, W]
    masks = F.interpolate(masks, size=tuple(size), mode="area")  # [R, B, h, w]
    rest = 1.0 - masks.sum(0, keepdim=True)
    return torch.cat([torch.where(rest < _NOTHING, 0.0, rest), masks])
