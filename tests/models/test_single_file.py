"""Checkpoints in one file: narrow networks with every layer of the real ones, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from narrow_files import Case
from original_layout import checkpoint_state, vae_state, write_state
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ModelError
from pipeline.models import (
    FAMILIES,
    Model,
    decode_latents,
    encode_images,
    find_model,
    load_model,
    save_original,
)
from pipeline.models import load as load_module
from pipeline.models import vae as vae_module


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("single"))


@pytest.fixture
def case(made: Case, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    for module in (load_module, vae_module):
        monkeypatch.setattr(module, "architecture", lambda family: made.spec)
    return made


def state_of(model: Model) -> dict[str, nn.Module]:
    names = ("unet", "vae", "text_encoder", "text_encoder_2")
    return {name: part for name in names if (part := getattr(model, name)) is not None}


def assert_same(model: Model, parts: dict[str, nn.Module], dtype: torch.dtype = torch.float16) -> None:
    loaded = state_of(model)
    assert loaded.keys() == parts.keys()
    for name, part in parts.items():
        ours = loaded[name].state_dict()
        assert ours.keys() == part.state_dict().keys()
        for key, tensor in part.state_dict().items():
            assert torch.equal(ours[key], tensor.to(dtype).float()), f"{name}.{key}"


def test_every_weight_of_the_file_is_in_its_place(case: Case) -> None:
    model = load_model(case.path, controls=())
    assert model.family is FAMILIES[case.family]
    assert_same(model, case.parts)
    assert model.latent_factor == 8
    assert model.tokenizer("a cat").input_ids == [49406, 320, 2368, 49407]
    if case.family == "sdxl":
        padded = model.tokenizer_2("a cat", padding="max_length").input_ids
        assert padded[:5] == [49406, 320, 2368, 49407, 0]
    assert model.scheduler_config["prediction_type"] == "epsilon"
    if case.family == "sdxl":  # checkpoints trained for velocity carry these two empty tensors
        state = checkpoint_state(case.parts) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
        marked = load_model(write_state(case.path.with_name("v.safetensors"), state), controls=())
        assert marked.scheduler_config["prediction_type"] == "v_prediction"
        assert marked.scheduler_config["rescale_betas_zero_snr"]


def test_a_model_written_as_one_file_has_the_names_and_bits_of_the_original(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(save_original, "architecture", lambda family: case.spec)
    model, path = load_model(case.path, controls=()), tmp_path / "again.safetensors"
    save_original.save_original(model, path, dtype=torch.float32, metadata={"modelspec.title": "again"})
    assert_same(load_model(path, controls=()), case.parts)
    expected = checkpoint_state(case.parts)
    unneeded = {name for name in expected if name.endswith(("position_ids", "logit_scale"))}
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == expected.keys() - unneeded
        for name in file.keys():  # noqa: SIM118
            assert torch.equal(file.get_tensor(name), expected[name].half().float()), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_any_precision_on_disk(case: Case, tmp_path: Path, dtype: torch.dtype) -> None:
    path = write_state(tmp_path / "other.safetensors", checkpoint_state(case.parts), dtype)
    assert_same(load_model(path, controls=()), case.parts, dtype)


def test_a_loaded_text_encoder_computes(case: Case) -> None:
    """Weights are not all: buffers that no file holds (positions) must be right too."""
    model = load_model(case.path, controls=())
    tokens = torch.tensor([[49406, 320, 2368, 49407]])
    for name in ("text_encoder", "text_encoder_2"):
        if name in case.parts:
            ours = getattr(model, name)(tokens).last_hidden_state
            theirs = case.parts[name].eval()(tokens).last_hidden_state
            torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)  # the file is in half precision


def test_a_vae_beside_it_takes_the_place_of_the_baked_one(case: Case, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        other = AutoencoderKL(**case.spec.vae)
    bare = {name: part for name, part in case.parts.items() if name != "vae"}
    without = write_state(tmp_path / "no_vae.safetensors", checkpoint_state(bare))
    with pytest.raises(ModelError, match=r"has no VAE in it .*; give one: vae = "):
        load_model(without, controls=())
    original = write_state(tmp_path / "vae.safetensors", vae_state(other, prefix=""))
    diffusers = write_state(tmp_path / "vae_diffusers.safetensors", _older_names(other))
    for path in (original, diffusers):
        assert_same(load_model(without, controls=(), vae=path), bare | {"vae": other})
    assert_same(load_model(case.path, controls=(), vae=without.with_name("vae.safetensors")),
                bare | {"vae": other})  # fmt: skip
    with pytest.raises(ModelError, match=r"no_vae.safetensors: VAE: .* are missing"):
        load_model(case.path, controls=(), vae=without)


def _older_names(vae: nn.Module) -> dict[str, torch.Tensor]:
    """As the published diffusers VAEs call their attention."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in vae.state_dict().items():
        for new, old in names.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state[name] = tensor
    return state


def test_a_tiny_vae(case: Case, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tiny = AutoencoderTiny()
    path = write_state(tmp_path / "taesd.safetensors", tiny.state_dict(), torch.float32)
    model = load_model(case.path, controls=(), vae=path)
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    latents = encode_images(model, frames)
    assert model.latent_factor == 8
    assert latents.shape == (2, 4, 4, 6)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(latents, tiny.eval().encode(pixels).latents)
    assert decode_latents(model, latents).shape == frames.shape


def test_half_precision_leaves_sdxls_vae_in_full(case: Case) -> None:
    model = load_model(case.path, controls=(), dtype=torch.float16)
    assert model.dtype == torch.float16
    assert model.vae.dtype == (torch.float32 if case.family == "sdxl" else torch.float16)


def test_a_pickle_needs_a_word(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": checkpoint_state(case.parts), "epoch": 3}, path)
    with pytest.raises(ModelError, match=r"old.ckpt: is a pickle.*allow_pickle = true"):
        load_model(path, controls=())
    assert_same(load_model(path, controls=(), allow_pickle=True), case.parts, torch.float32)

    class Evil:
        def __reduce__(self) -> Any:
            return print, ("ran",)

    torch.save({"state_dict": {"a": Evil()}}, path)
    with pytest.raises(ModelError, match="more than plain weights"):
        load_model(path, controls=(), allow_pickle=True)


def test_missing_and_misshapen_weights_are_named(case: Case, tmp_path: Path) -> None:
    state = checkpoint_state(case.parts)
    gone = dict(state)
    del gone["model.diffusion_model.middle_block.1.norm.bias"]
    with pytest.raises(ModelError, match=r"UNet: 1 of \d+ weights are missing, first mid_block\.att"):
        load_model(write_state(tmp_path / "gone.safetensors", gone), controls=())
    name = "model.diffusion_model.input_blocks.0.0.weight"
    wide = torch.zeros(state[name].shape[0], 9, 3, 3)
    with pytest.raises(ModelError, match="an inpainting model"):
        load_model(write_state(tmp_path / "inpaint.safetensors", state | {name: wide}), controls=())
    only = {name: tensor for name, tensor in state.items() if "diffusion_model" in name}
    with pytest.raises(ModelError, match="is a UNet alone; expected a whole checkpoint"):
        load_model(write_state(tmp_path / "unet.safetensors", only), controls=())


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    sd2 = {"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024)}
    files = {
        "sd2": ({**sd2, "first_stage_model.encoder.conv_in.weight": (1,)}, r"SD 2\.x; expected one of"),
        "lora": ({"lora_unet_a.lora_down.weight": (4, 8)}, "is a LoRA; expected a whole checkpoint"),
        "junk": ({"a": (1,)}, "is nothing that lookdev knows"),
    }
    for name, (shapes, message) in files.items():
        path = tmp_path / f"{name}.safetensors"
        save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
        with pytest.raises(ModelError, match=message):
            find_model(path)


def test_families_without_weights_here_say_what_to_give() -> None:
    with pytest.raises(ModelError, match=r"'sd15': Stable Diffusion 1\.5 does not come with lookdev; give"):
        find_model("sd15")


@pytest.mark.parametrize("gone", ["label_emb.0.0.weight", "input_blocks.3.0.op.bias", "time_embed.0.bias"])
def test_what_the_converter_stumbles_over_is_one_line(case: Case, tmp_path: Path, gone: str) -> None:
    state = checkpoint_state(case.parts)
    if state.pop(f"model.diffusion_model.{gone}", None) is None:
        pytest.skip("SDXL's only")
    path = write_state(tmp_path / "gone.safetensors", state)
    with pytest.raises(ModelError, match=r"gone.safetensors: UNet: ") as caught:
        load_model(path, controls=())
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("models/v1-5.safetensors", "my models/v1", "../v1"):
        with pytest.raises(ModelError, match="is not there; known names"):
            find_model(name)
