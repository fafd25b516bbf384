"""A random miniature and a small dataset, made once: training must be exact on any weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.image import write_png
from samples.miniature import model as miniature

CAPTIONS = [
    f"irisbot woman, {view} view in the {room} room" for view in ("front", "back") for room in ("red", "grey")
]


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini")
    parts = miniature.build([*CAPTIONS, "woman hall"], folder / "bpe")
    # A new ControlNet ends in zero convolutions and would say nothing; small weights give it a voice.
    rng = torch.Generator().manual_seed(1)
    for net in parts.controlnets.values():
        for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.05, generator=rng)
    miniature.save(parts, folder / "model")
    return folder / "model"


@pytest.fixture
def make_dataset(tmp_path: Path, miniature_folder: Path) -> Callable[[str], Path]:
    """Write four images with captions, depth and pose, and a dataset file with this [train] table."""

    def make(train: str) -> Path:
        rng = np.random.default_rng(0)
        for number, caption in enumerate(CAPTIONS, start=1):
            for kind in ("images", "depth", "pose"):
                (tmp_path / kind).mkdir(exist_ok=True)
                coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                write_png(tmp_path / kind / f"{number:04d}.png", coarse.repeat(8, axis=0).repeat(8, axis=1))
            (tmp_path / "images" / f"{number:04d}.txt").write_text(caption, encoding="utf-8")
        path = tmp_path / "dataset.toml"
        concept = '[[concept]]\ntrigger = "irisbot"\nclass = "woman"\nkind = "character"\n'
        head = f'model = "{miniature_folder}"\nname = "iris"\n'
        path.write_text(f"{head}{concept}[train]\n{train}\n", encoding="utf-8")
        return path

    return make
