"""The text in PNGs and videos: A1111's form, one frame's own numbers, read back by another library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_shot import CONTROLS, make_preset, make_shot

from pipeline.image import encode_png, is_whole_png, read_png, write_png
from pipeline.plan import make_plan, parameters
from pipeline.preset import load_preset
from pipeline.shot import Shot


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=4)


def text(shot: Shot, preset: Path, index: int, *overrides: str) -> str:
    return parameters(make_plan(shot, load_preset(preset, overrides=overrides)), index)


def test_everything_that_decided_a_frame_is_said(shot: Shot, tmp_path: Path) -> None:
    zero = {
        "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(1, 128),
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.zeros(128, 1),
    }
    save_file(zero, tmp_path / "iris.safetensors", metadata={"sshs_model_hash": "abcdef0123456789"})
    lora = '[[lora]]\npath = "iris.safetensors"\nweight = 0.8\ntext_weight = 0.5'
    preset = make_preset(tmp_path / "p.toml", extra=CONTROLS + lora)
    first, *rest = text(
        shot,
        preset,
        2,
        'negative="grey, flat"',
        "scheduler=DPM++ 2M Karras",
        "temporal.noise=fresh",
        "control.1.end=0.5",
    ).split("\n")
    assert first == "film look, iris <lora:iris:0.5:0.8>"
    assert rest[0] == "Negative prompt: grey, flat"
    fields = rest[1]
    assert fields.startswith(
        "Steps: 5, Sampler: DPM++ 2M Karras, CFG scale: 2, Seed: 3, Size: 64x64, Model hash: "
    )
    for part in (
        ", Model: mini, Denoising strength: 0.6, ",
        'ControlNet 0: "Module: depth, Model: mini\'s own, Weight: 1, Guidance Start: 0, Guidance End: 1"',
        'ControlNet 1: "Module: pose, Model: mini\'s own, Weight: 1, Guidance Start: 0, Guidance End: 0.5"',
        'Lora hashes: "iris: abcdef012345", Version: lookdev ',
    ):
        assert part in fields


def test_what_is_not_read_is_not_said(shot: Shot, tmp_path: Path) -> None:
    preset = make_preset(tmp_path / "p.toml")
    said = text(shot, preset, 0, 'negative="grey"', "guidance=1.0")
    assert "Negative" not in said and "Clip skip" not in said and "Lora" not in said


def test_a_mix_of_prompts_names_the_heavier_and_spells_it_out(shot: Shot, tmp_path: Path) -> None:
    preset = make_preset(tmp_path / "p.toml")
    beat = 'beat=[{frames=[3,4], ease=3, prompt="night, \\"rain\\""}]'
    said = [text(shot, preset, index, beat) for index in range(4)]
    mixed = [line for line in said if "Prompt mix: " in line]
    assert mixed and all(" x film look, iris" in line and 'x night, \\"rain\\"' in line for line in mixed)
    assert said[-1].startswith('night, "rain"\nSteps')


@pytest.mark.parametrize("said", ["film look\nSteps: 8", "noir, Köln", "映画, 東京 – night"])
def test_a_png_says_it_and_is_the_same_picture(tmp_path: Path, said: str) -> None:
    """Read by Pillow, which web UIs use; tEXt for Latin-1, iTXt beyond."""
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    write_png(path, frame, texts={"parameters": said})
    assert is_whole_png(path) and np.array_equal(read_png(path), frame)
    with Image.open(path) as picture:
        assert picture.info["parameters"] == said
        assert np.array_equal(np.asarray(picture), frame)
    data = path.read_bytes()
    write_png(path, frame, texts={"parameters": said})
    assert path.read_bytes() == data
    write_png(path, frame)
    assert path.read_bytes() == encode_png(frame)
