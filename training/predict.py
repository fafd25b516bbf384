"""UNet and ControlNets on one part of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.models import Conditioning, Model
from training.conditioning import further_arguments
from training.draws import Draw
from training.material import Material
from training.precision import autocast


def noise_schedule(config: Mapping[str, Any]) -> tuple[Tensor, str]:
    """alpha_bar [T] float32 of a scheduler's config, and what the UNet says: "epsilon" or "v_prediction"."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(dict(config))
    return scheduler.alphas_cumprod.float(), str(scheduler.config.prediction_type)


class Networks:
    """A model's UNet under its ControlNets, in one precision."""

    def __init__(self, model: Model, precision: str) -> None:
        self._model, self._precision = model, precision

    def predict(self, noisy: Tensor, said: Conditioning, material: Material, chosen: Draw) -> Tensor:
        """The UNet's output [B, C, h, w] for noisy latents, with the controls drawn for each example."""
        further = further_arguments(said, material.sizes[chosen.indices])
        timesteps = chosen.timesteps.to(noisy.device)
        with autocast(noisy.device, self._precision):
            down, mid = self._residuals(noisy, timesteps, said.tokens, further, material, chosen)
            output = self._model.unet(
                noisy,
                timesteps,
                encoder_hidden_states=said.tokens,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
                return_dict=False,
                **further,
            )
        predicted: Tensor = output[0]
        return predicted

    def _residuals(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        further: Mapping[str, Any],
        material: Material,
        chosen: Draw,
    ) -> tuple[list[Tensor] | None, Tensor | None]:
        """The ControlNets' summed residuals; each net runs only on the examples that drew it."""
        down: list[Tensor] | None = None
        mid: Tensor | None = None
        for kind, used in chosen.use_control.items():
            at = used.nonzero().flatten()
            if len(at) == 0:
                continue
            images = torch.stack([material.controls[kind][chosen.indices[i]] for i in at.tolist()])
            rows = at.to(noisy.device)
            with torch.no_grad():  # the nets are frozen, and the UNet does not change their input
                some_down, some_mid = self._model.controlnets[kind](
                    noisy[rows],
                    timesteps[rows],
                    encoder_hidden_states=tokens[rows],
                    controlnet_cond=images,
                    return_dict=False,
                    **_rows_of(further, rows),
                )
                here_down = [_spread(part, rows, len(noisy)) for part in some_down]
                here_mid = _spread(some_mid, rows, len(noisy))
            down = here_down if down is None else [a + b for a, b in zip(down, here_down, strict=True)]
            mid = here_mid if mid is None else mid + here_mid
        return down, mid


def _rows_of(further: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    return {name: {key: value[rows] for key, value in told.items()} for name, told in further.items()}


def _spread(part: Tensor, rows: Tensor, batch: int) -> Tensor:
    """Rows of a sub-batch at their places in a batch of zeros."""
    whole = part.new_zeros((batch, *part.shape[1:]))
    whole[rows] = part
    return whole
