"""Restyle a batch of frames: encode, noise, denoise under prompt and controls, decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.diffuse.anchor import Anchor
from pipeline.diffuse.schedulers import build_scheduler, executed_timesteps, step_arguments
from pipeline.diffuse.settings import ControlUse, Img2ImgSettings, KnownPixels, Prompt
from pipeline.errors import ModelError
from pipeline.image import to_tensor
from pipeline.models import Model, decode_latents, encode_images, encode_text


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
    too long; ValueError for arrays whose shapes disagree. SDEdit (Meng et al. 2021) with ControlNets (Zhang
    et al. 2023).
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
    scheduler = build_scheduler(settings.scheduler, model.scheduler_config, spacing=settings.spacing)
    clean = encode_images(model, frames)  # [B, C, h, w]
    timesteps = executed_timesteps(
        scheduler, steps=settings.steps, executed=settings.executed_steps, device=model.device
    )
    if len(timesteps) == 0:
        return clean
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = _noise(clean, generators)  # [B, C, h, w]
    further = step_arguments(settings.scheduler, generators)
    guide = _Guide.prepare(model, controls, settings, batch=len(frames))
    latents: torch.Tensor
    if settings.strength == 1.0:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = _add_noise(scheduler, clean, noise, timesteps[0])
    anchor = None if known is None else Anchor.prepare(model, known, scheduler, latents, further)
    for i, t in enumerate(timesteps):
        if anchor is not None and i / len(timesteps) < anchor.until:
            latents = anchor.pull(scheduler, latents)
            anchor.advance(t)
        noisy = scheduler.scale_model_input(latents, t)
        prediction = guide.predict(noisy, t, i, len(timesteps))
        latents = scheduler.step(prediction, t, latents, return_dict=False, **further)[0]
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


def _noise(like: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Unit noise [B, C, h, w]: one CPU generator per frame, which goes on to draw the steps' noise."""
    rows = [torch.randn(like.shape[1:], generator=generator) for generator in generators]
    return torch.stack(rows).to(like.device)


def _add_noise(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    noisy: torch.Tensor = scheduler.add_noise(clean, noise, t.repeat(len(clean)))
    return noisy


@dataclass(frozen=True)
class _Guide:
    """Predicts noise (or velocity) under prompt and controls, with classifier-free guidance in one pass."""

    model: Model
    text: torch.Tensor  # [n * B, tokens, width]; n = 2 with guidance (negative first), else 1
    images: tuple[tuple[ControlUse, torch.Tensor], ...]  # control images in [0, 1], [n * B, 3, H, W]
    guidance: float

    @classmethod
    def prepare(
        cls,
        model: Model,
        controls: Mapping[str, npt.NDArray[np.uint8]],
        settings: Img2ImgSettings,
        *,
        batch: int,
    ) -> _Guide:
        prompts = [settings.prompt] if settings.guidance == 1.0 else [settings.negative, settings.prompt]
        text = _embeddings(model, prompts).repeat_interleave(batch, dim=0)
        images = tuple(
            (use, _control_image(model, controls, use.kind, batch).repeat(len(prompts), 1, 1, 1))
            for use in settings.controls
        )
        return cls(model=model, text=text, images=images, guidance=settings.guidance)

    def predict(self, noisy: torch.Tensor, t: torch.Tensor, step: int, num_steps: int) -> torch.Tensor:
        """float32 [B, C, h, w] from scaled noisy latents [B, C, h, w]."""
        halves = 1 if self.guidance == 1.0 else 2
        x = noisy.to(self.model.dtype).repeat(halves, 1, 1, 1)  # [n * B, C, h, w]
        down, mid = self._residuals(x, t, step, num_steps)
        out: torch.Tensor = self.model.unet(
            x,
            t,
            encoder_hidden_states=self.text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0].float()
        if halves == 1:
            return out
        without, with_prompt = out.chunk(2)
        return without + self.guidance * (with_prompt - without)

    def _residuals(
        self, x: torch.Tensor, t: torch.Tensor, step: int, num_steps: int
    ) -> tuple[list[torch.Tensor] | None, torch.Tensor | None]:
        """The sum of all ControlNets that steer this step, or nothing."""
        down: list[torch.Tensor] | None = None
        mid: torch.Tensor | None = None
        for use, image in self.images:
            if not use.steers(step, num_steps):
                continue
            more, more_mid = self.model.controlnets[use.kind](
                x,
                t,
                encoder_hidden_states=self.text,
                controlnet_cond=image,
                conditioning_scale=use.weight,
                return_dict=False,
            )
            down = list(more) if down is None else [a + b for a, b in zip(down, more, strict=True)]
            mid = more_mid if mid is None else mid + more_mid
        return down, mid


def _embeddings(model: Model, prompts: Sequence[Prompt]) -> torch.Tensor:
    """[N, tokens, width], one row for each prompt; several texts in one are added with their weights."""
    mixes = [((prompt, 1.0),) if isinstance(prompt, str) else prompt for prompt in prompts]
    encoded = encode_text(model, [text for mix in mixes for text, _ in mix])
    rows, start = [], 0
    for mix in mixes:
        part = encoded[start : start + len(mix)]  # [n, tokens, width]
        start += len(mix)
        if len(mix) > 1:
            weights = torch.tensor([weight for _, weight in mix], device=part.device)
            part = torch.einsum("n,ntw->tw", weights, part.float())[None].to(encoded.dtype)
        rows.append(part)
    return torch.cat(rows)


def _control_image(
    model: Model, controls: Mapping[str, npt.NDArray[np.uint8]], kind: str, batch: int
) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> [0, 1], [B, 3, H, W] in the model's dtype."""
    if kind not in model.controlnets:
        there = ", ".join(model.controlnets) or "none"
        raise ModelError(
            f"control '{kind}': model '{model.family.name}' has no such ControlNet; there are: {there}"
        )
    if kind not in controls:
        raise ModelError(
            f"control '{kind}': no control images were made; have: {', '.join(controls) or 'none'}"
        )
    if len(controls[kind]) != batch:
        raise ValueError(f"img2img: {len(controls[kind])} '{kind}' control images for {batch} frames")
    return to_tensor(controls[kind], device=model.device).add(1.0).div(2.0).to(model.dtype)
