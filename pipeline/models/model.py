"""A loaded model: the modules and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.models.families import Family


@dataclass(frozen=True)
class Model:
    """The modules of one model, in eval mode, frozen, on one device, in one dtype (a VAE may be in float32).

    unet            diffusers UNet2DConditionModel
    vae             diffusers AutoencoderKL or AutoencoderTiny
    text_encoder    transformers CLIPTextModel
    tokenizer       transformers CLIPTokenizer
    controlnets     kind -> diffusers ControlNetModel or UnionControlNet; a control image is RGB in [0, 1]
    scheduler_config  the config a diffusers scheduler is built from
    text_encoder_2, tokenizer_2     SDXL's second pair (CLIPTextModelWithProjection); None in other families
    embedding_ids   word of a textual inversion, in lower case -> the ids of its vectors in each text encoder
    originals       weights that `apply_loras` changed, as they were before: "unet.<name>",
    "text_encoder.<name>" or "text_encoder_2.<name>"
    said            prompts that were encoded already; whoever changes a text encoder's weights clears it
    """

    family: Family
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    controlnets: Mapping[str, Any]
    scheduler_config: Mapping[str, Any] = field(repr=False)
    text_encoder_2: Any = None
    tokenizer_2: Any = None
    embedding_ids: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict, repr=False)
    originals: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    said: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the UNet computes."""
        return torch.device(self.unet.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet computes in."""
        dtype = self.unet.dtype
        assert isinstance(dtype, torch.dtype)
        return dtype

    @property
    def latent_factor(self) -> int:
        """Pixels per latent along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))
