"""A model written as a folder: lookdev and diffusers open it, and it says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from torch import nn

from pipeline.errors import ModelError
from pipeline.models import Model, encode_text, load_model
from pipeline.models.save_model import save_model


def said(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    text = encode_text(model, ["a man in a room"])
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return text, model.unet(latents, 500, text).sample


def assert_same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def changed(folder: Path) -> Model:
    model = load_model(folder)
    with torch.no_grad():
        for part in (model.unet, model.text_encoder):
            for parameter in part.parameters():
                parameter.mul_(1.01)
    return model


# what diffusers says of the miniature's schedule
@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
def test_a_saved_model_opens_here_and_in_diffusers_to_the_bit(random_model: Path, tmp_path: Path) -> None:
    model, folder = changed(random_model), tmp_path / "iris"
    save_model(model, folder, dtype=torch.float32, base=random_model, note={"name": "iris"})
    again = load_model(folder, controls=("depth", "pose"))  # its ControlNets came along
    for part in ("unet", "vae", "text_encoder"):
        assert_same_weights(getattr(again, part), getattr(model, part))
    assert not any(p.requires_grad for p in again.unet.parameters())
    pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    for part in ("unet", "vae", "text_encoder"):
        assert_same_weights(getattr(pipe, part), getattr(model, part))
    with safe_open(folder / "text_encoder" / "model.safetensors", "pt") as file:
        assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118
    names = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert names <= {".json", ".safetensors", ".txt"}  # no pickles
    config = json.loads((folder / "unet" / "config.json").read_text())
    assert str(random_model) not in json.dumps(config)


def test_a_saved_model_replaces_its_own_kind_only_and_rounds_as_asked(
    random_model: Path, tmp_path: Path
) -> None:
    model, folder = changed(random_model), tmp_path / "iris"
    for name in ("one", "two"):
        save_model(model, folder, dtype=torch.float16, base=None, note={"name": name})
    assert json.loads((folder / "lookdev.json").read_text())["name"] == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["iris"]
    with safe_open(folder / "unet" / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    for ours, theirs in zip(said(model), said(load_model(folder, controls=())), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=2e-2, atol=2e-2)  # fp16 keeps 11 bits a weight
    other = tmp_path / "holidays"
    other.mkdir()
    with pytest.raises(ModelError, match="no result of a training; move it away"):
        save_model(model, other, dtype=torch.float32, base=None, note={})
