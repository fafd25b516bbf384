"""Known pixels as latents on the sampler's own way from where denoising starts to them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pipeline.diffuse.schedulers import restart
from pipeline.diffuse.settings import KnownPixels
from pipeline.models import Model, encode_images


@dataclass
class Anchor:
    """The latents that the sampler would hold had the model predicted the known pixels at every step.

    A second sampler runs beside the first from the same start and, where steps draw noise, with the same
    noise. Plain noise instead would show the model a frame that starts afresh from the known pixels, to be
    styled once more; and noise other than the sampler's own loses strength where the two are mixed (0.71 of
    it at half a mask).
    """

    clean: torch.Tensor  # [B, C, h, w]
    mask: torch.Tensor  # [B, 1, h, w]
    latents: torch.Tensor  # [B, C, h, w] where the second sampler is
    scheduler: Any
    further: Mapping[str, Any]  # arguments of its steps
    until: float

    @classmethod
    def prepare(
        cls,
        model: Model,
        known: KnownPixels,
        scheduler: Any,
        start: torch.Tensor,
        further: Mapping[str, Any],
    ) -> Anchor:
        """`start` [B, C, h, w]: the latents before the first step; `further`: arguments of the steps."""
        mask = torch.from_numpy(np.ascontiguousarray(known.mask, np.float32)).to(start.device)[:, None]
        further = {**further}
        if "generator" in further:
            further["generator"] = [_twin(generator) for generator in further["generator"]]
        return cls(
            clean=encode_images(model, known.pixels),
            mask=F.interpolate(mask, size=start.shape[-2:], mode="area"),
            latents=start,
            scheduler=copy.deepcopy(scheduler),
            further=further,
            until=known.until,
        )

    def pull(self, scheduler: Any, latents: torch.Tensor) -> torch.Tensor:
        """Latents before a step of `scheduler`, under the mask those on the known pixels' way."""
        restart(scheduler)
        return torch.lerp(latents, self.latents, self.mask)

    def advance(self, t: torch.Tensor) -> None:
        """One step of the second sampler, in which the known pixels are what is predicted."""
        self.scheduler.scale_model_input(self.latents, t)  # Euler's asks to be told
        prediction = _prediction(self.scheduler, self.clean, self.latents, t)
        self.latents = self.scheduler.step(prediction, t, self.latents, return_dict=False, **self.further)[0]


def _prediction(scheduler: Any, clean: torch.Tensor, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What a model that knows `clean` answers: the noise, or the velocity v = alpha eps - sigma x0."""
    times, nothing = t.repeat(len(clean)), torch.zeros_like(clean)
    signal: torch.Tensor = scheduler.add_noise(torch.ones_like(clean), nothing, times)
    noise: torch.Tensor = scheduler.add_noise(nothing, torch.ones_like(clean), times)
    epsilon = (latents - signal * clean) / noise
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return epsilon
    if kind == "sample":
        return clean
    assert kind == "v_prediction", kind
    norm = (signal.square() + noise.square()).sqrt()  # 1 but where latents are scaled by 1 / alpha
    return (signal * epsilon - noise * clean) / norm


def _twin(generator: torch.Generator) -> torch.Generator:
    """A generator that will draw the same."""
    return torch.Generator(device=generator.device).set_state(generator.get_state())
