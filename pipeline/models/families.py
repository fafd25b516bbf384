"""The table of model families. No torch here: planning and `--help` read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Family:
    """One row: what differs between families of Stable-Diffusion-shaped models.

    `title` is what people call it. `size_multiple`, `default_size` and `bucket_step` are pixels; training
    cuts images to sides in steps of `bucket_step`, to squares only where it is 0. `context_width` is the
    UNet's `cross_attention_dim`, by which files and folders on disk are recognised. `lora_architecture`
    (modelspec.architecture) and `base_model_version` (ss_base_model_version) are what lookdev's LoRA files of
    this family say about themselves; `lora_base` is an expression that finds what others say there, in lower
    case with single spaces for all other characters. `frames_at_once` is how many frames share a forward pass
    on a CPU, where more gains nothing. `half_vae`: whether its VAE may compute in float16 (SDXL's overflows).
    `a1111_version` is A1111's "sd version". `lora_rate` and `full_rate` are the learning rates that a
    training takes where its file says none, for low-rank kinds and for the whole UNet; `text_rate` and
    `text_stop` are the text encoders' beside a low-rank UNet (0: they stay), `alpha_share` is alpha / rank,
    `batch` the images of a batch. `guidance` is what its presets that ship render with. `folder` holds the
    weights that come with lookdev, where there are any.
    """

    name: str
    title: str
    size_multiple: int
    default_size: int
    control_kinds: tuple[str, ...]
    context_width: int
    lora_architecture: str
    base_model_version: str
    lora_base: str
    frames_at_once: int = 1
    half_vae: bool = True
    a1111_version: str = "Unknown"
    lora_rate: float = 2e-4
    full_rate: float = 2e-6
    text_rate: float = 0.0
    text_stop: float = 0.4
    alpha_share: float = 0.5
    batch: int = 4
    guidance: float = 6.0
    bucket_step: int = 64
    folder: Path | None = None


# What a ControlNet may be drawn from; the names that presets use.
CONTROL_KINDS = ("depth", "pose", "normal", "canny", "softedge", "lineart")

_MINI = Family(
    name="mini",
    title="the built-in miniature",
    size_multiple=8,
    default_size=128,
    control_kinds=("depth", "pose"),
    context_width=128,
    lora_architecture="lookdev-mini/lora",
    base_model_version="lookdev_mini",
    lora_base=r"\blookdev mini\b",
    frames_at_once=4,
    bucket_step=0,
    folder=Path(__file__).parent / "mini",
    lora_rate=1e-3,
    full_rate=1e-4,
    text_stop=1.0,
    alpha_share=1.0,
    batch=8,
    guidance=1.0,
)

_SD15 = Family(
    name="sd15",
    title="Stable Diffusion 1.5",
    size_multiple=8,
    default_size=512,
    control_kinds=CONTROL_KINDS,
    context_width=768,
    lora_architecture="stable-diffusion-v1/lora",
    base_model_version="sd_v1",
    lora_base=r"\b(sd|stable diffusion) ?v? ?1([45 ]|$)",
    a1111_version="SD1",
    text_rate=5e-5,
)
_SDXL = Family(
    name="sdxl",
    title="SDXL",
    size_multiple=8,
    default_size=1024,
    control_kinds=CONTROL_KINDS,
    context_width=2048,
    lora_architecture="stable-diffusion-xl-v1-base/lora",
    base_model_version="sdxl_base_v1-0",
    lora_base=r"\b(sdxl|sd xl|stable diffusion xl)",
    half_vae=False,
    a1111_version="SDXL",
    lora_rate=1e-4,
    guidance=5.5,
)

FAMILIES: Mapping[str, Family] = MappingProxyType({row.name: row for row in (_MINI, _SD15, _SDXL)})
