"""What the built-in autoencoder cannot hold, nothing can paint."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.models import load_model
from training.likeness import to_lab


def test_the_built_in_autoencoder_keeps_every_hue() -> None:
    """Patches of saturated colours come back with their hue."""
    vae = load_model("mini").vae
    colours = np.array(
        [[200, 40, 40], [40, 160, 60], [50, 80, 200], [210, 190, 50], [130, 50, 160], [60, 180, 180]],
        np.uint8,
    )
    picture = np.repeat(colours, 32, axis=0)[None].repeat(64, axis=0)  # [64, 192, 3]
    with torch.no_grad():
        latents = vae.encode(torch.from_numpy(picture)[None].permute(0, 3, 1, 2).float() / 127.5 - 1.0)
        out = vae.decode(latents.latent_dist.mean).sample[0].permute(1, 2, 0).clamp(-1, 1)
    lab_in, lab_out = to_lab(picture), to_lab(((out + 1.0) * 127.5).round().byte().numpy())
    for i in range(len(colours)):
        middle = (slice(16, 48), slice(32 * i + 8, 32 * i + 24), slice(1, 3))
        there, back = (lab[middle].mean(axis=(0, 1)) for lab in (lab_in, lab_out))
        assert np.linalg.norm(back - there) < 0.3 * np.linalg.norm(there), colours[i]
