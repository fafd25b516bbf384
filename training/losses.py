"""Targets and weights of the denoising loss, for epsilon and v-prediction."""

from __future__ import annotations

import torch
from torch import Tensor

PREDICTION_TYPES = ("epsilon", "v_prediction")


def signal_to_noise(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """SNR = alpha_bar / (1 - alpha_bar) of each timestep, [B]; 0 at a zero-terminal-SNR schedule's end."""
    bar = alphas_cumprod.to(timesteps.device)[timesteps]
    return bar / (1.0 - bar)


def min_snr_weight(snr: Tensor, *, gamma: float, prediction_type: str) -> Tensor:
    """Loss weight per example, [B], in (0, 1] (min-SNR-gamma, Hang et al. 2023).

    epsilon: min(snr, gamma) / snr, as published. v: min(snr + 1, gamma) / (snr + 1). The published v
    weight, min(snr, gamma) / (snr + 1), vanishes with the SNR: under zero terminal SNR a LoRA would never be
    taught the first step of a render at strength 1, where light and colours are decided. At high SNR both
    fall off alike.
    """
    _check(prediction_type)
    if prediction_type == "epsilon":
        return gamma / snr.clamp(min=gamma)
    return gamma / (snr + 1.0).clamp(min=gamma)


def target(
    latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, timesteps: Tensor, *, prediction_type: str
) -> Tensor:
    """What the UNet should say, [B, C, h, w]: the noise, or v = sqrt(a) noise - sqrt(1 - a) latents.

    Source: Salimans and Ho 2022, appendix D.
    """
    _check(prediction_type)
    if prediction_type == "epsilon":
        return noise
    signal, sigma = _mix(alphas_cumprod, timesteps, latents)
    return signal * noise - sigma * latents


def add_noise(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """The forward process: sqrt(a) latents + sqrt(1 - a) noise, [B, C, h, w]."""
    signal, sigma = _mix(alphas_cumprod, timesteps, latents)
    return signal * latents + sigma * noise


def restyling_noise(
    noise: Tensor, latents: Tensor, source: Tensor, alphas_cumprod: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Noise [B, C, h, w] that puts a sample on the way img2img takes from `source` to `latents`; weights [B].

    img2img begins at timestep T = `start` [B] with sqrt(a_T) source + sqrt(1 - a_T) noise. Seen from the
    clean `latents`, that is noise + sqrt(a_T / (1 - a_T)) (source - latents), and a DDIM step that knows
    `latents` keeps it: so it is the noise at every t <= T. It is large where T is small; the weight
    1 - a_T evens that out.
    """
    signal, sigma = _mix(alphas_cumprod, start, latents)
    return noise + signal / sigma * (source - latents), sigma.square().flatten()


def weighted_mse(predicted: Tensor, wanted: Tensor, weight: Tensor, area: Tensor | None = None) -> Tensor:
    """Mean over the batch of weight [B] times each example's own mean squared error.

    With `area` [B, 1, h, w] >= 0 an example's mean is over its places as they count there. It stays a mean,
    so an example with a small mask has the same share of the loss as one with a large mask.
    """
    error = (predicted.float() - wanted.float()).square()  # [B, C, h, w]
    if area is None:
        return (weight * error.flatten(1).mean(dim=1)).mean()
    each = (area * error).flatten(1).sum(dim=1) / (area.flatten(1).sum(dim=1) * error.shape[1])  # [B]
    return (weight * each).mean()


def mask_area(mask: Tensor, *, outside: float) -> Tensor:
    """How much each place counts, for masks in [0, 1]: 1 inside, `outside` outside."""
    return outside + (1.0 - outside) * mask


def _mix(alphas_cumprod: Tensor, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    bar = alphas_cumprod.to(like.device)[timesteps].to(torch.float32).view(-1, 1, 1, 1)  # [B, 1, 1, 1]
    return bar.sqrt(), (1.0 - bar).sqrt()


def _check(prediction_type: str) -> None:
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(f"prediction type {prediction_type!r}; expected one of {PREDICTION_TYPES}")
