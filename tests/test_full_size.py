"""Stable Diffusion 1.5 at full size with random weights, from one file to frames, without a network."""

from __future__ import annotations

import gc
import json
import socket
from pathlib import Path

import pytest
from original_layout import checkpoint_state, write_state
from small_shot import make_shot

from benchmarks.random_model import random_parts
from pipeline import cli
from pipeline.image import read_image

SIZE = 256


@pytest.mark.slow
def test_one_file_and_two_controlnets_become_two_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = random_parts("sd15")
    for kind in ("depth", "pose"):
        write_state(tmp_path / f"{kind}.safetensors", parts.pop(f"controlnet_{kind}").state_dict())
    write_state(tmp_path / "model.safetensors", checkpoint_state(parts))
    del parts
    gc.collect()
    assert (tmp_path / "model.safetensors").stat().st_size > 2.1e9  # 1.07 billion numbers of 2 bytes

    def no_network(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    shot = make_shot(tmp_path / "wall", num_frames=2)
    preset = tmp_path / "preset.toml"
    preset.write_text(
        f"""
model = "model.safetensors"
prompt = "a (red:1.2) corridor, film still"
negative = "blurry"
strength = 0.5
steps = 4
guidance = 3.0
size = [{SIZE}, {SIZE}]

[[control]]
kind = "depth"
path = "depth.safetensors"

[[control]]
kind = "pose"
path = "pose.safetensors"
weight = 0.7
""",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    assert cli.main(["render", str(shot.root), "--preset", str(preset), "--out", str(out)]) == 0
    assert "2 frames, 2 rendered now" in capsys.readouterr().out
    frames = [read_image(path) for path in sorted((out / "wall" / "frames").glob("*.png"))]
    assert [frame.shape for frame in frames] == [(SIZE, SIZE, 3)] * 2
    assert all(frame.std() > 1 for frame in frames) and (frames[0] != frames[1]).any()
    assert json.loads((out / "wall" / "record.json").read_text())["settings"]["model"].endswith(
        "model.safetensors"
    )
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()  # pytest keeps the folders of three sessions
