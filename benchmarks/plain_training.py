"""The plain training loop that ours is compared with: as in diffusers' LoRA examples, nothing cached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from pipeline.models import Model, encode_captions, inject_lora
from training.conditioning import further_arguments
from training.schema import TrainSettings


class _Folder(TorchDataset[tuple[Tensor, str]]):
    """Pictures [3, H, W] in [-1, 1] with their captions, read anew each time."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.png"))
        with Image.open(self.paths[0]) as picture:
            side = picture.width
        self.transform = transforms.Compose(
            [
                transforms.Resize(side),
                transforms.CenterCrop(side),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        with Image.open(self.paths[index]) as picture:
            pixels: Tensor = self.transform(picture.convert("RGB"))
        return pixels, self.paths[index].with_suffix(".txt").read_text(encoding="utf-8")


class PlainTrainer:
    """LoRA on a frozen model, one batch of the DataLoader a step."""

    def __init__(self, model: Model, folder: Path, settings: TrainSettings) -> None:
        self.model, self.settings = model, settings
        lora = inject_lora(
            model, rank=settings.rank, alpha=settings.alpha, text_encoder=False, seed=settings.seed
        )
        self.parameters = lora.unet_parameters
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.rates = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=settings.steps)
        self.scheduler = DDPMScheduler.from_config(dict(model.scheduler_config))
        self.loader = DataLoader(_Folder(folder), batch_size=settings.batch, shuffle=True)
        self.batches = _endless(self.loader)

    def take_step(self) -> float:
        """One optimizer step; returns the loss."""
        pixels, captions = next(self.batches)
        device = self.model.device
        pixels = pixels.to(device)
        with torch.no_grad():
            latents = self.model.vae.encode(pixels).latent_dist.sample()
            latents = latents * self.model.vae.config.scaling_factor
            said = encode_captions(self.model, list(captions))
        noise = torch.randn_like(latents)
        count = self.scheduler.config.num_train_timesteps
        timesteps = torch.randint(0, count, (len(latents),), device=device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        height, width = pixels.shape[-2:]
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=device).expand(len(latents), -1)
        predicted = self.model.unet(
            noisy, timesteps, encoder_hidden_states=said.tokens, **further_arguments(said, sizes)
        ).sample
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        wanted = self.scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
        bar = self.scheduler.alphas_cumprod.to(device)[timesteps]
        snr = bar / (1.0 - bar)
        weight = snr.clamp(max=self.settings.min_snr_gamma) / (snr + 1.0 if velocity else snr)
        error = (predicted.float() - wanted.float()).square().mean(dim=(1, 2, 3))
        loss = (weight * error).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        self.optimizer.step()
        self.rates.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


def _endless(loader: Any) -> Iterator[tuple[Tensor, list[str]]]:
    while True:
        yield from loader
