"""A hub cache with what planning reads of the bases that ship: headers and configs, no weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

BASES = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": 768,
    "stabilityai/stable-diffusion-xl-base-1.0": 2048,
}


def cache_bases(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put both bases into a cache in `folder`, in the hub's documented layout; nothing can be fetched."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for repo, width in BASES.items():
        root = folder / f"models--{repo.replace('/', '--')}"
        snapshot = root / "snapshots" / "abc"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("abc")
        (snapshot / "unet").mkdir(parents=True)
        (snapshot / "model_index.json").write_text(
            json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]})
        )
        (snapshot / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": width}))
        (snapshot / "unet" / "diffusion_pytorch_model.safetensors").touch()
