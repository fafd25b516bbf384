"""ControlNets into memory: diffusers folders, single files in diffusers' or the original layout, unions.

The original layout is that of lllyasviel/ControlNet (cldm/cldm.py): `control_model.input_blocks...`, with or
without that prefix. Zhang et al. 2023; union: xinsir's ControlNet++ (diffusers' ControlNetUnionModel).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.architectures import architecture
from pipeline.models.controlnet_file import (
    CONFIG,
    UNION_TYPES,
    ControlNetFiles,
    check_controlnet,
    fetch_controlnet,
    find_controlnet,
    read_config,
)
from pipeline.models.detect import is_union
from pipeline.models.families import Family
from pipeline.models.header import Header
from pipeline.models.hub import is_hub_id
from pipeline.models.weights import Part, WeightFile

# The encoder of the control picture, as ControlNet's authors have it.
_CONDITIONING = (16, 32, 96, 256)
# What of a UNet's config a ControlNet shares: all but the way up.
_NOT_A_CONTROLNETS = frozenset(("sample_size", "out_channels", "up_block_types", "center_input_sample"))
_ORIGINAL = "control_model."
_MIXERS = "transformer_layes."  # so spelt in the files
# SDXL's size embedding, which diffusers' converter forgets for ControlNets.
_LABELS = {
    f"add_embedding.linear_{number}.{end}": f"label_emb.0.{layer}.{end}"
    for number, layer in ((1, 0), (2, 2))
    for end in ("weight", "bias")
}


class UnionControlNet(nn.Module):
    """One kind of a union ControlNet, called as a ControlNetModel is; several may share one network."""

    def __init__(self, net: Any, kind: str) -> None:
        """`net` is a ControlNetUnionModel; `kind` one of UNION_TYPES. Raises ModelError for another kind."""
        super().__init__()
        self.net = net
        if UNION_TYPES.get(kind, 99) >= net.config.num_control_type:
            raise ModelError(
                f"a union ControlNet takes {', '.join(UNION_TYPES)}; found '{kind}': change that [[control]]"
            )
        self.index = UNION_TYPES[kind]

    @property
    def config(self) -> Any:
        """The network's config."""
        return self.net.config

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.net.device)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        dtype = self.net.dtype
        assert isinstance(dtype, torch.dtype)
        return dtype

    def forward(
        self,
        sample: torch.Tensor,  # [B, C, h, w]
        timestep: torch.Tensor | float,
        *,
        encoder_hidden_states: torch.Tensor,
        controlnet_cond: torch.Tensor,  # [B, 3, H, W] in [0, 1]
        conditioning_scale: float = 1.0,
        added_cond_kwargs: Mapping[str, torch.Tensor] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Residuals for the UNet: (down, mid), as ControlNetModel gives them."""
        types = torch.zeros(len(sample), self.net.config.num_control_type, device=sample.device)
        types[:, self.index] = 1.0
        return self.net(
            sample,
            timestep,
            encoder_hidden_states=encoder_hidden_states,
            controlnet_cond=[controlnet_cond],
            control_type=types.to(sample.dtype),
            control_type_idx=[self.index],
            conditioning_scale=conditioning_scale,
            added_cond_kwargs=added_cond_kwargs,
            return_dict=return_dict,
        )


def controlnet_parts(
    paths: Mapping[str, str | Path], *, family: Family, offline: bool = False
) -> dict[str, Part]:
    """A part for each kind's ControlNet; kinds that name the same union file share one part.

    Raises ModelError, one line: not there, no ControlNet, of another family.
    """
    made: dict[Path, Part] = {}
    parts = {}
    for kind, path in paths.items():
        files = _files(path, offline)
        check_controlnet(files, family, kind=kind)
        parts[kind] = made.setdefault(files.weights.resolve(), controlnet_part(files, family))
    return parts


def controlnet_part(files: ControlNetFiles, family: Family) -> Part:
    """What makes diffusers' ControlNetModel of the files, or ControlNetUnionModel of a union's.

    A file without a config is taken to have the family's own shapes.
    """
    header = check_controlnet(files, family, kind=next(iter(UNION_TYPES)))
    where = f"ControlNet {files.weights}"
    config = controlnet_config(family, header) if files.config is None else read_config(files.config)
    kind = ControlNetUnionModel if is_union(header) else ControlNetModel
    rename = functools.partial(in_diffusers_names, config=config, where=where)
    return Part("ControlNet", functools.partial(_built, kind, config), WeightFile(files.weights, rename))


def as_kind(net: Any, kind: str) -> Any:
    """The network to call for one kind's picture."""
    return UnionControlNet(net, kind) if isinstance(net, ControlNetUnionModel) else net


def load_controlnet(
    path: str | Path,
    *,
    family: Family,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Load one ControlNet by itself: a .safetensors file, a diffusers folder or a hub id.

    Returns diffusers' ControlNetModel, or ControlNetUnionModel for a union (wrap it in UnionControlNet to
    call it). Raises ModelError, one line: not there, no ControlNet, of another family, weights that are
    missing, left over, misshapen or nan.
    """
    part = controlnet_part(_files(path, False), family)
    return part.fill(part.prepare(), device, dtype)


def _built(kind: Any, config: Mapping[str, Any]) -> nn.Module:
    module: nn.Module = kind.from_config(dict(config))
    return module


def controlnet_config(family: Family, header: Header) -> dict[str, Any]:
    """The config of a family's ControlNet: the UNet's way down, and the encoder of the picture.

    A family whose weights come with lookdev has ControlNets of its own, smaller than that.
    """
    if family.folder is not None:
        return read_config(family.folder / f"controlnet_{family.control_kinds[0]}" / CONFIG)
    unet = architecture(family.name).unet
    config = {key: value for key, value in unet.items() if key not in _NOT_A_CONTROLNETS}
    config |= {"conditioning_channels": 3, "conditioning_embedding_out_channels": _encoder_widths(header)}
    if is_union(header):
        shapes = {name: entry.shape for name, entry in header.tensors.items()}
        config["num_control_type"], config["num_trans_channel"] = shapes["task_embedding"]
        config["num_proj_channel"] = shapes["spatial_ch_projs.weight"][0]
        config["num_trans_layer"] = len({name.split(".")[1] for name in shapes if name.startswith(_MIXERS)})
    return config


def _encoder_widths(header: Header) -> tuple[int, ...]:
    """The channels of the picture's encoder: conv_in's, then those of each step down."""
    name = "controlnet_cond_embedding."
    shapes = {key.removeprefix(name): e.shape for key, e in header.tensors.items() if key.startswith(name)}
    steps = [f"blocks.{number}.weight" for number in range(1, len(shapes), 2)]
    widths = [shapes[key][0] for key in ("conv_in.weight", *steps) if shapes.get(key)]
    return tuple(widths) if len(widths) > 1 else _CONDITIONING


def in_diffusers_names(
    state: Mapping[str, torch.Tensor], config: Mapping[str, Any], *, where: str
) -> dict[str, torch.Tensor]:
    """The weights under diffusers' names, whichever layout they came in.

    Of a file that carries its base model too, only the ControlNet is taken. Raises ModelError that names a
    key which has no place.
    """
    if any(key.startswith(_ORIGINAL) for key in state):
        state = {key.removeprefix(_ORIGINAL): t for key, t in state.items() if key.startswith(_ORIGINAL)}
    if "input_hint_block.0.weight" not in state:
        return dict(state)
    # the converter fills what it does not find with None, and drops what it does not know
    converted = convert_controlnet_checkpoint(dict(state), {"layers_per_block": config["layers_per_block"]})
    renamed = {key: tensor for key, tensor in converted.items() if tensor is not None}
    renamed |= {ours: state[theirs] for ours, theirs in _LABELS.items() if theirs in state}
    taken = {id(tensor) for tensor in renamed.values()}
    unknown = [key for key, tensor in state.items() if id(tensor) not in taken]
    if unknown:
        raise ModelError(f"{where}: holds {unknown[0]}, which no ControlNet has; check what it is for")
    return renamed


def _files(path: str | Path, offline: bool) -> ControlNetFiles:
    return fetch_controlnet(str(path), offline=offline) if is_hub_id(path) else find_controlnet(path)
