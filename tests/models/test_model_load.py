import json
import shutil
import socket
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError
from pipeline.models import load_model

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def copy(random_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(random_model, tmp_path / "copy")
    return tmp_path / "copy"


def test_every_weight_is_the_files_in_float32(random_model: Path) -> None:
    model = load_model(random_model)
    modules = {"unet": model.unet, "vae": model.vae, "text_encoder": model.text_encoder}
    modules |= {f"controlnet_{kind}": net for kind, net in model.controlnets.items()}
    assert set(model.controlnets) == {"depth", "pose"}
    for name, module in modules.items():
        stored = load_file(next((random_model / name).glob("*.safetensors")))
        loaded = module.state_dict()
        assert set(stored) == set(loaded)
        for key, tensor in stored.items():
            assert tensor.dtype == torch.float16
            assert loaded[key].dtype == torch.float32
            assert torch.equal(loaded[key], tensor.float()), f"{name}.{key}"
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
    assert model.latent_factor == 4
    assert model.scheduler_config["prediction_type"] == "v_prediction"


def test_text_encoder_saved_by_an_older_transformers_loads_the_same(random_model: Path, copy: Path) -> None:
    state = {f"text_model.{name}": tensor for name, tensor in load_file(copy / TEXT).items()}
    state["text_model.embeddings.position_ids"] = torch.arange(64)[
        None
    ]  # a buffer that versions before 4.31 saved
    save_file(state, copy / TEXT)
    ours, theirs = load_model(random_model), load_model(copy)
    for name, tensor in ours.text_encoder.state_dict().items():
        assert torch.equal(theirs.text_encoder.state_dict()[name], tensor)


@pytest.mark.parametrize("part", [UNET, TEXT])
def test_a_missing_weight_is_no_random_weight(copy: Path, part: str) -> None:
    state = load_file(copy / part)
    state.pop(sorted(state)[0])
    save_file(state, copy / part)
    with pytest.raises(ModelError, match=r"1 of .* weights are missing") as caught:
        load_model(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [UNET, TEXT, "controlnet_pose/diffusion_pytorch_model.safetensors"])
def test_a_truncated_file_is_one_line(copy: Path, part: str) -> None:
    data = (copy / part).read_bytes()
    (copy / part).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=part.split("/")[0]) as caught:
        load_model(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "part",
    [UNET, TEXT, "vae/config.json", "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json"],
)
def test_a_missing_file_is_named(copy: Path, part: str) -> None:
    (copy / part).unlink()
    with pytest.raises(ModelError, match=part):
        load_model(copy)


@pytest.mark.parametrize(
    "part", ["unet/config.json", "tokenizer/tokenizer.json", "scheduler/scheduler_config.json"]
)
def test_broken_json_is_one_line(copy: Path, part: str) -> None:
    (copy / part).write_text("{ not json")
    with pytest.raises(ModelError) as caught:
        load_model(copy)
    assert "\n" not in str(caught.value)


def test_a_config_of_another_shape_than_the_weights_is_one_line(copy: Path) -> None:
    config = json.loads((copy / "vae" / "config.json").read_text())
    config["latent_channels"] = 8
    (copy / "vae" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="vae"):
        load_model(copy)


def test_only_the_controls_asked_for_are_loaded(random_model: Path, copy: Path) -> None:
    assert load_model(random_model, controls=()).controlnets == {}
    with pytest.raises(ModelError, match=r"no ControlNet 'canny'; there are: depth, pose"):
        load_model(random_model, controls=("canny",))
    shutil.rmtree(copy / "controlnet_pose")
    assert set(load_model(copy, controls=("depth",)).controlnets) == {"depth"}


def test_it_computes_in_the_dtype_asked_for(random_model: Path) -> None:
    model = load_model(random_model, controls=("depth",), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.controlnets["depth"].dtype == torch.bfloat16


def test_loading_asks_no_network(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where HF_HUB_OFFLINE is unset: the command leaves that to the user."""
    asked: list[object] = []

    def refuse(*arguments: object, **options: object) -> None:
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_model(random_model)
    assert asked == []
