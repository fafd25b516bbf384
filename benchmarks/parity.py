"""Our frames against diffusers' own pipeline: same weights, same noise, same schedule, same controls.

    python -m benchmarks.parity                             # the miniature, frames of a sample shot
    python -m benchmarks.parity --model sd15-random --size 256 --steps 2 --frames 1

diffusers draws the starting latents from the VAE's posterior, we take its mean; so both start from ours.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.plain import plain_latents, plain_pipeline
from benchmarks.random_model import KINDS, benchmark_model
from pipeline.conform import controls_at, frames_at
from pipeline.diffuse import ControlUse, Img2ImgSettings
from pipeline.diffuse.denoise import denoise
from pipeline.models import Model, decode_latents, encode_images
from pipeline.shot import open_shot

SHOT = Path(__file__).resolve().parents[1] / "samples" / "shots" / "corridor_walk"
USES = (ControlUse("depth", 1.0), ControlUse("pose", 0.7))


def compare(model: Model, *, size: int, num_frames: int, settings: Img2ImgSettings) -> dict[str, float]:
    """max |difference| of the frames in levels of 255, and |difference| / |theirs| of the latents.

    Beside it the same for latents without controls, so that a small figure says something.
    """
    shot = open_shot(SHOT)
    frames = frames_at(shot, 0, num_frames, width=size, height=size)
    controls = controls_at(shot, KINDS, start=0, stop=num_frames, width=size, height=size)
    seeds = list(range(num_frames))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers about itself
        pipe = plain_pipeline(model, KINDS)
        with torch.inference_mode():
            theirs = plain_latents(pipe, encode_images(model, frames), controls, settings, seeds)
    ours = denoise(model, frames, controls, settings, seeds)
    alone = denoise(model, frames, {}, replace(settings, controls=()), seeds)
    pixels = [decode_latents(model, latents).astype(np.int16) for latents in (ours, theirs)]
    return {
        "frames, max |difference| of 255": float(np.abs(pixels[0] - pixels[1]).max()),
        "latents, relative difference": _relative(ours, theirs),
        "(what the controls change, relative)": _relative(alone, theirs),
    }


def _relative(latents: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((latents - theirs.float()).norm() / theirs.float().norm())


@click.command(help=__doc__)
@click.option("--model", "name", default="mini", show_default=True, help="mini, sd15-random, sdxl-random")
@click.option("--size", default=128, show_default=True, help="pixels of a side")
@click.option("--steps", default=12, show_default=True, help="executed steps")
@click.option("--frames", default=4, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(name: str, size: int, steps: int, frames: int, device: str) -> None:
    settings = Img2ImgSettings(
        "a man in a red corridor", "blurry", strength=0.5, steps=2 * steps, guidance=3.0, controls=USES
    )
    model = benchmark_model(name, device=device)
    for what, value in compare(model, size=size, num_frames=frames, settings=settings).items():
        click.echo(f"{what}: {value:.3g}")


if __name__ == "__main__":
    main()
