"""Restyle a batch of frames: encode, noise, denoise under prompt and controls, decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.diffuse.anchor import Anchor
from pipeline.diffuse.guide import Guide
from pipeline.diffuse.joint import joint
from pipeline.diffuse.regions import Composite, Regions
from pipeline.diffuse.schedulers import build_scheduler, executed_timesteps, step_arguments
from pipeline.diffuse.settings import Img2ImgSettings, KnownPixels, Prompts
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
    prompts: Sequence[Prompts] | None = None,  # [B]
    noise: npt.NDArray[np.float32] | None = None,  # [B, C, h, w]
    together: bool = False,
    regions: Regions | None = None,
) -> npt.NDArray[np.uint8]:
    """Restyle `frames`, each with its own noise, together in one batch.

    `frames` uint8 RGB [B, H, W, 3], sides multiples of the family's size; `controls` holds a control image
    per frame for each kind that `settings.controls` uses (others are ignored); `seeds` one integer per frame,
    drawn on the CPU, so that a frame's noise depends neither on its batch nor on the device. `prompts`: what
    each frame is told, in place of the settings' prompts; `noise`: unit noise to start from, in place of the
    seeds' (the seeds still draw what steps add); `together`: the frames look at each other and at the first
    (`pipeline/diffuse/joint.py`); `regions`: parts of the frames with prompts and LoRAs of their own. Returns
    uint8 RGB [B, H, W, 3].
    Raises ModelError for a control without its image or ControlNet, a size the model cannot take, a prompt
    with `<lora:...>`; ValueError for arrays whose shapes disagree. SDEdit (Meng et al. 2021) with ControlNets
    (Zhang et al. 2023).
    """
    further: dict[str, Any] = {"known": known, "prompts": prompts, "noise": noise, "together": together}
    return decode_latents(
        model, denoise(model, frames, controls, settings, seeds, regions=regions, **further)
    )


@torch.inference_mode()
def denoise(
    model: Model,
    frames: npt.NDArray[np.uint8],  # [B, H, W, 3]
    controls: Mapping[str, npt.NDArray[np.uint8]],  # kind -> [B, H, W, 3]
    settings: Img2ImgSettings,
    seeds: Sequence[int],  # [B]
    *,
    known: KnownPixels | None = None,
    prompts: Sequence[Prompts] | None = None,  # [B]
    noise: npt.NDArray[np.float32] | None = None,  # [B, C, h, w]
    together: bool = False,
    regions: Regions | None = None,
) -> torch.Tensor:
    """`img2img` up to the decoder: latents float32 [B, C, h, w]."""
    _check_shapes(frames, seeds, known)
    scheduler = build_scheduler(settings.scheduler, model.scheduler_config, spacing=settings.spacing)
    clean = encode_images(model, frames)  # [B, C, h, w]
    timesteps = executed_timesteps(
        scheduler, steps=settings.steps, executed=settings.executed_steps, device=model.device
    )
    if len(timesteps) == 0:
        return clean
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = _noise(clean, generators)  # [B, C, h, w]
    if noise is not None:
        drawn = torch.from_numpy(noise).to(drawn)
    further = step_arguments(settings.scheduler, generators)
    shape = frames.shape[:3]
    whole = Guide.prepare(model, controls, settings, shape, prompts=prompts)
    guide: Guide | Composite = whole
    if regions is not None:
        size = clean.shape[-2:]
        guide = Composite.prepare(whole, regions, settings, shape, size=size, together=together)
    latents: torch.Tensor
    if settings.strength == 1.0:
        latents = drawn * scheduler.init_noise_sigma
    else:
        latents = _add_noise(scheduler, clean, drawn, timesteps[0])
    anchor = None if known is None else Anchor.prepare(model, known, scheduler, latents, further)
    with guide.hints_given(), joint(model, len(frames) if together else 1):
        for i, t in enumerate(timesteps):
            if anchor is not None and i / len(timesteps) < anchor.until:
                latents = anchor.pull(scheduler, latents)
                anchor.advance(t)
            noisy = scheduler.scale_model_input(latents, t)
            prediction = guide.predict(noisy, t, i, len(timesteps))
            latents = scheduler.step(prediction, t, latents, return_dict=False, **further)[0]
    return latents


def start_noise(model: Model, height: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    """The unit noise [C, h, w] that a frame of this size in pixels starts from with this seed."""
    config = model.vae.config
    shrink = 2 ** (len(config.block_out_channels) - 1)
    like = torch.empty((1, config.latent_channels, height // shrink, width // shrink))
    noise: npt.NDArray[np.float32] = _noise(like, [torch.Generator().manual_seed(seed)])[0].numpy()
    return noise


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


def _noise(like: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Unit noise [B, C, h, w]: one CPU generator per frame, which goes on to draw the steps' noise."""
    rows = [torch.randn(like.shape[1:], generator=generator) for generator in generators]
    return torch.stack(rows).to(like.device)


def _add_noise(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    noisy: torch.Tensor = scheduler.add_noise(clean, noise, t.repeat(len(clean)))
    return noisy
