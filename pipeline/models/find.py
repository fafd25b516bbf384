"""Where a model is and which family it belongs to: by name, file, folder or hub id. No torch here.

The one exception is a pickle that the user has allowed: only torch can tell what it holds.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.models.detect import KIND_TITLES, family_of, family_title, kind_of
from pipeline.models.families import FAMILIES, Family
from pipeline.models.header import Header, read_header
from pipeline.models.hub import hub_file, hub_snapshot, is_hub_id

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_WIDTHS = {1024: "SD 2.x", 1280: "the SDXL refiner"}
_HUB_NAMES = {  # the whole model in one precision, without the copies in other formats beside it
    **dict.fromkeys(("unet", "vae"), ("config.json", "diffusion_pytorch_model.safetensors")),
    **dict.fromkeys(("text_encoder", "text_encoder_2"), ("config.json", "model.safetensors")),
    **dict.fromkeys(("tokenizer", "tokenizer_2"), ("*",)),
    "scheduler": ("*.json",),
}


def find_model(
    name_or_path: str | Path, *, offline: bool = False, allow_pickle: bool = False
) -> tuple[Family, Path]:
    """The family of a model and where it lies: a folder in diffusers layout, or a single-file checkpoint.

    `name_or_path` is the name of a built-in model, a folder, a file, or a hub id ("org/name"), which is
    fetched unless it is in the cache already or `offline`. A name wins over a folder of the same name; write
    `./mini` for the folder. Reads headers and small JSON files only. Raises ModelError when nothing is
    there, or for what is no whole model of a known family.
    """
    row = FAMILIES.get(str(name_or_path))
    if row is not None and row.folder is not None:
        return row, row.folder
    path = Path(name_or_path)
    if path.is_file():
        return _family_of_file(path, allow_pickle), path
    if path.is_dir():
        return _family_of_folder(path), path
    if is_hub_id(name_or_path):
        folder = _from_hub(str(name_or_path), offline)
        return _family_of_folder(folder), folder
    built_in = [family.name for family in FAMILIES.values() if family.folder is not None]
    if row is not None:
        raise ModelError(
            f"model '{name_or_path}': {row.title} does not come with lookdev; give your checkpoint's file, "
            "its folder or its hub id (org/name)"
        )
    close = difflib.get_close_matches(str(name_or_path), built_in, n=1)
    hint = f"did you mean '{close[0]}'?" if close else "give one of these, a checkpoint, a folder or a hub id"
    raise ModelError(f"model '{name_or_path}' is not there; known names: {', '.join(built_in)}; {hint}")


def _from_hub(repo: str, offline: bool) -> Path:
    """The folder of a diffusers pipeline on the hub: the parts that its index names."""
    _family_of_folder(hub_file(repo, "unet/config.json", offline=offline).parent.parent)  # before gigabytes
    index = hub_file(repo, "model_index.json", offline=offline)
    try:
        parts = [part for part in json.loads(index.read_text(encoding="utf-8")) if part in _HUB_NAMES]
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{repo}: its model_index.json cannot be read ({type(error).__name__})") from None
    patterns = [f"{part}/{name}" for part in parts for name in _HUB_NAMES[part]]
    return hub_snapshot(repo, offline=offline, allow_patterns=["model_index.json", *patterns])


def header_of(path: Path, *, allow_pickle: bool) -> Header:
    """What a file of weights holds. Raises ModelError; a pickle is opened only where that is allowed."""
    if path.suffix.lower() not in PICKLES:
        return read_header(path)
    if not allow_pickle:
        raise ModelError(
            f"{path}: is a pickle, which can run code; expected safetensors; convert it, or set "
            "allow_pickle = true if you trust its maker (only plain weights are then read from it)"
        )
    from pipeline.models.pickled import pickle_header

    return pickle_header(path)


def _family_of_file(path: Path, allow_pickle: bool) -> Family:
    header = header_of(path, allow_pickle=allow_pickle)
    kind, family = kind_of(header), family_of(header)
    if kind != "checkpoint":
        raise ModelError(
            f"{path}: is {KIND_TITLES[kind]}; expected a whole checkpoint (UNet, text encoder, VAE) in the "
            "original layout, or a model folder in diffusers layout"
        )
    if family is not None and family in FAMILIES:
        return FAMILIES[family]
    known = ", ".join(row.title for row in FAMILIES.values())
    found = "of no family that lookdev knows" if family is None else f"of {family_title(family)}"
    raise ModelError(f"{path}: is a checkpoint {found}; expected one of: {known}")


def _family_of_folder(folder: Path) -> Family:
    config = folder / "unet" / "config.json"
    try:
        width = json.loads(config.read_text(encoding="utf-8"))["cross_attention_dim"]
        if not isinstance(width, int):
            raise TypeError(f"cross_attention_dim is {width}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: no readable unet/config.json ({type(error).__name__}); expected a model folder in "
            "diffusers layout (unet, vae, text_encoder, tokenizer, scheduler, controlnet_<kind>)"
        ) from error
    for family in FAMILIES.values():
        if family.context_width == width:
            return family
    known = ", ".join(f"{family.title} ({family.context_width})" for family in FAMILIES.values())
    named = f", as in {_WIDTHS[width]}" if width in _WIDTHS else ", which no family has"
    raise ModelError(f"{config}: cross_attention_dim is {width}{named}; there are: {known}")
