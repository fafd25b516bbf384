"""What a safetensors file is, and for which family, from the names and shapes in its header. No torch here.

Names are those that the published tools write: the original Stable Diffusion code (`model.diffusion_model.`,
`control_model.`), diffusers (`down_blocks.`, `controlnet_cond_embedding.`), kohya's sd-scripts
(`lora_unet_`, `lllite_`), TencentARC's T2I-Adapter, stabilityai's Control-LoRA, A1111's embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from pipeline.models.families import FAMILIES
from pipeline.models.header import Header

Kind = Literal[
    "checkpoint",
    "unet",
    "vae",
    "tiny_vae",
    "text_encoder",
    "controlnet",
    "lora",
    "embedding",
    "control_lora",
    "controlnet_lllite",
    "controlnet_difference",
    "t2i_adapter",
    "ip_adapter",
    "unknown",
]

# A kind in a sentence: "... is <this>".
KIND_TITLES: Mapping[Kind, str] = MappingProxyType(
    {
        "checkpoint": "a whole checkpoint",
        "unet": "a UNet alone",
        "vae": "a VAE",
        "tiny_vae": "a tiny autoencoder (TAESD)",
        "text_encoder": "a text encoder",
        "controlnet": "a ControlNet",
        "lora": "a LoRA",
        "embedding": "a textual-inversion embedding",
        "control_lora": "a Control-LoRA",
        "controlnet_lllite": "a ControlNet-LLLite",
        "controlnet_difference": "a ControlNet stored as its difference from a base model",
        "t2i_adapter": "a T2I-Adapter",
        "ip_adapter": "an IP-Adapter",
        "unknown": "nothing that lookdev knows",
    }
)
# Other models that people's files are of, by the width of their cross-attention.
_OTHER_WIDTHS: Mapping[int, str] = MappingProxyType({1024: "sd2", 1280: "sdxl_refiner"})
_OTHER_TITLES: Mapping[str, str] = MappingProxyType(
    {"sd2": "SD 2.x", "sdxl_refiner": "the SDXL refiner", "sd3": "SD 3", "flux": "Flux"}
)
# Transformers without a cross-attention of their own, by their blocks' name.
_OTHER_BLOCKS: Mapping[str, str] = MappingProxyType({"joint_blocks": "sd3", "double_blocks": "flux"})

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_TEXT = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.")
# T2I-Adapter's first layers, in TencentARC's files and in diffusers'.
_T2I_NAMES = frozenset(
    ("body.0.block1.weight", "body.0.body.0.block1.weight", "body.0.resnets.0.block1.weight")
)
_TAESD = re.compile(r"\d+\.conv\.\d+\.weight$")  # its own files number a torch Sequential
_EMBEDDING_NAMES = frozenset(("emb_params", "clip_l", "clip_g", "*", "string_to_param.*"))
_EMBEDDING_WIDTHS = frozenset((768, 1024, 1280))
# kohya's and LyCORIS' prefixes, PEFT's and diffusers' suffixes, the parts of LoHa, LoKr and DoRA.
_LORA = re.compile(
    r"^(?:lora_(?:unet|te\d?)_|lycoris_)|[._]lora[._](?:down|up)\.|\.lora_(?:down|up|mid|A|B)\."
    r"|\.lora_linear_layer\.|\.lora_magnitude_vector|\.dora_scale$|\.hada_w[12]_[ab]$|\.lokr_w[12](?:_[ab])?$"
)
_CROSS_KEY = re.compile(r"attn2[._](?:processor\.)?to_k(?=[._])")
# What follows there in tensors whose second axis is the context's width.
_WIDE_END = re.compile(
    r"\.weight|\.lora_(?:down|A)(?:\.default)?\.weight|[._]lora\.down\.weight|\.hada_w1_b|\.diff"
)
_LOKR_FACTOR = re.compile(r"\.lokr_w([12])(?:_b)?")


def kind_of(header: Header) -> Kind:
    """What a file holds, by the names of its tensors; "unknown" where nothing fits.

    A ControlNet 1.0 file that carries its whole base model with it counts as "controlnet".
    """
    names = header.tensors.keys()
    if _some(names, "lllite_"):
        return "controlnet_lllite"
    if "lora_controlnet" in names:
        return "control_lora"
    if _some(names, "control_model.") or {"zero_convs.0.0.weight", "input_hint_block.0.weight"} <= names:
        return "controlnet_difference" if "difference" in names else "controlnet"
    if _some(names, "controlnet_cond_embedding.", "controlnet_down_blocks."):
        return "controlnet"
    if _some(names, "ip_adapter.", "image_proj."):
        return "ip_adapter"
    if any(_LORA.search(name) for name in names):
        return "lora"
    if _some(names, _UNET):
        return "checkpoint" if _some(names, _VAE, *_TEXT) else "unet"
    return _kind_of_part(header)


def _kind_of_part(header: Header) -> Kind:
    """The kinds that have no prefix of their own."""
    names = header.tensors.keys()
    bare = {name.removeprefix(_VAE) for name in names}
    if _some(names, "up_blocks.", "output_blocks.", *(f"{block}." for block in _OTHER_BLOCKS)):
        return "unet"
    if {"encoder.conv_in.weight", "decoder.conv_in.weight"} & bare:
        return "vae"
    if _some(names, "decoder.layers.") or any(_TAESD.match(name) for name in names):
        return "tiny_vae"
    if {name.removeprefix("adapter.") for name in names} & _T2I_NAMES:
        return "t2i_adapter"
    if any("text_model.encoder." in name or "transformer.resblocks." in name for name in names):
        return "text_encoder"
    if _some(names, "embeddings.token_embedding."):
        return "text_encoder"
    return "embedding" if _embedding_width(header) is not None else "unknown"


def family_of(header: Header) -> str | None:
    """The family that a file belongs to, or None where its tensors do not tell (a VAE).

    A name of `FAMILIES`, or "sd2", "sdxl_refiner", "sd3", "flux", which no row takes; see `family_title`.
    """
    for name in header.tensors:
        for block, family in _OTHER_BLOCKS.items():
            if block in name.split("."):
                return family
    width = context_width(header)
    for row in FAMILIES.values():
        if row.context_width == width:
            return row.name
    if width is None and _some(header.tensors, "lora_te2_"):
        return "sdxl"  # a LoRA on the text encoders alone; no other family has a second
    return None if width is None else _OTHER_WIDTHS.get(width)


def family_title(name: str) -> str:
    """What people call a family that `family_of` names."""
    return FAMILIES[name].title if name in FAMILIES else _OTHER_TITLES[name]


def context_width(header: Header) -> int | None:
    """The width of the text that a file's cross-attention reads; None where there is no such tensor.

    A UNet's, ControlNet's or LoRA's is the width of what the first key projection takes; an embedding's is
    that of its vectors (for SDXL the sum of both encoders').
    """
    if kind_of(header) == "embedding":
        return _embedding_width(header)
    factors: dict[str, int] = {}
    for name, (_, shape) in header.tensors.items():
        found = _CROSS_KEY.search(name)
        if found is None or len(shape) < 2:
            continue
        end = name[found.end() :]
        if _WIDE_END.fullmatch(end):
            return shape[1]
        factor = _LOKR_FACTOR.fullmatch(end)
        if factor is not None:  # W = kron(w1, w2): the widths multiply
            factors[factor[1]] = shape[1]
            if len(factors) == 2:
                return factors["1"] * factors["2"]
    return None


def is_union(header: Header) -> bool:
    """Whether a ControlNet takes several kinds of picture in one file (xinsir's ControlNet++ union)."""
    return _some(header.tensors.keys(), "control_add_embedding.", "task_embedding")


def _embedding_width(header: Header) -> int | None:
    """The width of a textual-inversion file's vectors, None where it is none."""
    shapes = {name: entry.shape for name, entry in header.tensors.items()}
    if {"clip_l", "clip_g"} <= shapes.keys():
        return shapes["clip_l"][-1] + shapes["clip_g"][-1]
    vectors = [shape for shape in shapes.values() if len(shape) in (1, 2) and shape[-1] in _EMBEDDING_WIDTHS]
    named = [shapes[name] for name in shapes.keys() & _EMBEDDING_NAMES if shapes[name]]
    if named:
        return named[0][-1]
    return vectors[0][-1] if vectors and len(shapes) == 1 else None  # diffusers: {token: [n, width]}


def _some(names: Iterable[str], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in names)
