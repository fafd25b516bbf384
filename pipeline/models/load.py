"""A model on disk -> Model: a folder in diffusers layout, or one file in the original layout.

Local files only (`find_model` has fetched what a hub id names); safetensors, unless a pickle is allowed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipeline.errors import ModelError
from pipeline.models.architectures import Architecture, TextEncoder, architecture
from pipeline.models.controlnet import as_kind, controlnet_parts
from pipeline.models.families import Family
from pipeline.models.find import find_model, header_of
from pipeline.models.model import Model
from pipeline.models.original import UNET_PREFIX, VAE_PREFIX, text_names, unet_names, vae_names
from pipeline.models.tokenizer import clip_tokenizer
from pipeline.models.vae import vae_part
from pipeline.models.weights import Part, WeightFile, weights_in

_WEIGHTS = "diffusion_pytorch_model"
_TEXT_WEIGHTS = "model"
_BROKEN = (OSError, ValueError, TypeError, KeyError)  # what a broken config or tokenizer raises


def load_model(
    name_or_path: str | Path,
    *,
    controls: Sequence[str] | Mapping[str, str | Path | None] = ("depth", "pose"),
    vae: Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    offline: bool = False,
    allow_pickle: bool = False,
) -> Model:
    """Load a model that `find_model` finds.

    `controls` are the kinds of ControlNet to load: the model's own (folders `controlnet_<kind>`), or in a
    mapping also each kind's file, folder or hub id, None for the model's own. `vae` replaces the model's own:
    a file or folder, TAESD-shaped ones too. Whatever dtype is on disk, the modules compute in `dtype`, but
    for a VAE that would overflow in float16. Every part is checked before any weight is read. Raises
    ModelError when a part is missing, damaged, or of another shape than its family's.
    """
    family, path = find_model(name_or_path, offline=offline, allow_pickle=allow_pickle)
    files = controls if isinstance(controls, Mapping) else dict.fromkeys(controls)
    given = {kind: file for kind, file in files.items() if file is not None}
    own = tuple(kind for kind in files if kind not in given)
    if path.is_dir():
        _require_parts(family, path, own, vae)
    elif own:
        raise ModelError(f"{path}: has no ControlNets in it; give each [[control]] a path of its own")
    of = _from_folder if path.is_dir() else _from_file
    parts, tokenizers, scheduler = of(family, path, vae, allow_pickle)
    nets = controlnet_parts(given, family=family, offline=offline)
    for kind in own:
        folder = path / f"controlnet_{kind}"
        nets[kind] = _folder_part(ControlNetModel, folder, f"ControlNet '{kind}'", allow_pickle)
    prepared = {id(part): part.prepare() for part in (*parts.values(), *nets.values())}
    ready: dict[int, Any] = {}

    def made(part: Part, dtype: torch.dtype) -> Any:
        if id(part) not in ready:
            ready[id(part)] = part.fill(prepared[id(part)], device, dtype)
        return ready[id(part)]

    return Model(
        family=family,
        controlnets={kind: as_kind(made(nets[kind], dtype), kind) for kind in files},
        scheduler_config=scheduler,
        **{name: made(part, _dtype_of(name, family, dtype)) for name, part in parts.items()},
        **tokenizers,
    )


_Contents = tuple[dict[str, Part], dict[str, Any], Mapping[str, Any]]  # parts, tokenizers, scheduler config


def _from_folder(family: Family, folder: Path, vae: Path | None, allow_pickle: bool) -> _Contents:
    parts = {"unet": _folder_part(UNet2DConditionModel, folder / "unet", "UNet", allow_pickle)}
    parts["vae"] = vae_part(vae or folder / "vae", family, allow_pickle=allow_pickle)
    tokenizers = {}
    for encoder in architecture(family.name).text_encoders:
        own = folder / encoder.root
        weights = WeightFile(weights_in(own, _TEXT_WEIGHTS, allow_pickle), allow_pickle=allow_pickle)
        build = functools.partial(_text_encoder, encoder, functools.partial(_text_config, own))
        parts[encoder.root] = Part(encoder.root.replace("_", " "), build, weights)
        name = encoder.root.replace("text_encoder", "tokenizer")
        tokenizers[name] = _load_tokenizer(folder / name)
    return parts, tokenizers, _load_scheduler_config(folder / "scheduler" / "scheduler_config.json")


def _from_file(family: Family, path: Path, vae: Path | None, allow_pickle: bool) -> _Contents:
    """A single file in the original layout, its configs and tokenizer from the family: no network."""
    spec = architecture(family.name)
    names = header_of(path, allow_pickle=allow_pickle).tensors.keys()

    def part(title: str, build: Callable[[], nn.Module], rename: Any, prefix: str) -> Part:
        if not any(name.startswith(prefix) for name in names):
            advice = "; give one: vae = ..." if title == "VAE" else "; take the whole checkpoint"
            raise ModelError(f"{path}: has no {title} in it (no {prefix}*){advice}")
        return Part(title, build, WeightFile(path, rename, prefix, allow_pickle))

    def unet() -> nn.Module:
        return _diffusers(UNet2DConditionModel, spec.unet)

    parts = {"unet": part("UNet", unet, functools.partial(unet_names, spec=spec), UNET_PREFIX)}
    if vae is None:
        rename = functools.partial(vae_names, spec=spec)
        parts["vae"] = part("VAE", lambda: _diffusers(AutoencoderKL, spec.vae), rename, VAE_PREFIX)
    else:
        parts["vae"] = vae_part(vae, family, allow_pickle=allow_pickle)
    tokenizers = {}
    for encoder in spec.text_encoders:
        build = functools.partial(_text_encoder, encoder, functools.partial(CLIPTextConfig, **encoder.config))
        rename = functools.partial(text_names, encoder=encoder)
        parts[encoder.root] = part(encoder.root.replace("_", " "), build, rename, encoder.original)
        tokenizers[encoder.root.replace("text_encoder", "tokenizer")] = clip_tokenizer(
            pad_token=encoder.pad_token
        )
    return parts, tokenizers, _scheduler_of(spec, names)


def _scheduler_of(spec: Architecture, names: Any) -> Mapping[str, Any]:
    """The family's schedule; empty tensors `v_pred` and `ztsnr` mark checkpoints trained another way."""
    marked: dict[str, Any] = {}
    if "v_pred" in names:
        marked["prediction_type"] = "v_prediction"
    if "ztsnr" in names:
        marked["rescale_betas_zero_snr"] = True
    return MappingProxyType({**spec.scheduler, **marked})


def _require_parts(family: Family, folder: Path, controls: Sequence[str], vae: Path | None) -> None:
    for kind in controls:
        if not (folder / f"controlnet_{kind}").is_dir():
            there = sorted(p.name.removeprefix("controlnet_") for p in folder.glob("controlnet_*"))
            if not there and not (folder / "unet").is_dir():
                break  # the whole model is missing; the next check says so
            raise ModelError(
                f"{folder}: has no ControlNet '{kind}'; there are: {', '.join(there) or 'none'}; "
                "give that [[control]] a path, or change the preset's controls"
            )
    encoders = [encoder.root for encoder in architecture(family.name).text_encoders]
    needed = [f"{part}/config.json" for part in ("unet", *encoders, *(f"controlnet_{k}" for k in controls))]
    needed += [f"{root.replace('text_encoder', 'tokenizer')}/tokenizer_config.json" for root in encoders]
    needed += ["scheduler/scheduler_config.json", *([] if vae else ["vae/config.json"])]
    missing = [name for name in needed if not (folder / name).is_file()]
    if not missing:
        return
    advice = "expected a model folder in diffusers layout with safetensors weights"
    if folder == family.folder:
        advice = "the built-in weights are missing: run python -m samples.miniature.train, or reinstall"
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    raise ModelError(f"{folder}: has no {missing[0]}{more}; {advice}")


def _folder_part(kind: Any, folder: Path, title: str, allow_pickle: bool) -> Part:
    def build() -> nn.Module:
        return _diffusers(kind, kind.load_config(folder, local_files_only=True))

    weights = weights_in(folder, _WEIGHTS, allow_pickle)
    return Part(title, build, WeightFile(weights, allow_pickle=allow_pickle))


def _diffusers(kind: Any, config: Mapping[str, Any]) -> nn.Module:
    module: nn.Module = kind.from_config(dict(config))
    return module


def _text_encoder(encoder: TextEncoder, config: Callable[[], Any]) -> nn.Module:
    kind = CLIPTextModelWithProjection if encoder.projected else CLIPTextModel
    module: nn.Module = kind(config())
    return module


def _text_config(folder: Path) -> Any:
    return CLIPTextConfig.from_pretrained(folder, local_files_only=True)


def _dtype_of(part: str, family: Family, dtype: torch.dtype) -> torch.dtype:
    overflows = part == "vae" and not family.half_vae and dtype == torch.float16
    return torch.float32 if overflows else dtype


def _load_tokenizer(folder: Path) -> Any:
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except _BROKEN as error:
        raise _broken(folder, error) from error


def _load_scheduler_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except _BROKEN as error:
        raise _broken(path, error) from error
    if not isinstance(config, dict) or "num_train_timesteps" not in config:
        raise ModelError(f"{path}: is no scheduler config; expected an object with num_train_timesteps")
    return config


def _broken(folder: Path, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(
        f"{folder}: cannot be loaded ({reason[:160]}); expected whole files; copy the model again"
    )
