"""Training on one file in the original layout: SD 1.5 whole, SDXL as a LoRA; narrow networks, every layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_files import Case

from pipeline.image import write_png
from pipeline.models import LoraUse, apply_loras, load_model, read_lora
from pipeline.models import load as load_module
from pipeline.models import vae as vae_module
from training import run, sheet


def write_dataset(folder: Path, model: Path, train: str) -> Path:
    """Two pictures of noise that share a bucket of 64 pixels."""
    (folder / "images").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        write_png(folder / "images" / f"{number}.png", pixels)
        (folder / "images" / f"{number}.txt").write_text("woman, irisbot, a hall", encoding="utf-8")
    path = folder / "dataset.toml"
    concept = '[[concept]]\ntrigger = "irisbot"\nclass = "woman"\nkind = "character"\n'
    settings = "steps = 1\nbatch = 1\nsize = 64\nrank = 2\ntext_lr = 1e-4\nwarmup = 0.0\n" + train
    path.write_text(f'model = "{model}"\nname = "iris"\n{concept}[train]\n{settings}\n', encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("family", "train"),
    [
        ("sd15", 'kind = "full"\nsingle_file = true\nsave_dtype = "fp16"\nlr = 1e-3\n'),
        ("sdxl", 'kind = "lora"\n'),
    ],
)
def test_one_file_in_one_file_out(
    family: str, train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(family, tmp_path)
    for module in (load_module, vae_module):
        monkeypatch.setattr(module, "architecture", lambda family: case.spec)
    monkeypatch.setattr(sheet, "write_sheet", lambda *_: write_png(_[2], np.zeros((8, 8, 3), np.uint8)))
    result = run.train_from_file(
        write_dataset(tmp_path, case.path, train), out=tmp_path / "out", progress=False
    )
    written = json.loads((tmp_path / "out" / "training.json").read_text())["outputs"]
    assert "iris.safetensors" in written
    base, ours = load_model(case.path, controls=()), load_model(case.path, controls=())
    if family == "sd15":
        assert result.result.is_dir()
        ours = load_model(tmp_path / "out" / "iris.safetensors", controls=())
        folder = load_model(result.result, controls=()).unet.state_dict()
        assert all(torch.equal(folder[name], value) for name, value in ours.unet.state_dict().items())
    else:
        names = read_lora(result.result).modules
        assert any(name.startswith("lora_te2_text_model_encoder_layers_1") for name in names)
        apply_loras(ours, [LoraUse(result.result)])
    before, after = base.unet.state_dict(), ours.unet.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
