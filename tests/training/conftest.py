"""A small dataset for the shared random miniature: training must be exact on any weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.image import write_png

CAPTIONS = [
    f"irisbot woman, {view} view in the {room} room" for view in ("front", "back") for room in ("red", "grey")
]


@pytest.fixture
def make_dataset(tmp_path: Path, random_model: Path) -> Callable[[str], Path]:
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
        head = f'model = "{random_model}"\nname = "iris"\n'
        path.write_text(f"{head}{concept}[train]\n{train}\n", encoding="utf-8")
        return path

    return make
