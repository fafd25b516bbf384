"""The loop that a user of diffusers would write: its own pipeline, one frame after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    MultiControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
)
from PIL import Image

from pipeline.diffuse import Img2ImgSettings
from pipeline.image import UInt8Array
from pipeline.models import Model


def plain_pipeline(model: Model, kinds: Sequence[str]) -> Any:
    """diffusers' ControlNet img2img pipeline on the very modules of `model`."""
    shared: dict[str, Any] = {
        "vae": model.vae,
        "text_encoder": model.text_encoder,
        "tokenizer": model.tokenizer,
        "unet": model.unet,
        "controlnet": MultiControlNetModel([model.controlnets[kind] for kind in kinds]),
        "scheduler": DDIMScheduler.from_config({"clip_sample": False, **model.scheduler_config}),
    }
    if model.text_encoder_2 is not None:
        pipe = StableDiffusionXLControlNetImg2ImgPipeline(
            **shared, text_encoder_2=model.text_encoder_2, tokenizer_2=model.tokenizer_2
        )
    else:
        pipe = StableDiffusionControlNetImg2ImgPipeline(
            **shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain_arguments(pipe: Any, settings: Img2ImgSettings) -> dict[str, Any]:
    """What `settings` are in the words of that pipeline."""
    uses = settings.controls
    return {
        "strength": settings.strength,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "prompt": settings.prompt,
        "negative_prompt": settings.negative,
        "controlnet_conditioning_scale": [use.weight for use in uses],
        "control_guidance_start": [use.start for use in uses],
        "control_guidance_end": [use.end for use in uses],
    }


def plain_frames(
    pipe: Any,
    frames: UInt8Array,  # [T, H, W, 3]
    controls: Mapping[str, UInt8Array],  # kind -> [T, H, W, 3]
    settings: Img2ImgSettings,
    seeds: Sequence[int],
    folder: Path,
) -> None:
    """Style every frame by a call of its own and save it as PNG."""
    arguments = plain_arguments(pipe, settings)
    for t, seed in enumerate(seeds):
        picture = pipe(
            image=Image.fromarray(frames[t]),
            control_image=[Image.fromarray(controls[use.kind][t]) for use in settings.controls],
            generator=torch.Generator().manual_seed(seed),
            **arguments,
        ).images[0]
        picture.save(folder / f"plain.{t + 1:04d}.png")


def plain_latents(
    pipe: Any,
    latents: torch.Tensor,  # [B, C, h, w]
    controls: Mapping[str, UInt8Array],
    settings: Img2ImgSettings,
    seeds: Sequence[int],
) -> torch.Tensor:
    """The denoised latents of a batch that starts from given ones: no posterior is drawn, so they compare."""
    out: torch.Tensor = pipe(
        image=latents,
        control_image=[
            torch.from_numpy(controls[use.kind]).permute(0, 3, 1, 2).to(latents.device).div(255.0)
            for use in settings.controls
        ],
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="latent",
        **plain_arguments(pipe, settings)
        | {"prompt": [settings.prompt] * len(seeds), "negative_prompt": [settings.negative] * len(seeds)},
    ).images
    return out
