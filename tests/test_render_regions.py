"""A shot with regions through the whole line: resumed to the same bytes, and with less memory."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lora_samples import kohya_layers, make_pairs, write_pairs
from small_shot import CONTROLS, SIZE, make_preset, passes

from pipeline import diffuse
from pipeline.models import load_model
from pipeline.models.lora_layers import layers_of
from pipeline.plan import make_plan
from pipeline.preset import load_preset
from pipeline.render import Machine, render_shot
from pipeline.shot import Shot, write_shot
from pipeline.styling import load_stylist, read_inputs

FRAMES = 5
REGIONS = """
[[region]]
figure = 1
prompt = "iris"
[[region.lora]]
path = "l.safetensors"
weight = 0.5
[[region]]
name = "top"
box = [0.0, 0.0, 1.0, 0.25]
prompt = "a red room"
[[beat]]
frames = [4, 4]
ease = 1
region.1.lora.l.weight = 0.0
region.top.weight = 0.0
"""


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    """The figure fills the right half, from the second frame on."""
    ids = np.zeros((FRAMES, SIZE, SIZE), np.uint32)
    ids[1:, :, SIZE // 2 :] = 257
    folder = tmp_path_factory.mktemp("shots") / "wall"
    return write_shot(folder, [replace(passes(FRAMES), ids=ids)], fps=Fraction(24))


@pytest.fixture(scope="module")
def folder(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the presets and the LoRA are."""
    folder = tmp_path_factory.mktemp("presets")
    model = load_model(random_model)
    layers = kohya_layers((layer for layer, _ in layers_of({"unet": model.unet})), text=False)
    write_pairs("kohya", "mini", make_pairs(layers), folder / "l.safetensors")
    for method in ("frame", "blend"):
        make_preset(folder / f"{method}.toml", random_model, extra=CONTROLS + REGIONS, method=method)
    return folder


def render(
    shot: Shot, preset: Path, out: Path, *overrides: str, stop_after: int | None = None
) -> list[bytes]:
    def on_frame(_: str, done: int, __: int) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    loaded = load_preset(preset, overrides=overrides)
    render_shot(shot, loaded, out, machine=Machine("cpu"), on_frame=on_frame)
    return [path.read_bytes() for path in sorted((out / "wall" / "frames").iterdir())]


@pytest.mark.parametrize("method", ["frame", "blend"])
def test_an_interrupted_render_goes_on_with_the_same_bytes(
    shot: Shot, folder: Path, tmp_path: Path, method: str
) -> None:
    preset = folder / f"{method}.toml"
    whole = render(shot, preset, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        render(shot, preset, tmp_path / "parts", stop_after=2)
    assert render(shot, preset, tmp_path / "parts") == whole
    plain = render(shot, preset, tmp_path / "plain", "region=[]", "beat=[]")
    assert all(a != b for a, b in zip(whole, plain, strict=True))  # also the first frame has the box
    settings = json.loads((tmp_path / "whole" / "wall" / "record.json").read_text())["settings"]
    assert [region["name"] for region in settings["regions"]] == ["1", "top"]


def test_a_frame_without_its_regions_is_a_frame_without_regions(
    shot: Shot, folder: Path, tmp_path: Path
) -> None:
    preset = folder / "frame.toml"
    only = ["beat=[]", "region.1.weight=0.0"]
    some = render(shot, preset, tmp_path / "some", *only)
    none = render(shot, preset, tmp_path / "none", "region=[]", "beat=[]")
    same = [  # the pixels: each PNG also says what it was made with
        np.array_equal(*(cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_COLOR) for each in pair))
        for pair in zip(some, none, strict=True)
    ]
    assert same[0] and not any(same[1:])


def test_out_of_memory_lets_go_of_the_held_weights_first(
    shot: Shot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(shot, load_preset(folder / "frame.toml", overrides=["beat=[]"]))
    stylist, inputs = load_stylist(plan, device="cpu"), read_inputs(shot, plan, 0, 2)
    expected = stylist.style([0, 1], inputs)
    assert stylist.loras._held
    whole, counts = diffuse.img2img, []

    def img2img(model: Any, frames: Any, *rest: Any, **more: Any) -> Any:
        counts.append(len(frames))
        if stylist.loras._held:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return whole(model, frames, *rest, **more)

    monkeypatch.setattr(diffuse, "img2img", img2img)
    np.testing.assert_array_equal(stylist.style([0, 1], inputs), expected)
    np.testing.assert_array_equal(stylist.style([0, 1], inputs), expected)
    assert counts == [2, 2, 2] and stylist.most == 4
    assert stylist.notes == ["memory ran out; the regions' LoRAs are merged anew in each step from here on"]


def test_key_frames_are_styled_jointly_by_regions(shot: Shot, folder: Path, tmp_path: Path) -> None:
    """A region that the anchor does not have, and prompts that differ within one joint batch."""
    keys = ["temporal.method=keys", "temporal.key_every=2"]
    whole = render(shot, folder / "frame.toml", tmp_path / "whole", *keys)
    assert render(shot, folder / "frame.toml", tmp_path / "again", *keys) == whole
    plain = render(shot, folder / "frame.toml", tmp_path / "plain", *keys, "region=[]", "beat=[]")
    assert all(a != b for a, b in zip(whole, plain, strict=True))
