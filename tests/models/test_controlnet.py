"""ControlNets from every layout that people have, and every way they can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from controlnet_files import in_original_names, make_net, make_union, narrow_family
from lora_samples import narrow
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError
from pipeline.models import controlnet
from pipeline.models.architectures import architecture
from pipeline.models.controlnet import UnionControlNet, as_kind, controlnet_parts, load_controlnet
from pipeline.models.controlnet_file import check_controlnet, find_controlnet
from pipeline.models.detect import kind_of
from pipeline.models.families import FAMILIES
from pipeline.models.header import read_header

pytestmark = pytest.mark.usefixtures("few_channels")
NAMES = ("sd15", "sdxl")
LAYOUTS = ("folder", "fp16 folder", "diffusers", "original", "bare original", "with its base")


@pytest.fixture
def few_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published shapes with few channels; every key is the real one."""
    monkeypatch.setattr(controlnet, "architecture", lambda name: narrow(name) if name != "mini" else None)


def inputs(name: str, batch: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    unet = narrow(name).unet
    text = torch.randn(batch, 5, unet["cross_attention_dim"], generator=generator)
    added = None
    if name == "sdxl":
        pooled = unet["projection_class_embeddings_input_dim"] - 6 * unet["addition_time_embed_dim"]
        added = {
            "text_embeds": torch.randn(batch, pooled, generator=generator),
            "time_ids": torch.rand(batch, 6, generator=generator),
        }
    return {
        "sample": torch.randn(batch, 4, 8, 8, generator=generator),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": text,
        "controlnet_cond": torch.rand(batch, 3, 64, 64, generator=generator),
        "conditioning_scale": 0.7,
        "added_cond_kwargs": added,
        "return_dict": False,
    }


def write(net: Any, layout: str, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The net in one of the layouts people have; returns what a preset would name."""
    state = {key: tensor.to(dtype).contiguous() for key, tensor in net.state_dict().items()}
    if "folder" in layout:
        net.save_config(path / "net")
        name = "diffusion_pytorch_model." + ("fp16." if "fp16" in layout else "")
        save_file(state, path / "net" / f"{name}safetensors")
        return path / "net"
    file = path / "net.safetensors"
    if layout == "diffusers":
        save_file(state, file)
        return file
    state = in_original_names(state, prefix="" if layout == "bare original" else "control_model.")
    if layout == "with its base":
        state["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(2)
        state["first_stage_model.decoder.conv_in.weight"] = torch.zeros(2)
    save_file(state, file)
    return file


def one_line(path: Path, family: str = "sd15") -> str:
    with pytest.raises(ModelError) as caught:
        load_controlnet(path, family=narrow_family(family))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_layout_gives_the_same_net(tmp_path: Path, name: str, layout: str) -> None:
    net = make_net(name)
    path = write(net, layout, tmp_path)
    loaded = load_controlnet(path, family=narrow_family(name))
    ours, theirs = loaded.state_dict(), net.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    (down, mid), (wanted_down, wanted_mid) = loaded(**inputs(name)), net(**inputs(name))
    assert torch.equal(mid, wanted_mid) and len(down) == len(wanted_down)
    assert all(torch.equal(a, b) for a, b in zip(down, wanted_down, strict=True))


@pytest.mark.parametrize("layout", ["diffusers", "original"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_stored_in_few_bits(tmp_path: Path, layout: str, dtype: torch.dtype) -> None:
    net = make_net("sd15")
    loaded = load_controlnet(write(net, layout, tmp_path, dtype), family=narrow_family("sd15"))
    assert loaded.dtype == torch.float32
    for key, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor.to(dtype).float())


def test_it_computes_in_the_dtype_asked_for(tmp_path: Path) -> None:
    path = write(make_net("sd15"), "original", tmp_path)
    loaded = load_controlnet(path, family=narrow_family("sd15"), dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16


@pytest.mark.parametrize("layout", ["folder", "diffusers", "original"])
def test_a_missing_weight_is_named(tmp_path: Path, layout: str) -> None:
    path = write(make_net("sd15"), layout, tmp_path)
    file = find_controlnet(path).weights
    state = load_file(file)
    end = "blocks.1.attentions.0.proj_in.bias" if layout != "original" else "input_blocks.4.1.proj_in.bias"
    del state[next(key for key in state if key.endswith(end))]
    save_file(state, file)
    message = one_line(path)
    assert (
        "1 of 338 weights are missing, first down_blocks.1.attentions.0.proj_in.bias" in message
        and str(file) in message
    )


@pytest.mark.parametrize("layout", ["folder", "diffusers", "original", "bare original"])
def test_a_weight_too_many_is_named(tmp_path: Path, layout: str) -> None:
    path = write(make_net("sd15"), layout, tmp_path)
    file = find_controlnet(path).weights
    key = "control_model.odd.weight" if layout == "original" else "odd.weight"
    save_file(load_file(file) | {key: torch.zeros(2)}, file)
    message = one_line(path)
    assert "first odd.weight" in message or "holds odd.weight" in message


@pytest.mark.parametrize("layout", ["folder", "diffusers", "original"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_number_is_named(tmp_path: Path, layout: str, value: float) -> None:
    net = make_net("sd15")
    net.mid_block.resnets[1].conv2.weight.data[0, 0, 1, 1] = value
    message = one_line(write(net, layout, tmp_path))
    assert "mid_block.resnets.1.conv2.weight holds nan or infinity" in message


def test_a_misshapen_weight_is_named(tmp_path: Path) -> None:
    path = write(make_net("sd15"), "original", tmp_path)
    state = load_file(path)
    state["control_model.zero_convs.3.0.bias"] = torch.zeros(5)
    save_file(state, path)
    assert "controlnet_down_blocks.3.bias is [5], expected [16]" in one_line(path)


@pytest.mark.parametrize("layout", ["folder", "diffusers", "original"])
@pytest.mark.parametrize(("theirs", "ours"), [("sd15", "sdxl"), ("sdxl", "sd15")])
def test_another_familys_net_is_refused_by_width(tmp_path: Path, layout: str, theirs: str, ours: str) -> None:
    path = write(make_net(theirs), layout, tmp_path)
    width = narrow_family(theirs).context_width
    message = one_line(path, ours)
    assert f"width {width})" in message and f"model '{ours}' is {FAMILIES[ours].title}" in message


def load_kinds(paths: dict[str, Path]) -> dict[str, Any]:
    """As `load_model` does it: a part for each kind, filled once."""
    parts = controlnet_parts(paths, family=narrow_family("sdxl"))
    filled = {id(part): part.fill(part.prepare(), "cpu", torch.float32) for part in parts.values()}
    return {kind: as_kind(filled[id(part)], kind) for kind, part in parts.items()}


@pytest.mark.parametrize("layout", ["folder", "diffusers"])
def test_a_union_is_one_net_for_several_kinds(tmp_path: Path, layout: str) -> None:
    net = make_union("sdxl")
    path = write(net, layout, tmp_path)
    if layout == "diffusers":  # 8 heads of the mixer are not in the weights; published unions have 8
        net.transformer_layes[0].attn.num_heads, net.transformer_layes[0].attn.head_dim = 8, 2
    nets = load_kinds({"depth": path, "pose": path})
    assert nets["depth"].net is nets["pose"].net and isinstance(nets["depth"], UnionControlNet)
    assert nets["depth"].dtype == torch.float32 and nets["depth"].device == torch.device("cpu")
    arguments = inputs("sdxl")
    for kind, index in (("pose", 0), ("depth", 1)):
        down, mid = nets[kind](**arguments)
        wanted = dict(arguments, controlnet_cond=[arguments["controlnet_cond"]])
        types = torch.zeros(2, 6)
        types[:, index] = 1
        wanted_down, wanted_mid = net(**wanted, control_type=types, control_type_idx=[index])
        assert torch.equal(mid, wanted_mid)
        assert all(torch.equal(a, b) for a, b in zip(down, wanted_down, strict=True))
    assert not torch.equal(nets["depth"](**arguments)[1], nets["pose"](**arguments)[1])


def test_a_union_without_that_kind(tmp_path: Path) -> None:
    path = write(make_union("sdxl", num_types=3), "diffusers", tmp_path)
    with pytest.raises(ModelError, match="found 'canny'"):
        load_kinds({"canny": path})
    with pytest.raises(ModelError, match=r"union ControlNet, which takes pose, .*; not 'tile'"):
        check_controlnet(find_controlnet(path), narrow_family("sdxl"), kind="tile")


def test_what_is_no_controlnet_is_named(tmp_path: Path) -> None:
    for state, expected in (
        ({"lora_unet_mid_block.lora_down.weight": torch.zeros(2, 2)}, "is a LoRA; it goes under [[lora]]"),
        ({"model.diffusion_model.out.0.weight": torch.zeros(2)}, "is a UNet alone"),
        ({"lllite_unet_a.down.0.weight": torch.zeros(2)}, "is a ControlNet-LLLite; LLLite nets are not"),
        ({"adapter.body.0.resnets.0.block1.weight": torch.zeros(2)}, "is a T2I-Adapter"),
        ({"lora_controlnet": torch.zeros(0)}, "is a Control-LoRA"),
        ({"control_model.x": torch.zeros(2), "difference": torch.zeros(0)}, "its difference from a base"),
    ):
        save_file(state, tmp_path / "a.safetensors")
        assert expected in one_line(tmp_path / "a.safetensors")


def test_folders_and_paths_that_are_none(tmp_path: Path) -> None:
    assert "has no diffusion_pytorch_model.safetensors" in one_line(tmp_path)
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    assert "diffusion_pytorch_model.bin is a pickle" in one_line(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    assert "has no config.json" in one_line(tmp_path)
    assert "is not there" in one_line(tmp_path / "none.safetensors")


@pytest.mark.parametrize("text", ["{", "[]", '{"_class_name": "UNet2DConditionModel"}'])
def test_a_config_of_something_else(tmp_path: Path, text: str) -> None:
    path = write(make_net("sd15"), "folder", tmp_path)
    (path / "config.json").write_text(text)
    assert "config.json" in one_line(path)


def test_a_config_that_makes_no_net(tmp_path: Path) -> None:
    path = write(make_net("sd15"), "folder", tmp_path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"down_block_types": ["Odd"]}))
    assert "its config makes no network" in one_line(path)


def test_the_weights_of_a_folder_take_its_config(tmp_path: Path) -> None:
    """Given the file inside a folder, as file pickers do: a net smaller than its family's still opens."""
    net = make_net("sd15")
    path = write(net, "folder", tmp_path)
    assert find_controlnet(path / "diffusion_pytorch_model.safetensors") == find_controlnet(path)


def test_a_hub_id_off_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"ControlNet nobody/nothing: .* HF_HUB_OFFLINE forbids"):
        load_controlnet("nobody/nothing", family=narrow_family("sd15"))


def test_a_hub_id_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache's layout is huggingface_hub's documented one: refs/main names the snapshot."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--org--depth-net"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    net = make_net("sd15")
    folder = write(net, "fp16 folder", tmp_path)
    (repo / "snapshots").mkdir()
    folder.rename(repo / "snapshots" / "abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    loaded = load_controlnet("org/depth-net", family=narrow_family("sd15"))
    assert torch.equal(loaded.conv_in.weight, net.conv_in.weight)


@pytest.mark.parametrize("name", NAMES)
def test_the_full_architecture_is_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Names and shapes at full size, on the meta device: 361 M weights (SD 1.5), 1251 M (SDXL)."""
    monkeypatch.undo()
    from diffusers import ControlNetModel
    from header_files import write_header

    unet = dict(architecture(name).unet)
    for key in ("sample_size", "out_channels", "up_block_types"):
        del unet[key]
    with torch.device("meta"):
        net = ControlNetModel(**unet)
    shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    header = read_header(write_header(tmp_path / "a.safetensors", shapes))
    assert kind_of(header) == "controlnet"
    assert check_controlnet(find_controlnet(header.path), FAMILIES[name], kind="depth") == header
    with torch.device("meta"):
        ours = ControlNetModel.from_config(controlnet.controlnet_config(FAMILIES[name], header))
    assert {key: tuple(tensor.shape) for key, tensor in ours.state_dict().items()} == shapes
    millions = sum(tensor.numel() for tensor in ours.state_dict().values()) // 1_000_000
    assert millions == {"sd15": 361, "sdxl": 1251}[name]
    assert MappingProxyType(dict(ours.config))["conditioning_embedding_out_channels"] == (16, 32, 96, 256)
