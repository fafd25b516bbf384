"""verify, convert, merge, resize and info on files of the full architectures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lora_samples import kohya_layers, make_pairs, write_pairs
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError
from pipeline.models.lora_arithmetic import merge, resize
from pipeline.models.lora_convert import convert
from pipeline.models.lora_file import LoraFile, read_lora, write_lora
from pipeline.models.lora_info import describe
from pipeline.models.lora_layers import family_names
from pipeline.models.lora_place import place
from pipeline.models.lora_verify import find_family, likely_families, verify

Make = Callable[..., LoraFile]
Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A file with a LoRA for every layer that kohya trains, of the real shapes and rank 1 unless told."""

    def write(
        family: str,
        layout: str = "kohya",
        *,
        conv: bool = False,
        few: bool = False,
        name: str = "a",
        rank: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> LoraFile:
        layers = kohya_layers(family_names(family).layers.values(), text=True, conv=conv)
        if few:
            layers = [layer for layer in layers if "mid_block" in layer.path or "layers.1." in layer.path]
        pairs = make_pairs(layers, rank=rank, dtype=dtype)
        return read_lora(write_pairs(layout, family, pairs, tmp_path / f"{name}.safetensors"))

    return write


def unmatched(lora: LoraFile, family: str) -> dict[str, tuple[str, ...]]:
    return {reading.program: reading.unmatched for reading in verify(lora, family)}


@pytest.mark.parametrize("family", ["mini", "sd15", "sdxl"])
def test_every_program_reads_kohyas_layout(make: Make, family: str) -> None:
    lora = make(family)
    assert unmatched(lora, family) == dict.fromkeys(["lookdev", "kohya", "A1111", "ComfyUI", "diffusers"], ())
    assert find_family(lora, likely_families(lora)) == family


def test_every_program_reads_locon_of_sd15(make: Make) -> None:
    assert set(unmatched(make("sd15", conv=True), "sd15").values()) == {()}


def test_what_only_some_programs_read(make: Make, tmp_path: Path) -> None:
    peft = unmatched(make("sd15", "peft"), "sd15")
    assert peft["lookdev"] == peft["diffusers"] == ()
    assert len(peft["kohya"]) == len(peft["A1111"]) == 2 * 264
    assert f"{Q}.lora_A.weight" in peft["ComfyUI"]  # it knows attention under `.processor` only
    assert not any(key.startswith("text_encoder") for key in peft["ComfyUI"])


def test_text_encoder_names_without_their_model(make: Make, tmp_path: Path) -> None:
    """The commonest silent failure: exported from transformers >= 5.6 with the names it has there."""
    state = load_file(make("sd15").path)
    bare = {key.replace("lora_te_text_model_", "lora_te_"): tensor for key, tensor in state.items()}
    save_file(bare, tmp_path / "bare.safetensors")
    lost = unmatched(read_lora(tmp_path / "bare.safetensors"), "sd15")
    assert lost["lookdev"] == ()
    for program in ("kohya", "A1111", "ComfyUI"):
        assert len(lost[program]) == 3 * 72
        assert all(key.startswith("lora_te_encoder_") for key in lost[program])


def test_the_mixed_keys_of_diffusers_are_read(make: Make, tmp_path: Path) -> None:
    """convert_state_dict_to_diffusers renames q, k, v, out alone."""
    from diffusers.utils import convert_state_dict_to_diffusers

    state = {k: v for k, v in load_file(make("sd15", "peft").path).items() if k.startswith("unet.")}
    save_file(convert_state_dict_to_diffusers(state), tmp_path / "mixed.safetensors")
    lora = read_lora(tmp_path / "mixed.safetensors")
    lost = unmatched(lora, "sd15")
    assert lora.layout == "mixed"
    assert lost["lookdev"] == ()


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_a_renamed_key_is_listed_for_every_program(make: Make, tmp_path: Path, layout: str) -> None:
    state = {
        key.replace("mid_block_attentions_0_proj_in", "mid_block_attentions_0_proj_inn").replace(
            "mid_block.attentions.0.proj_in", "mid_block.attentions.0.proj_inn"
        ): tensor
        for key, tensor in load_file(make("sd15", layout).path).items()
    }
    odd = {key for key in state if "proj_inn" in key}
    save_file(state, tmp_path / "odd.safetensors")
    lost = unmatched(read_lora(tmp_path / "odd.safetensors"), "sd15")
    assert len(odd) == (3 if layout == "kohya" else 2)
    assert set(lost["lookdev"]) == odd
    assert all(odd <= set(keys) for keys in lost.values())


def test_dora_and_loha_are_what_diffusers_drops(make: Make, tmp_path: Path) -> None:
    state = load_file(make("sd15", few=True).path)
    name = family_names("sd15").kohya[Q]
    state[f"{name}.dora_scale"] = torch.ones(1280, 1)
    save_file(state, tmp_path / "dora.safetensors")
    assert unmatched(read_lora(tmp_path / "dora.safetensors"), "sd15")["diffusers"] == (f"{name}.dora_scale",)
    hada = {f"{name}.hada_w{i}_{half}": torch.ones(1280, 1) for i in (1, 2) for half in "ab"}
    hada = {key: tensor if key.endswith("a") else tensor.T.contiguous() for key, tensor in hada.items()}
    save_file(hada, tmp_path / "loha.safetensors")
    lost = unmatched(read_lora(tmp_path / "loha.safetensors"), "sd15")
    assert set(lost["diffusers"]) == set(hada)
    assert lost["ComfyUI"] == lost["A1111"] == ()


def test_another_family_has_no_place_for_it(make: Make) -> None:
    lora = make("sd15")
    lost = unmatched(lora, "sdxl")["lookdev"]
    assert f"{family_names('sd15').kohya[Q.replace('attn1.to_q', 'attn2.to_k')]}.lora_down.weight" in lost
    with pytest.raises(ModelError, match="made for another model"):
        place(lora, family_names("sdxl"), "sdxl")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Keys, dtypes, shapes and bits."""
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["peft", "diffusers"])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_from_kohya_and_back_bit_for_bit(
    make: Make, tmp_path: Path, family: str, layout: str, dtype: torch.dtype
) -> None:
    lora = make(family, conv=family == "sd15", dtype=dtype)
    state = dict(lora.state)
    odd = next(key for key in state if key.endswith(".alpha"))
    state[odd] = torch.tensor([0.1], dtype=torch.bfloat16)  # one alpha of another form
    write_lora(tmp_path / "there.safetensors", state, metadata={"ss_output_name": "iris"})
    there = read_lora(tmp_path / "there.safetensors")
    save(tmp_path / "away.safetensors", convert(there, layout, family))
    away = read_lora(tmp_path / "away.safetensors")
    assert away.layout == layout
    assert not any(key.endswith("alpha") for key in away.state)
    assert unmatched(away, family)["diffusers"] == ()
    for name, address in place(there, family_names(family), family).items():
        assert away.modules[address].alpha == there.modules[name].alpha
    save(tmp_path / "back.safetensors", convert(away, "kohya", family))
    assert same(load_file(tmp_path / "there.safetensors"), load_file(tmp_path / "back.safetensors"))
    assert (tmp_path / "there.safetensors").read_bytes() == (tmp_path / "back.safetensors").read_bytes()


def save(path: Path, converted: tuple[dict[str, torch.Tensor], dict[str, str]]) -> None:
    write_lora(path, converted[0], metadata=converted[1])


@pytest.mark.parametrize("layout", ["peft", "diffusers"])
def test_to_kohya_and_back_bit_for_bit(make: Make, tmp_path: Path, layout: str) -> None:
    lora = make("sdxl", layout, few=True)
    state, metadata = convert(lora, "kohya", "sdxl")
    write_lora(tmp_path / "kohya.safetensors", state, metadata=metadata)
    kohya = read_lora(tmp_path / "kohya.safetensors")
    assert set(unmatched(kohya, "sdxl").values()) == {()}
    back, restored = convert(kohya, layout, "sdxl")
    assert same(back, dict(lora.state))
    assert restored == lora.metadata


def test_dora_keeps_its_bits_and_takes_pefts_shape(tmp_path: Path) -> None:
    names = family_names("sd15").kohya
    conv = "unet.mid_block.resnets.0.conv1"
    state = {}
    for address, kernel in ((Q, ()), (conv, (3, 3))):
        ones = [1] * len(kernel)
        state[f"{names[address]}.lora_down.weight"] = torch.randn(2, 1280, *kernel)
        state[f"{names[address]}.lora_up.weight"] = torch.randn(1280, 2, *ones)
        state[f"{names[address]}.dora_scale"] = torch.rand(1280, 1, *ones)
        state[f"{names[address]}.alpha"] = torch.tensor(1.0)
    write_lora(tmp_path / "dora.safetensors", state, metadata={})
    peft, metadata = convert(read_lora(tmp_path / "dora.safetensors"), "peft", "sd15")
    assert peft[f"{Q}.lora_magnitude_vector"].shape == (1280,)
    assert peft[f"{conv}.lora_magnitude_vector"].shape == (1, 1280, 1, 1)
    write_lora(tmp_path / "peft.safetensors", peft, metadata=metadata)
    back, _ = convert(read_lora(tmp_path / "peft.safetensors"), "kohya", "sd15")
    assert same(back, state)


def test_what_cannot_be_converted_is_one_line(tmp_path: Path, make: Make) -> None:
    name = family_names("sd15").kohya[Q]
    hada = {f"{name}.hada_w{i}_a": torch.ones(1280, 1) for i in (1, 2)}
    hada |= {f"{name}.hada_w{i}_b": torch.ones(1, 1280) for i in (1, 2)}
    save_file(hada, tmp_path / "loha.safetensors")
    with pytest.raises(ModelError, match="lookdev lora resize"):
        convert(read_lora(tmp_path / "loha.safetensors"), "peft", "sd15")
    lora = make("sd15", few=True)
    with pytest.raises(ModelError, match="kohya's layout already"):
        convert(lora, "kohya", "sd15")
    write_lora(tmp_path / "bad.safetensors", lora.state, metadata={"lookdev.converted": '{"from": "peft"}'})
    with pytest.raises(ModelError, match=r"lookdev\.converted is damaged"):
        convert(read_lora(tmp_path / "bad.safetensors"), "peft", "sd15")


def deltas(lora: LoraFile, family: str) -> dict[str, torch.Tensor]:
    places = place(lora, family_names(family), family)
    return {address: lora.modules[name].delta() for name, address in places.items()}


def test_a_merge_is_the_weighted_sum(make: Make, tmp_path: Path) -> None:
    one, two = make("sd15", rank=2, few=True), make("sd15", "peft", rank=5, few=True, name="b")
    two_state = {k: v for k, v in two.state.items() if not k.startswith("text_encoder")}
    save_file(two_state, tmp_path / "unet.safetensors", dict(two.metadata))
    two = read_lora(tmp_path / "unet.safetensors")  # covers fewer layers, has another rank and layout
    result = merge([(one, 0.5), (two, -2.0)], "sd15", name="both")
    write_lora(tmp_path / "both.safetensors", result.state, metadata=result.metadata)
    both = read_lora(tmp_path / "both.safetensors")
    first, second, summed = deltas(one, "sd15"), deltas(two, "sd15"), deltas(both, "sd15")
    assert result.kept == 1.0
    assert {module.rank for module in both.modules.values()} == {2, 7}
    assert summed.keys() == first.keys()
    for address, found in summed.items():
        expected = 0.5 * first[address] + (-2.0 * second[address] if address in second else 0.0)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_cut_is_the_best_of_its_rank(make: Make) -> None:
    lora = make("sd15", rank=6, few=True)
    result = resize(lora, "sd15", name="small", rank=3)
    name, energy, kept = family_names("sd15").kohya[Q], 0.0, 0.0
    for address, whole in deltas(lora, "sd15").items():
        if address == Q:
            module = lora.modules[name]
            up, down = (module.parts[part].double() * module.scale**0.5 for part in ("up", "down"))
            # the squared singular values of up @ down are the eigenvalues of this small product
            squares = torch.linalg.eigvals(up.T @ up @ down @ down.T).real.sort(descending=True).values
            values = squares.sqrt().float()
            small = result.state[f"{name}.lora_up.weight"] @ result.state[f"{name}.lora_down.weight"]
            assert small.shape == whole.shape
            best = values[3:].square().sum()
            torch.testing.assert_close((whole - small).square().sum(), best, rtol=1e-3, atol=1e-3)
            energy, kept = float(values.square().sum()), float(values[:3].square().sum())
    assert result.state[f"{name}.lora_down.weight"].shape[0] == 3
    assert 0.4 < kept / energy < 1.0
    assert 0.4 < result.kept < 1.0
    whole = resize(lora, "sd15", name="same", rank=6)
    assert whole.kept == 1.0


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_loha_and_lokr_become_plain_lora(kind: str, tmp_path: Path) -> None:
    conv, names = "unet.mid_block.resnets.0.conv1", family_names("sd15").kohya
    state = {}
    for address, columns in ((Q, 1280), (conv, 1280 * 9)):
        name = names[address]
        if kind == "loha":
            state |= {f"{name}.hada_w{i}_a": i * torch.randn(1280, 2) for i in (1, 2)}
            state |= {f"{name}.hada_w{i}_b": torch.randn(2, columns) for i in (1, 2)}
        else:
            state |= {f"{name}.lokr_w1": torch.randn(4, 2), f"{name}.lokr_w2_a": torch.randn(320, 3)}
            state[f"{name}.lokr_w2_b"] = torch.randn(3, columns // 2)
        state[f"{name}.alpha"] = torch.tensor(1.5)
    save_file(state, tmp_path / "lycoris.safetensors")
    lora = read_lora(tmp_path / "lycoris.safetensors")
    result = resize(lora, "sd15", name="plain", rank=64)  # more than either needs: exact
    write_lora(tmp_path / "plain.safetensors", result.state, metadata=result.metadata)
    plain, whole = deltas(read_lora(tmp_path / "plain.safetensors"), "sd15"), deltas(lora, "sd15")
    for address in (Q, conv):
        expected = whole[address].reshape(plain[address].shape)
        assert (plain[address] - expected).norm() < 1e-4 * expected.norm()
    cut = resize(lora, "sd15", name="cut", rank=2)
    assert 0 < cut.kept < 1


def test_a_dora_cannot_be_summed(make: Make, tmp_path: Path) -> None:
    state = dict(make("sd15", few=True).state)
    state[f"{family_names('sd15').kohya[Q]}.dora_scale"] = torch.ones(1280, 1)
    save_file(state, tmp_path / "dora.safetensors")
    with pytest.raises(ModelError, match="DoRA"):
        merge([(read_lora(tmp_path / "dora.safetensors"), 1.0)], "sd15", name="x")


def test_info_says_what_is_in_the_file(make: Make, tmp_path: Path) -> None:
    metadata = {
        "ss_output_name": "iris",
        "modelspec.trigger_phrase": "irisbot",
        "ss_tag_frequency": '{"20_iris": {"irisbot": 20, "red coat": 12}}',
        "ss_sd_model_name": "v1-5-pruned",
        "ss_custom": "x",
    }
    write_lora(tmp_path / "iris.safetensors", make("sd15", rank=4).state, metadata=metadata)
    rows = dict(describe(read_lora(tmp_path / "iris.safetensors"), "sd15"))
    assert rows["name"] == "iris"
    assert rows["rank"] == "4"
    assert rows["modules"] == "UNet (192), text_encoder (72)"
    assert sorted(rows["alpha"].split(", ")) == ["1 (88)", "2 (88)", "3 (88)"]
    assert rows["trigger"] == "irisbot"
    assert rows["concept"] == "20_iris: irisbot (20), red coat (12)"
    assert rows["trained on"] == "v1-5-pruned"
    assert "ss_custom" in rows["other metadata"]
