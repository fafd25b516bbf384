"""Training the miniature's autoencoder: 64-pixel crops of both looks, an L1 and gradient loss that counts hue
apart, a light KL, and a penalty on latent channels that say the same. Three of the four channels start as the
picture's colour in small.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pipeline.steady.picture import psnr
from samples.miniature.data import Images

CROP = 64
BATCH = 16
PEAK_RATE = 2.5e-3
KL_WEIGHT = 2e-5
HUE_WEIGHT = 2.0
COPY_WEIGHT = 0.02
COLOUR_WEIGHT = 1.0  # of the start as colours in small; it falls to 0 ...
COLOUR_SHARE = 0.5  # ... over this share of the training


def autocast(device: str, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast where asked, else nothing."""
    if precision == "bf16":
        return torch.autocast(device.split(":")[0], dtype=torch.bfloat16)
    return contextlib.nullcontext()


def crops(images: Images, rng: np.random.Generator, batch: int) -> torch.Tensor:
    """Random crops [B, 3, 64, 64] in [-1, 1]; one in five of the engine look."""
    out = np.empty((batch, CROP, CROP, 3), np.uint8)
    for b in range(batch):
        index, y, x = int(rng.integers(len(images))), *rng.integers(0, 128 - CROP + 1, size=2)
        window = (slice(y, y + CROP), slice(x, x + CROP))
        out[b] = images.engine[index][window][..., None] if rng.random() < 0.2 else images.film[index][window]
        if rng.random() < 0.5:
            out[b] = out[b, :, ::-1]
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def reconstruction_loss(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 of pixels and of their gradients at two scales: edges count, blur does not pay."""
    loss = F.l1_loss(out, target)
    for _ in range(2):
        for axis in (-1, -2):
            loss = loss + 0.5 * F.l1_loss(out.diff(dim=axis), target.diff(dim=axis))
        out, target = F.avg_pool2d(out, 2), F.avg_pool2d(target, 2)
    return loss + F.l1_loss(out, target) + HUE_WEIGHT * F.l1_loss(opponents(out), opponents(target))


def opponents(pictures: torch.Tensor) -> torch.Tensor:
    """Red against green and blue against yellow, [B, 2, H, W] of RGB [B, 3, H, W].

    Most of a picture's energy is lightness: without a term of their own an autoencoder of four channels spent
    them on lightness and blue against yellow, and nothing it painted was green (docs/log.md).
    """
    red, green, blue = pictures.unbind(dim=1)
    return torch.stack([red - green, blue - (red + green) / 2.0], dim=1)


def colours_in_small(pictures: torch.Tensor) -> torch.Tensor:
    """What the first three latent channels start as: lightness and both opponents of blocks of 4 x 4 pixels.

    [B, 3, H / 4, W / 4] of RGB [B, 3, H, W] in [-1, 1], each about as wide as the latents will be. Left to
    itself the autoencoder finds red against green last of all: after 24,000 crops 0.7 of it came back.
    """
    lightness = pictures.mean(dim=1, keepdim=True)
    return F.avg_pool2d(torch.cat([2.0 * lightness, 4.0 * opponents(pictures)], dim=1), 4)


def copies(latents: torch.Tensor) -> torch.Tensor:
    """Mean squared correlation between latent channels, in [0, 1]; 1 where all say the same.

    `latents`: [B, C, h, w].
    """
    flat = latents.transpose(0, 1).flatten(1)  # [C, B * h * w]
    flat = flat - flat.mean(dim=1, keepdim=True)
    unit = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-6)
    correlation = unit @ unit.T
    num = len(correlation)
    others: torch.Tensor = correlation.square().sum() - correlation.diagonal().square().sum()
    return others / (num * (num - 1))


def train_vae(
    vae: Any,
    images: Images,
    checkpoint: Path,
    *,
    minutes: float,
    device: str,
    precision: str,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Train in place for a number of minutes, then centre and scale the latents to zero mean and unit spread.

    The state is kept in `checkpoint` every minute; a run that finds one goes on from it.
    """
    vae.to(device).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    seconds, step = 0.0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        vae.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        seconds, step = state["seconds"], state["step"]
    rng = np.random.default_rng((seed, step))
    saved, clock = seconds, time.monotonic()
    while (share := seconds / (60.0 * minutes)) < 1.0:
        rate = PEAK_RATE * min(1.0, (step + 1) / 100) * min(1.0, (1.0 - share) / 0.5)
        for group in optimizer.param_groups:
            group["lr"] = rate
        lead = COLOUR_WEIGHT * max(0.0, 1.0 - share / COLOUR_SHARE)
        loss = _vae_step(vae, optimizer, crops(images, rng, BATCH).to(device), precision, lead=lead)
        step += 1
        seconds, clock = seconds + time.monotonic() - clock, time.monotonic()
        if step % 100 == 0:
            quality = reconstruction_psnr(vae, images, device)
            log(
                f"vae: step {step}, {step * BATCH} crops, loss {loss:.4f}, {quality:.2f} dB, {share:.0%} done"
            )
        if seconds - saved > 60.0:
            saved = seconds
            whole = {
                "weights": vae.state_dict(),
                "optimizer": optimizer.state_dict(),
                "seconds": seconds,
                "step": step,
            }
            torch.save(whole, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    vae.eval()
    centre_latents(vae, images, device)


def _vae_step(
    vae: Any, optimizer: torch.optim.Optimizer, batch: torch.Tensor, precision: str, *, lead: float
) -> float:
    batch = batch.contiguous(memory_format=torch.channels_last)
    with autocast(batch.device.type, precision):
        posterior = vae.encode(batch).latent_dist
        noise = torch.exp(0.5 * posterior.logvar) * torch.randn_like(posterior.mean)
        out = vae.decode(posterior.mean + noise).sample
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean**2 + logvar.exp() - 1.0 - logvar).mean()
    loss = reconstruction_loss(out.float(), batch) + KL_WEIGHT * kl + COPY_WEIGHT * copies(mean)
    loss = loss + lead * F.mse_loss(mean[:, :3], colours_in_small(batch))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def encode(vae: Any, pictures: np.ndarray[Any, Any], device: str) -> torch.Tensor:
    """Latent means [N, 4, 32, 32] float16 of uint8 [N, H, W, 3], scaled."""
    out = []
    for begin in range(0, len(pictures), 64):
        part = torch.from_numpy(np.ascontiguousarray(pictures[begin : begin + 64])).permute(0, 3, 1, 2)
        mean = vae.encode(part.to(device).float() / 127.5 - 1.0).latent_dist.mean * vae.config.scaling_factor
        out.append(mean.half().cpu())
    return torch.cat(out)


@torch.no_grad()
def reconstruction_psnr(vae: Any, images: Images, device: str, num: int = 16) -> float:
    """Mean reconstruction PSNR in dB over the last `num` film images."""
    truth = images.film[-num:]
    batch = torch.from_numpy(truth).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1.0
    out = vae.decode(vae.encode(batch).latent_dist.mean).sample
    pictures = ((out + 1.0) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return float(np.mean([psnr(ours, film) for ours, film in zip(pictures, truth, strict=True)]))


@torch.no_grad()
def centre_latents(vae: Any, images: Images, device: str) -> None:
    """Fold the latents' mean into the 1x1 convolutions around them and their spread into `scaling_factor`.

    One factor for all channels, so that coarse structure stays strong under noise.
    """
    latents = encode(vae, images.film[:512], device).float() / vae.config.scaling_factor
    mean = latents.mean(dim=(0, 2, 3)).to(device)
    vae.quant_conv.bias[:4] -= mean
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    spread = float((latents - mean.cpu()[None, :, None, None]).std())
    vae.register_to_config(scaling_factor=1.0 / spread)
