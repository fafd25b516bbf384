"""Checkpoints in the original layout, written from diffusers' and transformers' modules.

The names are those of CompVis' and Stability AI's code, as single files on model sites hold them. The mapping
goes the other way than the loader's and shares nothing with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

State = dict[str, torch.Tensor]

_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def unet_state(unet: nn.Module) -> State:
    """`model.diffusion_model.*`."""
    layers, blocks = unet.config.layers_per_block, len(unet.config.down_block_types)
    attends = ["Attn" in kind for kind in unet.config.up_block_types]
    return {
        f"model.diffusion_model.{_unet_name(name, layers, attends, blocks)}": tensor
        for name, tensor in unet.state_dict().items()
    }


def _unet_name(name: str, layers: int, attends: list[bool], blocks: int) -> str:
    for ours, theirs in _UNET_ENDS.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    if mid := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 1 if mid[1] == "attentions" else 2 * int(mid[2])
        return f"middle_block.{place}.{_inside(mid[1], mid[3])}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert found, name
    side, block, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{block * (layers + 1) + layers}.{2 if attends[block] else 1}.{rest}"
    entry = block * (layers + 1) + number
    place = 1 if kind == "attentions" else 0
    if side == "down":
        return f"input_blocks.{1 + entry}.{place}.{_inside(kind, rest)}"
    return f"output_blocks.{entry}.{place}.{_inside(kind, rest)}"


def _inside(kind: str, rest: str) -> str:
    if kind != "resnets":
        return rest
    layer, _, end = rest.rpartition(".")
    return f"{_RESNET[layer]}.{end}"


def vae_state(vae: nn.Module, prefix: str = "first_stage_model.") -> State:
    """`first_stage_model.*`: attention as 1x1 convolutions, the decoder's blocks counted from the top."""
    top = len(vae.config.block_out_channels) - 1
    state = {}
    for name, tensor in vae.state_dict().items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", new)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{top - int(m[1])}.block.{m[2]}", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{top - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        if "mid_block.attentions.0." in new:
            for ours, theirs in _VAE_ATTENTION.items():
                new = new.replace(f"mid_block.attentions.0.{ours}.", f"mid.attn_1.{theirs}.")
            if new.endswith(".weight") and ".norm." not in new:
                tensor = tensor[:, :, None, None]
        state[prefix + new] = tensor
    return state


def clip_state(encoder: nn.Module, prefix: str) -> State:
    """A text encoder under transformers' names, always with `text_model.`, and the buffer of old versions."""
    state = {
        f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in encoder.state_dict().items()
    }
    tokens = encoder.config.max_position_embeddings
    state[f"{prefix}text_model.embeddings.position_ids"] = torch.arange(tokens)[None]
    return state


def open_clip_state(encoder: nn.Module, prefix: str = "conditioner.embedders.1.model.") -> State:
    """A text encoder under OpenCLIP's names: q, k, v in one tensor, the projection transposed."""
    ours = {name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()}
    state = {
        "token_embedding.weight": ours["embeddings.token_embedding.weight"],
        "positional_embedding": ours["embeddings.position_embedding.weight"],
        "ln_final.weight": ours["final_layer_norm.weight"],
        "ln_final.bias": ours["final_layer_norm.bias"],
        "text_projection": ours["text_projection.weight"].T,
        "logit_scale": torch.tensor(4.6),
    }
    for layer in range(encoder.config.num_hidden_layers):
        old, new = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for end in ("weight", "bias"):
            parts = [ours[f"{old}.self_attn.{part}_proj.{end}"] for part in "qkv"]
            state[f"{new}.attn.in_proj_{end}"] = torch.cat(parts)
            for name, theirs in _OPEN_CLIP.items():
                state[f"{new}.{theirs}.{end}"] = ours[f"{old}.{name}.{end}"]
    return {prefix + name: tensor for name, tensor in state.items()}


def checkpoint_state(parts: Mapping[str, nn.Module]) -> State:
    """A whole checkpoint from modules by their names in `Model`; without "vae" none is baked in."""
    state = unet_state(parts["unet"])
    if "vae" in parts:
        state |= vae_state(parts["vae"])
    if "text_encoder_2" not in parts:
        return state | clip_state(parts["text_encoder"], "cond_stage_model.transformer.")
    state |= clip_state(parts["text_encoder"], "conditioner.embedders.0.transformer.")
    return state | open_clip_state(parts["text_encoder_2"])


def write_state(path: Path, state: State, dtype: torch.dtype = torch.float16) -> Path:
    """Write a safetensors file, floating point numbers in `dtype`."""
    cast = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in state.items()
    }
    save_file(cast, path)
    return path
