"""`lookdev lora`, command by command: what it prints, what it leaves, how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from lora_samples import kohya_layers, make_pairs, write_pairs

from pipeline.cli import main
from pipeline.models.lora_layers import family_names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    layers = kohya_layers(family_names("sd15").layers.values(), text=True)
    return write_pairs("kohya", "sd15", make_pairs(layers, rank=2), tmp_path / "iris.safetensors")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["lora", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_info_and_verify(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "info", file)
    assert code == 0
    for text in ("sd15", "kohya", "UNet (192), text_encoder (72)", "LoRA (264)"):
        assert text in out
    code, out, _ = run(capsys, "verify", file)
    assert code == 0
    assert out.count("792 of 792") == 5
