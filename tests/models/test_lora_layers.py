"""Names of the full architectures, against diffusers' own converters and the published spellings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)

from pipeline.models.architectures import ARCHITECTURES, architecture
from pipeline.models.lora_layers import family_names


@pytest.mark.parametrize(
    ("family", "unet", "text"),
    [("sd15", 192, 72), ("sdxl", 722, 264)],  # kohya's counts of its default targets
)
def test_the_networks_are_the_published_ones(family: str, unet: int, text: int) -> None:
    layers = family_names(family).layers.values()
    in_transformers = [each for each in layers if each.root == "unet" and ".attentions." in each.path]
    in_encoders = [each for each in layers if ".self_attn." in each.path or ".mlp." in each.path]
    assert (len(in_transformers), len(in_encoders)) == (unet, text)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_diffusers_own_converter_reads_every_kohya_name_as_the_same_layer(family: str) -> None:
    names = family_names(family)
    state, sources = {}, {}
    for address, name in names.kohya.items():
        if address.endswith("text_projection"):  # no kohya trainer writes it
            continue
        tensor = torch.zeros(())
        sources[id(tensor)] = address
        state[f"{name}.lora_down.weight"] = tensor
        state[f"{name}.lora_up.weight"] = tensor
    config = SimpleNamespace(**architecture(family).unet)
    if architecture(family).unet_names == "sgm":
        state = _maybe_map_sgm_blocks_to_diffusers(state, config)
    converted, _ = _convert_non_diffusers_lora_to_diffusers(state)
    found = {}
    for key, tensor in converted.items():
        key = key.replace(".processor.", ".").replace(".to_out_lora.", ".to_out.0_lora.")
        for part in ("_lora.down.weight", ".lora.down.weight", ".lora_linear_layer.down.weight"):
            if key.endswith(part):
                found[sources[id(tensor)]] = key.removesuffix(part)
    text = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out.0": "out_proj"}
    for address, theirs in found.items():
        if ".self_attn." in theirs:
            head, _, last = theirs.partition(".self_attn.")
            theirs = f"{head}.self_attn.{text[last]}"
        assert theirs == address
    assert len(found) == len(sources)


def test_the_original_codes_names() -> None:
    names = family_names("sdxl")
    for name, address in {  # as in files that kohya's trainer wrote
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",  # noqa: E501
        "lora_unet_input_blocks_8_1_proj_out": "unet.down_blocks.2.attentions.1.proj_out",
        "lora_unet_input_blocks_3_0_op": "unet.down_blocks.0.downsamplers.0.conv",
        "lora_unet_input_blocks_4_0_skip_connection": "unet.down_blocks.1.resnets.0.conv_shortcut",
        "lora_unet_middle_block_1_transformer_blocks_9_ff_net_0_proj": "unet.mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj",  # noqa: E501
        "lora_unet_middle_block_2_emb_layers_1": "unet.mid_block.resnets.1.time_emb_proj",
        "lora_unet_output_blocks_2_2_conv": "unet.up_blocks.0.upsamplers.0.conv",
        "lora_unet_output_blocks_5_1_transformer_blocks_1_attn2_to_out_0": "unet.up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_out.0",  # noqa: E501
        "lora_unet_label_emb_0_2": "unet.add_embedding.linear_2",
        "lora_te1_text_model_encoder_layers_11_mlp_fc2": "text_encoder.text_model.encoder.layers.11.mlp.fc2",
        "lora_te2_text_model_encoder_layers_31_self_attn_out_proj": "text_encoder_2.text_model.encoder.layers.31.self_attn.out_proj",  # noqa: E501
    }.items():
        assert names.kohya[address] == name
        assert names.find(name) == address
    upsampler = family_names("sd15").find("lora_unet_output_blocks_2_1_conv")
    assert upsampler == "unet.up_blocks.0.upsamplers.0.conv"


def test_every_spelling_of_one_layer() -> None:
    names = family_names("sd15")
    q = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
    bare = q.removeprefix("unet.")
    old = bare.replace(".to_out.0", ".processor.to_out")
    for name in (q, bare, old, f"unet.{old}", f"base_model.model.{bare}", f"base_model.model.{q}"):
        assert names.find(name) == q, name
    k = "text_encoder.text_model.encoder.layers.3.self_attn.k_proj"
    for name in (
        "lora_te_text_model_encoder_layers_3_self_attn_k_proj",
        "lora_te1_text_model_encoder_layers_3_self_attn_k_proj",
        "lora_te_encoder_layers_3_self_attn_k_proj",  # exported from transformers >= 5.6 without mending
        k.replace("text_model.", ""),
        k.replace("k_proj", "to_k"),
        k,
    ):
        assert names.find(name) == k, name
    assert names.find("lora_unet_up_blocks_7_attentions_0_proj_in") is None


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_no_name_means_two_layers(family: str) -> None:
    names = family_names(family)
    assert len(set(names.kohya.values())) == len(names.layers)
    assert all(names.find(name) == address for address, name in names.kohya.items())
    assert all(names.find(address) == address for address in names.layers)
