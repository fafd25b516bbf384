"""Every layout and kind of LoRA file, loaded, against the change computed from its matrices."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lora_samples import addresses, kohya_layers, make_pairs, narrow_model, write_pairs
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.lora_apply import LoraUse, apply_loras, remove_loras
from pipeline.models.lora_file import read_lora
from pipeline.models.lora_layers import family_names

RELATIVE = 1e-4  # float32 sums of up to a few hundred products
FAMILIES = ("sd15", "sdxl")
LAYOUTS = ("kohya", "peft", "diffusers")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> SimpleNamespace:
    return narrow_model(request.param)


@pytest.fixture(scope="module")
def sd15() -> SimpleNamespace:
    return narrow_model("sd15")


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).norm() <= RELATIVE * expected.norm())


@pytest.mark.parametrize("text", [False, True], ids=["unet", "unet+text"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_loaded_weights_are_the_matrices(
    model: SimpleNamespace, layout: str, text: bool, tmp_path: Path
) -> None:
    table = addresses(model)
    before = {address: module.weight.detach().clone() for address, (_, module) in table.items()}
    pairs = make_pairs(kohya_layers((layer for layer, _ in table.values()), text=text))
    path = write_pairs(layout, model.family.name, pairs, tmp_path / "lora.safetensors")
    assert read_lora(path).layout == layout
    apply_loras(model, [LoraUse(path, 0.5, 0.25)])
    for address, (_, module) in table.items():
        if address not in pairs:
            assert torch.equal(module.weight, before[address]), address
            continue
        down, up, alpha = pairs[address]
        use = 0.5 if address.startswith("unet.") else 0.25
        change = alpha / 2 * (up.flatten(1) @ down.flatten(1)).reshape(before[address].shape)
        assert close(module.weight.detach(), before[address] + use * change), address
        assert close(module.weight.detach() - before[address], use * change), address
    remove_loras(model)
    assert all(torch.equal(module.weight, before[address]) for address, (_, module) in table.items())


def chosen(model: SimpleNamespace) -> dict[str, nn.Module]:
    """A Linear of the UNet and of the text encoder, a 1x1, a 3x3 and a strided convolution."""
    wanted = (
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
        "unet.down_blocks.1.attentions.0.proj_in",
        "unet.down_blocks.1.resnets.0.conv1",
        "unet.down_blocks.0.downsamplers.0.conv",
        "text_encoder.text_model.encoder.layers.1.mlp.fc1",
    )
    return {address: addresses(model)[address][1] for address in wanted}


def check(
    model: SimpleNamespace, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], path: Path
) -> None:
    """Load `state` and compare each chosen weight with W + what is expected of it."""
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    layers = chosen(model)
    before = {address: layer.weight.detach().clone() for address, layer in layers.items()}
    apply_loras(model, [LoraUse(path)])
    after = {address: layer.weight.detach().clone() for address, layer in layers.items()}
    remove_loras(model)
    assert set(expected) == set(layers)
    for address, change in expected.items():
        assert close(after[address], before[address] + change), address
        assert change.norm() > 1e-2 * before[address].norm(), address  # it does something


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_locon_with_its_kernel_and_with_a_core(sd15: SimpleNamespace, tmp_path: Path) -> None:
    kohya, state, expected = family_names("sd15").kohya, {}, {}
    for address, layer in chosen(sd15).items():
        out, inner, *kernel = layer.weight.shape
        if len(kernel) == 2 and kernel[0] > 1 and "resnets" in address:  # LyCORIS' CP form
            down, mid, up = random(3, inner, 1, 1), random(3, 3, *kernel), random(out, 3, 1, 1)
            state[f"{kohya[address]}.lora_mid.weight"] = mid
            product = torch.einsum("op,pqkl,qi->oikl", up[:, :, 0, 0], mid, down[:, :, 0, 0])
        else:
            down, up = random(3, inner, *kernel), random(out, 3, *[1] * len(kernel))
            product = (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
        state |= {f"{kohya[address]}.lora_down.weight": down, f"{kohya[address]}.lora_up.weight": up}
        state[f"{kohya[address]}.alpha"] = torch.tensor(1.5)
        expected[address] = 1.5 / 3 * product
    check(sd15, state, expected, tmp_path / "locon.safetensors")


@pytest.mark.parametrize("tucker", [False, True])
def test_loha(sd15: SimpleNamespace, tucker: bool, tmp_path: Path) -> None:
    kohya, state, expected = family_names("sd15").kohya, {}, {}
    for address, layer in chosen(sd15).items():
        out, inner, *kernel = layer.weight.shape
        halves = []
        for number in (1, 2):
            name = f"{kohya[address]}.hada_w{number}"
            if tucker and len(kernel) == 2 and kernel[0] > 1:
                core, a, b = random(2, 2, *kernel), random(2, out), random(2, inner)
                state |= {f"{kohya[address]}.hada_t{number}": core, f"{name}_a": a, f"{name}_b": b}
                halves.append(torch.einsum("ijkl,ip,jr->prkl", core, a, b))
            else:
                columns = inner * kernel[0] * kernel[1] if kernel else inner
                a, b = number * random(out, 2), random(2, columns)
                state |= {f"{name}_a": a, f"{name}_b": b}
                halves.append((a @ b).reshape(layer.weight.shape))
        state[f"{kohya[address]}.alpha"] = torch.tensor(0.5)
        expected[address] = 0.5 / 2 * halves[0] * halves[1]
    check(sd15, state, expected, tmp_path / "loha.safetensors")


@pytest.mark.parametrize("whole", [False, True])
def test_lokr(sd15: SimpleNamespace, whole: bool, tmp_path: Path) -> None:
    kohya, state, expected = family_names("sd15").kohya, {}, {}
    for address, layer in chosen(sd15).items():
        out, inner, *kernel = layer.weight.shape
        name, first = kohya[address], random(4, 2)
        rows, columns = out // 4, inner // 2
        if whole:
            second = random(rows, columns, *kernel)
            state[f"{name}.lokr_w2"] = second
        else:
            a, b = random(rows, 2), random(2, columns * (kernel[0] * kernel[1] if kernel else 1))
            second = (a @ b).reshape(rows, columns, *kernel)
            state |= {f"{name}.lokr_w2_a": a, f"{name}.lokr_w2_b": b}
        state |= {f"{name}.lokr_w1": first, f"{name}.alpha": torch.tensor(0.5)}
        scale = 1.0 if whole else 0.5 / 2  # LyCORIS has no scale where both factors are whole
        blocks = [[first[i, j] * second for j in range(2)] for i in range(4)]
        expected[address] = scale * torch.cat([torch.cat(row, dim=1) for row in blocks], dim=0)
    check(sd15, state, expected, tmp_path / "lokr.safetensors")


@pytest.mark.parametrize("axis", [0, 1], ids=["output", "input"])
def test_dora(sd15: SimpleNamespace, axis: int, tmp_path: Path) -> None:
    kohya, state, expected = family_names("sd15").kohya, {}, {}
    for address, layer in chosen(sd15).items():
        weight = layer.weight.detach()
        out, inner, *kernel = weight.shape
        down, up = random(3, inner, *kernel), random(out, 3, *[1] * len(kernel))
        moved = weight + 2.0 / 3 * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        lengths = torch.stack([part.norm() for part in moved.unbind(axis)])
        shape = [1] * weight.ndim
        shape[axis] = -1
        magnitude = (lengths + random(len(lengths)).abs()).reshape(shape)
        state |= {f"{kohya[address]}.lora_down.weight": down, f"{kohya[address]}.lora_up.weight": up}
        state |= {f"{kohya[address]}.alpha": torch.tensor(2.0), f"{kohya[address]}.dora_scale": magnitude}
        expected[address] = magnitude * moved / lengths.reshape(shape) - weight
    check(sd15, state, expected, tmp_path / "dora.safetensors")


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_what_peft_computes(sd15: SimpleNamespace, kind: str, tmp_path: Path) -> None:
    """peft's own layers, trained weights made up, against our merge of the file saved from them."""
    targets = [address.removeprefix("unet.") for address in chosen(sd15) if address.startswith("unet.")]
    config = {
        "lora": lambda: LoraConfig(r=3, lora_alpha=2, target_modules=targets),
        "dora": lambda: LoraConfig(r=3, lora_alpha=2, target_modules=targets, use_dora=True),
        "loha": lambda: LoHaConfig(r=3, alpha=2, target_modules=targets, use_effective_conv2d=False),
        "lokr": lambda: LoKrConfig(r=1, alpha=2, target_modules=targets, decompose_factor=4),
    }[kind]()
    wrapped = narrow_model("sd15").unet
    inject_adapter_in_model(config, wrapped)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if any(part in name for part in ("lora_A", "lora_B", "hada_", "lokr_")):
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
            elif "magnitude" in name:
                weight.mul_(1.5)
    state = {f"unet.{key}": tensor for key, tensor in get_peft_model_state_dict(wrapped).items()}
    if kind in ("loha", "lokr"):  # their alpha is in no tensor of peft's
        modules = {key.rpartition(".")[0] for key in state}
        state |= {f"{name}.alpha": torch.tensor(2.0) for name in modules}
    path = tmp_path / "peft.safetensors"
    metadata = {"lora_adapter_metadata": '{"unet.lora_alpha": 2}'}
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, metadata)
    apply_loras(sd15, [LoraUse(path, 1.0, 1.0)])
    try:
        for target in targets:
            theirs, ours = wrapped.get_submodule(target), sd15.unet.get_submodule(target)
            x = random(2, ours.weight.shape[1], *[6] * (ours.weight.ndim - 2))
            with torch.no_grad():
                expected, plain = theirs(x), theirs.base_layer(x)
                assert close(ours(x), expected), target
                assert (expected - plain).norm() > 1e-2 * plain.norm(), target
    finally:
        remove_loras(sd15)


def test_one_renamed_key_is_refused_by_name(sd15: SimpleNamespace, tmp_path: Path) -> None:
    pairs = make_pairs(kohya_layers((layer for layer, _ in addresses(sd15).values()), text=False))
    path = write_pairs("peft", "sd15", pairs, tmp_path / "lora.safetensors")
    state = dict(read_lora(path).state)
    for part in ("A", "B"):
        old = f"unet.mid_block.attentions.0.proj_in.lora_{part}.weight"
        state[old.replace("proj_in", "proj_inn")] = state.pop(old)
    save_file(state, path)
    with pytest.raises(ModelError, match=r"1 of 192 modules .*unet\.mid_block\.attentions\.0\.proj_inn"):
        apply_loras(sd15, [LoraUse(path)])
    apply_loras(sd15, [LoraUse(path)], allow_partial=True)
    assert len(sd15.originals) == 191
    remove_loras(sd15)


def test_a_file_that_names_a_layer_twice_is_refused(sd15: SimpleNamespace, tmp_path: Path) -> None:
    pairs = make_pairs(kohya_layers((layer for layer, _ in addresses(sd15).values()), text=True))
    path = write_pairs("kohya", "sd15", pairs, tmp_path / "lora.safetensors")
    state = dict(read_lora(path).state)
    state |= {
        k.replace("lora_te_", "lora_te1_"): v.clone() for k, v in state.items() if "layers_0_mlp_fc1" in k
    }
    save_file(state, path)
    with pytest.raises(ModelError, match="are the same layer"):
        apply_loras(sd15, [LoraUse(path)])
