"""A VAE of its own beside a model: a file or folder, the full autoencoder or a tiny one (TAESD)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.architectures import architecture
from pipeline.models.detect import KIND_TITLES, kind_of
from pipeline.models.families import Family
from pipeline.models.find import header_of
from pipeline.models.original import VAE_PREFIX, vae_names
from pipeline.models.weights import Part, WeightFile, weights_in

_CONFIG = "config.json"
_WEIGHTS = "diffusion_pytorch_model"


def vae_part(path: Path, family: Family, *, allow_pickle: bool = False) -> Part:
    """The part that `load_model` fills from `path`: a folder in diffusers layout, a VAE's file in either
    layout, a whole checkpoint's baked VAE, or a TAESD-shaped file as diffusers writes it.

    A file has no config; a full VAE's is the family's, a tiny one's is TAESD's. Raises ModelError.
    """
    if path.is_dir():
        return _from_folder(path, family, allow_pickle)
    kind = kind_of(header_of(path, allow_pickle=allow_pickle))
    spec = architecture(family.name)
    if kind == "tiny_vae":
        return Part("tiny VAE", AutoencoderTiny, WeightFile(path, allow_pickle=allow_pickle))
    if kind not in ("vae", "checkpoint"):
        raise ModelError(f"{path}: is {KIND_TITLES[kind]}; expected a VAE for {family.title}")
    if not spec.vae:
        raise ModelError(f"{path}: {family.title} takes no other VAE as a file; take vae out")
    prefix = VAE_PREFIX if kind == "checkpoint" else ""
    weights = WeightFile(path, functools.partial(vae_names, spec=spec), prefix, allow_pickle)
    return Part("VAE", functools.partial(_built, AutoencoderKL, spec.vae), weights)


def _from_folder(folder: Path, family: Family, allow_pickle: bool) -> Part:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        name = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: no readable {_CONFIG} ({type(error).__name__}); expected a VAE's folder in diffusers "
            "layout, or give its .safetensors file"
        ) from error
    if name not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ModelError(f"{folder}: is a {name}; expected an AutoencoderKL or AutoencoderTiny")
    file = weights_in(folder, _WEIGHTS, allow_pickle)
    if name == "AutoencoderTiny":
        build = functools.partial(_built, AutoencoderTiny, config)
        return Part("tiny VAE", build, WeightFile(file, allow_pickle=allow_pickle))
    rename = functools.partial(vae_names, spec=architecture(family.name))
    build = functools.partial(_built, AutoencoderKL, config)
    return Part("VAE", build, WeightFile(file, rename, "", allow_pickle))


def _built(kind: Any, config: Mapping[str, Any]) -> nn.Module:
    module: nn.Module = kind.from_config(dict(config))
    return module
