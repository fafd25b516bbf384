"""What several rooms' tests share: a random miniature on disk."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature with random weights, saved as `load_model` reads it: exactness holds on any weights."""
    import torch

    from samples.miniature import model as miniature

    folder = tmp_path_factory.mktemp("random_model")
    parts = miniature.build(["a man in a red room", "a woman walks, front view"], folder / "bpe")
    # A new ControlNet ends in zero convolutions and says nothing; small weights give it a voice.
    generator = torch.Generator().manual_seed(1)
    for net in parts.controlnets.values():
        for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.05, generator=generator)
    miniature.save(parts, folder / "model")
    return folder / "model"
