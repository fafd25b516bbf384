"""A loaded model -> a folder in diffusers' layout, safetensors only, that `load_model` and diffusers open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ModelError
from pipeline.files import partial_path, write_text, writing
from pipeline.models.architectures import architecture
from pipeline.models.lora_layers import canonical_text_path
from pipeline.models.model import Model
from pipeline.models.sealed import write_sealed

NOTE = "lookdev.json"
_PIPELINES = {1: "StableDiffusionPipeline", 2: "StableDiffusionXLPipeline"}
_OF_THE_BASE = ("_name_or_path", "dtype", "torch_dtype")  # where it lay, and what it was rounded to
_IN_HALF = (torch.float16, torch.bfloat16)


def save_model(
    model: Model, folder: Path, *, dtype: torch.dtype, base: Path | None, note: Mapping[str, Any]
) -> None:
    """Write all of the model to `folder`, whole or not at all; what stood there is replaced.

    Weights are rounded to `dtype`, but for a VAE that would overflow there. ControlNets of the folder `base`,
    which the model came from, are copied. `note` is written beside them as lookdev.json. Raises OutputError;
    ModelError for a folder at that place that is no earlier result.
    """
    if folder.exists() and not (folder / NOTE).is_file():
        raise ModelError(f"{folder}: is there already and no result of a training; move it away")
    unfinished = partial_path(folder)
    with writing(folder):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    try:
        _write(model, unfinished, dtype, base)
        write_text(unfinished / NOTE, json.dumps(note, indent=2, sort_keys=True) + "\n")
        with writing(folder):
            if folder.exists():
                shutil.rmtree(folder)
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(model: Model, folder: Path, dtype: torch.dtype, base: Path | None) -> None:
    vae_dtype = torch.float32 if dtype in _IN_HALF and not model.family.half_vae else dtype
    _diffusers_part(model.unet, folder / "unet", dtype)
    _diffusers_part(model.vae, folder / "vae", vae_dtype)
    index: dict[str, Any] = {"unet": model.unet, "vae": model.vae}
    for encoder in architecture(model.family.name).text_encoders:
        tokenizer = encoder.root.replace("text_encoder", "tokenizer")
        _text_part(getattr(model, encoder.root), folder / encoder.root, dtype)
        with writing(folder):
            getattr(model, tokenizer).save_pretrained(folder / tokenizer)
        index |= {encoder.root: getattr(model, encoder.root), tokenizer: getattr(model, tokenizer)}
    scheduler = {"_class_name": "DDIMScheduler"} | dict(model.scheduler_config)
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "model_index.json", _index(index, str(scheduler["_class_name"])))
    if base is not None and base.is_dir():
        with writing(folder):
            for net in sorted(base.glob("controlnet_*")):
                shutil.copytree(net, folder / net.name)


def _diffusers_part(part: Any, folder: Path, dtype: torch.dtype) -> None:
    config = {key: value for key, value in part.config.items() if key not in _OF_THE_BASE}
    write_json(folder / "config.json", {"_class_name": type(part).__name__} | config)
    path = folder / "diffusion_pytorch_model.safetensors"
    write_sealed(path, part.state_dict(), _FORMAT, dtype_of=lambda name: dtype)


def _text_part(encoder: Any, folder: Path, dtype: torch.dtype) -> None:
    """With `text_model.` in every name, as all published models have it: older transformers need it."""
    config = {key: value for key, value in encoder.config.to_dict().items() if key not in _OF_THE_BASE}
    config |= {"architectures": [type(encoder).__name__], "dtype": str(dtype).removeprefix("torch.")}
    state = {canonical_text_name(name): tensor for name, tensor in encoder.state_dict().items()}
    write_json(folder / "config.json", config)
    write_sealed(folder / "model.safetensors", state, _FORMAT, dtype_of=lambda name: dtype)


def canonical_text_name(name: str) -> str:
    """A weight's name with the inner `text_model.` that transformers 5.6 dropped."""
    path, _, end = name.rpartition(".")
    return f"{canonical_text_path(path)}.{end}"


def _index(parts: Mapping[str, Any], scheduler: str) -> dict[str, Any]:
    """diffusers' model_index.json: which class of which library each part is."""
    encoders = sum(name.startswith("text_encoder") for name in parts)
    listed: dict[str, Any] = {"_class_name": _PIPELINES[encoders], "scheduler": ["diffusers", scheduler]}
    for name, part in parts.items():
        library = "transformers" if name.startswith(("text_encoder", "tokenizer")) else "diffusers"
        listed[name] = [library, type(part).__name__]
    if encoders == 1:
        listed |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    return listed


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, sorted. Raises OutputError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(dict(content), indent=2, sort_keys=True) + "\n")


_FORMAT = {"format": "pt"}  # diffusers and transformers refuse a file that does not say so
