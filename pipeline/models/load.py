"""A folder in diffusers layout -> Model. Reads local files only, safetensors only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipeline.errors import ModelError
from pipeline.models.controlnet import load_controlnets
from pipeline.models.families import Family, find_model
from pipeline.models.model import Model
from pipeline.models.names import bare_text_name

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_TEXT_WEIGHTS = "model.safetensors"
# What reading a broken folder raises: files (OSError), JSON and configs (ValueError, TypeError, KeyError),
# tensors of a wrong shape (RuntimeError), damaged weights (SafetensorError).
_BROKEN = (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError)


def load_model(
    name_or_path: str | Path,
    *,
    controls: Sequence[str] | Mapping[str, str | Path | None] = ("depth", "pose"),
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Model:
    """Load a family's own weights by name, or a folder in diffusers layout.

    `controls` are the kinds of ControlNet to load: the model's own (folders `controlnet_<kind>`), or in a
    mapping also each kind's file, folder or hub id, None for the model's own. Whatever dtype is on disk,
    the modules compute in `dtype`. Only a hub id may touch the network. Raises ModelError when a part is
    missing, damaged, or of another shape than its config says.
    """
    family, folder = find_model(name_or_path)
    files = controls if isinstance(controls, Mapping) else dict.fromkeys(controls)
    given = {kind: path for kind, path in files.items() if path is not None}
    own = tuple(kind for kind in controls if kind not in given)
    _require_parts(family, folder, own)
    controlnets = load_controlnets(given, family=family, device=device, dtype=dtype)
    controlnets |= {
        kind: _load_diffusers(ControlNetModel, folder / f"controlnet_{kind}", device, dtype) for kind in own
    }
    return Model(
        family=family,
        unet=_load_diffusers(UNet2DConditionModel, folder / "unet", device, dtype),
        vae=_load_diffusers(AutoencoderKL, folder / "vae", device, dtype),
        text_encoder=_load_text_encoder(folder / "text_encoder", device, dtype),
        tokenizer=_load_tokenizer(folder / "tokenizer"),
        controlnets={kind: controlnets[kind] for kind in controls},
        scheduler_config=_load_scheduler_config(folder / "scheduler" / "scheduler_config.json"),
    )


def _require_parts(family: Family, folder: Path, controls: Sequence[str]) -> None:
    for kind in controls:
        if not (folder / f"controlnet_{kind}").is_dir():
            there = sorted(p.name.removeprefix("controlnet_") for p in folder.glob("controlnet_*"))
            if not there and not (folder / "unet").is_dir():
                break  # the whole model is missing; the next check says so
            raise ModelError(
                f"{folder}: has no ControlNet '{kind}'; there are: {', '.join(there) or 'none'}; "
                "change the preset's controls"
            )
    needed = ["unet/config.json", f"unet/{_WEIGHTS}", "vae/config.json", f"vae/{_WEIGHTS}"]
    needed += ["text_encoder/config.json", f"text_encoder/{_TEXT_WEIGHTS}"]
    needed += ["tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json"]
    needed += [f"controlnet_{kind}/{name}" for kind in controls for name in ("config.json", _WEIGHTS)]
    missing = [name for name in needed if not (folder / name).is_file()]
    if not missing:
        return
    advice = "expected a model folder in diffusers layout with safetensors weights"
    if folder == family.folder:
        advice = "the built-in weights are missing: run python -m samples.miniature.train, or reinstall"
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    raise ModelError(f"{folder}: has no {missing[0]}{more}; {advice}")


def _broken(folder: Path, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(
        f"{folder}: cannot be loaded ({reason[:160]}); expected whole files; copy the model again"
    )


def _ready(module: Any, device: str | torch.device, dtype: torch.dtype) -> Any:
    # diffusers' own `to` warns about casting even where nothing is kept in float32
    nn.Module.to(module, device=device, dtype=dtype)
    if dtype != torch.float32:  # bfloat16 on a CPU: UNet 1.3x, ControlNet and VAE 1.5x; float32 gains nothing
        nn.Module.to(module, memory_format=torch.channels_last)
    return module.eval().requires_grad_(False)


def _load_diffusers(kind: Any, folder: Path, device: str | torch.device, dtype: torch.dtype) -> Any:
    """Config, then a strict load: diffusers' own loader leaves missing weights random and only logs it."""
    try:
        module = kind.from_config(kind.load_config(folder, local_files_only=True))
        module.load_state_dict(load_file(folder / _WEIGHTS))  # copies into float32, whatever is on disk
    except _BROKEN as error:
        raise _broken(folder, error) from error
    return _ready(module, device, dtype)


def _load_text_encoder(folder: Path, device: str | torch.device, dtype: torch.dtype) -> Any:
    """Load by canonical names.

    transformers 5.6 dropped the inner `text_model.` from CLIPTextModel's names; a folder saved by one side of
    that change loads on the other as random weights without an error. So the names are stripped here on both
    sides and the load is strict.
    """
    try:
        module = CLIPTextModel(CLIPTextConfig.from_pretrained(folder, local_files_only=True))
        ours = {bare_text_name(name): name for name in module.state_dict()}
        state = {}
        for name, tensor in load_file(folder / _TEXT_WEIGHTS).items():
            bare = bare_text_name(name)
            if bare != "embeddings.position_ids":  # a buffer that old versions saved; it holds 0, 1, 2, ...
                state[ours.get(bare, name)] = tensor
        module.load_state_dict(state)
    except _BROKEN as error:
        raise _broken(folder, error) from error
    return _ready(module, device, dtype)


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
