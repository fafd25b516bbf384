"""Restyle a batch of frames: encode, noise, denoise under prompt and controls, decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from pipeline.diffuse.guide import Guide
from pipeline.diffuse.schedulers import build_scheduler, executed_timesteps
from pipeline.diffuse.settings import Img2ImgSettings, KnownPixels
from pipeline.models import Model, decode_latents, encode_images


@torch.inference_mode()
def img2img(
    model: Model,
    frames: npt.NDArray[np.uint8],  # [B, H, W, 3]
    controls: Mapping[str, npt.NDArray[np.uint8]],  # kind -> [B, H, W, 3]
    settings: Img2ImgSettings,
    seeds: Sequence[int],  # [B]
    *,
    known: KnownPixels | None = None,
) -> npt.NDArray[np.uint8]:
    """Restyle `frames`, each with its own noise, together in one batch.

    `frames` uint8 RGB [B, H, W, 3], sides multiples of the family's size; `controls` holds a control image
    per frame for each kind that `settings.controls` uses (others are ignored); `seeds` one integer per frame,
    drawn on the CPU, so that a frame's noise depends neither on its batch nor on the device. Returns uint8
    RGB [B, H, W, 3].
    Raises ModelError for a control without its image or ControlNet, a size the model cannot take, a prompt
    with `<lora:...>`; ValueError for arrays whose shapes disagree. SDEdit (Meng et al. 2021) with ControlNets
    (Zhang et al. 2023).
    """
    return decode_latents(model, denoise(model, frames, controls, settings, seeds, known=known))


@torch.inference_mode()
def denoise(
    model: Model,
    frames: npt.NDArray[np.uint8],  # [B, H, W, 3]
    controls: Mapping[str, npt.NDArray[np.uint8]],  # kind -> [B, H, W, 3]
    settings: Img2ImgSettings,
    seeds: Sequence[int],  # [B]
    *,
    known: KnownPixels | None = None,
) -> torch.Tensor:
    """`img2img` up to the decoder: latents float32 [B, C, h, w]."""
    _check_shapes(frames, seeds, known)
    scheduler = build_scheduler(settings.scheduler, model.scheduler_config)
    clean = encode_images(model, frames)  # [B, C, h, w]
    timesteps = executed_timesteps(
        scheduler, steps=settings.steps, executed=settings.executed_steps, device=model.device
    )
    if len(timesteps) == 0:
        return clean
    noise = _noise(clean, seeds)  # [B, C, h, w]
    guide = Guide.prepare(model, controls, settings, frames.shape[:3])
    latents: torch.Tensor
    if settings.strength == 1.0:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = _add_noise(scheduler, clean, noise, timesteps[0])
    anchor = None if known is None else _Anchor.prepare(model, known, scheduler, latents, timesteps[0])
    with guide.hints_given():
        for i, t in enumerate(timesteps):
            if anchor is not None and i / len(timesteps) < anchor.until:
                latents = anchor.pull(scheduler, latents, t)
            noisy = scheduler.scale_model_input(latents, t)
            prediction = guide.predict(noisy, t, i, len(timesteps))
            latents = scheduler.step(prediction, t, latents, return_dict=False)[0]
    return latents


def _check_shapes(frames: npt.NDArray[np.uint8], seeds: Sequence[int], known: KnownPixels | None) -> None:
    if frames.ndim != 4 or len(seeds) != len(frames):
        raise ValueError(
            f"img2img: frames {frames.shape} and {len(seeds)} seeds; expected [B, H, W, 3] and B"
        )
    if known is not None and (known.pixels.shape != frames.shape or known.mask.shape != frames.shape[:3]):
        raise ValueError(
            f"img2img: known pixels {known.pixels.shape}, mask {known.mask.shape}, frames {frames.shape}; "
            "expected [B, H, W, 3], [B, H, W], [B, H, W, 3]"
        )


def _noise(like: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
    """Unit noise [B, C, h, w]: one CPU generator per frame."""
    rows = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(like.device)


def _add_noise(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    noisy: torch.Tensor = scheduler.add_noise(clean, noise, t.repeat(len(clean)))
    return noisy


@dataclass(frozen=True)
class _Anchor:
    """Known pixels as latents on the way from where denoising starts to them.

    That way is the one a deterministic sampler takes when the model predicts the known pixels at every step:
    the noise that turns them into the starting latents stays the same and only shrinks. Plain noise instead
    would show the model a frame that starts afresh from the known pixels, to be styled once more.
    """

    clean: torch.Tensor  # [B, C, h, w]
    mask: torch.Tensor  # [B, 1, h, w]
    noise: torch.Tensor  # [B, C, h, w] what leads from `clean` to the start
    until: float

    @classmethod
    def prepare(
        cls, model: Model, known: KnownPixels, scheduler: Any, start: torch.Tensor, first: torch.Tensor
    ) -> _Anchor:
        """`start` [B, C, h, w]: the latents at timestep `first`."""
        mask = torch.from_numpy(np.ascontiguousarray(known.mask, np.float32)).to(start.device)[:, None]
        small = F.interpolate(mask, size=start.shape[-2:], mode="area")  # [B, 1, h, w]
        clean = encode_images(model, known.pixels)
        nothing = torch.zeros_like(clean)
        signal = _add_noise(scheduler, clean, nothing, first)
        sigma = _add_noise(scheduler, nothing, torch.ones_like(clean), first)
        return cls(clean=clean, mask=small, noise=(start - signal) / sigma, until=known.until)

    def pull(self, scheduler: Any, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Latents at step t, under the mask those on the known pixels' way."""
        target = _add_noise(scheduler, self.clean, self.noise, t)
        return torch.lerp(latents, target, self.mask)
