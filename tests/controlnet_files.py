"""Small random ControlNets for tests, and their names in the original layout, written from its source.

The original layout is cldm/cldm.py of lllyasviel/ControlNet over openaimodel.py of CompVis: `input_blocks`
counted through, a residual block at .0, its attention at .1, a step down as a block of its own (`.0.op`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from lora_samples import narrow

from pipeline.models.families import FAMILIES, Family

LAYERS = 2  # residual blocks in a level, in every published model
INNER = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
WHOLE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
    "controlnet_mid_block": "middle_block_out.0",
}


def narrow_family(name: str) -> Family:
    """The family's row with the width of its narrow networks."""
    return replace(FAMILIES[name], context_width=narrow(name).unet["cross_attention_dim"])


def narrow_config(name: str) -> dict[str, Any]:
    """What diffusers makes a ControlNet of this family from, with few channels."""
    wanted = (
        "in_channels",
        "layers_per_block",
        "block_out_channels",
        "down_block_types",
        "attention_head_dim",
        "transformer_layers_per_block",
        "cross_attention_dim",
        "use_linear_projection",
        "addition_embed_type",
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
        "norm_num_groups",
    )
    unet = narrow(name).unet
    return {key: unet[key] for key in wanted if key in unet}


def make_net(name: str, *, seed: int = 0) -> Any:
    return _filled(ControlNetModel(**narrow_config(name)), seed)


def make_union(name: str, *, num_types: int = 6, seed: int = 0) -> Any:
    config = narrow_config(name) | {"num_control_type": num_types, "num_trans_head": 4}
    config |= {"num_trans_channel": config["block_out_channels"][0]}
    config |= {"num_proj_channel": config["block_out_channels"][0]}
    return _filled(ControlNetUnionModel(**config), seed)


def _filled(net: Any, seed: int) -> Any:
    """Every weight random: a fresh ControlNet's last layers are zero and would hide a mix-up."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return net.eval().requires_grad_(False)


def original_name(key: str) -> str:
    """A diffusers ControlNet's key as the original code names it."""
    path, _, end = key.rpartition(".")
    if path in WHOLE:
        return f"{WHOLE[path]}.{end}"
    found = re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)", path)
    if found:
        return f"input_hint_block.{2 * int(found[1]) + 2}.{end}"
    found = re.fullmatch(r"controlnet_down_blocks\.(\d+)", path)
    if found:
        return f"zero_convs.{found[1]}.0.{end}"
    found = re.fullmatch(r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.(.+)", path)
    if found:
        level, part, number, rest = int(found[1]), found[2], int(found[3]), found[4]
        if part == "downsamplers":
            return f"input_blocks.{(LAYERS + 1) * (level + 1)}.0.op.{end}"
        block = 1 + (LAYERS + 1) * level + number
        if part == "resnets":
            return f"input_blocks.{block}.0.{INNER[rest]}.{end}"
        return f"input_blocks.{block}.1.{rest}.{end}"
    found = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", path)
    assert found, key
    if found[1] == "attentions":
        return f"middle_block.1.{found[3]}.{end}"
    return f"middle_block.{2 * int(found[2])}.{INNER[found[3]]}.{end}"


def in_original_names(state: Mapping[str, torch.Tensor], *, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + original_name(key): tensor.contiguous() for key, tensor in state.items()}
