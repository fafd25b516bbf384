"""ControlNets as people have them: which files they are, and whether they fit a family. No torch here.

A ControlNet is a single .safetensors file, a diffusers folder (config.json and weights beside it), or a hub
id "org/name". Only a file's header is read here, so that a net of the wrong family is refused before anything
heavy is loaded.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.detect import (
    KIND_TITLES,
    Kind,
    context_width,
    family_of,
    family_title,
    is_union,
    kind_of,
)
from pipeline.models.families import Family
from pipeline.models.header import Header, read_header
from pipeline.models.hub import hub_file, is_hub_id

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
CONFIG = "config.json"
CLASSES = ("ControlNetModel", "ControlNetUnionModel")
# Which input of a union ControlNet reads a kind's picture: the order in which xinsir's were trained
# (openpose, depth, hed/pidi/scribble, canny/lineart, normal, segment; ProMax adds tile and repaint).
UNION_TYPES: Mapping[str, int] = MappingProxyType(
    {"pose": 0, "depth": 1, "softedge": 2, "canny": 3, "lineart": 3, "normal": 4}
)
_ADVICE: Mapping[Kind, str] = MappingProxyType(
    {
        "lora": "it goes under [[lora]]",
        "checkpoint": "it goes under `model`",
        "t2i_adapter": "T2I-Adapters are not supported: take the ControlNet of that kind",
        "control_lora": "Control-LoRAs are not supported: take the full ControlNet of that kind",
        "controlnet_lllite": "LLLite nets are not supported: take the full ControlNet of that kind",
        "controlnet_difference": "it works only on the base model it was made from: take the full ControlNet",
    }
)


@dataclass(frozen=True)
class ControlNetFiles:
    """Where one ControlNet is: its weights, and the config beside them where there is one."""

    weights: Path
    config: Path | None


def find_controlnet(path: str | Path) -> ControlNetFiles:
    """The files of a ControlNet given by file, by diffusers folder, or by hub id.

    A hub id is looked up in the local cache of huggingface_hub; `fetch_controlnet` downloads. A value that is
    no path and has exactly one slash is a hub id. Raises ModelError for what is not there.
    """
    place = Path(path)
    if place.is_dir():
        return _in_folder(place)
    if place.is_file():
        config = place.parent / CONFIG
        beside = place.name.startswith("diffusion_pytorch_model") and config.is_file()
        return ControlNetFiles(place, config if beside else None)
    if is_hub_id(path):
        return fetch_controlnet(str(path), offline=True)
    raise ModelError(f"ControlNet {path}: is not there; expected a .safetensors file, a folder or a hub id")


def cached_controlnet(hub_id: str) -> ControlNetFiles | None:
    """The files of a hub id in the local cache, or None; the network is not touched."""
    try:
        return fetch_controlnet(hub_id, offline=True)
    except ModelError:
        return None


def fetch_controlnet(hub_id: str, *, offline: bool = False) -> ControlNetFiles:
    """The files of a hub id: from the local cache, else downloaded unless `offline`. Raises ModelError."""
    try:
        config = hub_file(hub_id, CONFIG, offline=offline)
        try:
            return ControlNetFiles(hub_file(hub_id, WEIGHTS[0], offline=offline), config)
        except ModelError:
            with contextlib.suppress(ModelError):
                return ControlNetFiles(hub_file(hub_id, WEIGHTS[1], offline=offline), config)
            raise
    except ModelError as error:
        raise ModelError(f"ControlNet {hub_id}: {error}") from None


def check_controlnet(files: ControlNetFiles, family: Family, *, kind: str) -> Header:
    """Refuse what is no ControlNet, or not this family's; only the header and the config are read.

    `kind` is what it is to be drawn from, as presets name it. Returns the header. Raises ModelError.
    """
    header = read_header(files.weights)
    where = f"ControlNet {files.weights}"
    found = kind_of(header)
    if found != "controlnet":
        advice = _ADVICE.get(found, "expected a ControlNet: check which file this is")
        raise ModelError(f"{where}: is {KIND_TITLES[found]}; {advice}")
    config = {} if files.config is None else read_config(files.config)
    # a net without attention (the miniature's, the smallest of SDXL's) says its width in its config only
    width, other = context_width(header) or config.get("cross_attention_dim"), family_of(header)
    if width is not None and width != family.context_width:
        theirs = "another model" if other is None else family_title(other)
        raise ModelError(
            f"{where}: is for {theirs} (width {width}), model '{family.name}' is {family.title} "
            f"({family.context_width}); take the ControlNet made for it"
        )
    if is_union(header) and kind not in UNION_TYPES:
        raise ModelError(
            f"{where}: is a union ControlNet, which takes {', '.join(UNION_TYPES)}; not '{kind}'"
        )
    return header


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of a diffusers folder. Raises ModelError when it is no ControlNet's."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({type(error).__name__}); copy the folder again") from None
    name = config.get("_class_name") if isinstance(config, dict) else None
    if name not in CLASSES:
        raise ModelError(f"{path}: is the config of {name or 'nothing'}; expected {' or '.join(CLASSES)}")
    return dict(config)


def _in_folder(folder: Path) -> ControlNetFiles:
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is not None and (folder / CONFIG).is_file():
        return ControlNetFiles(weights, folder / CONFIG)
    missing = CONFIG if weights is not None else WEIGHTS[0]
    pickles = sorted(file.name for file in folder.glob("*.bin"))
    hint = "give the .safetensors file itself"
    if weights is None and pickles:
        hint = f"{pickles[0]} is a pickle, which can run code: take the safetensors file"
    raise ModelError(f"ControlNet {folder}: has no {missing}; expected a diffusers folder; {hint}")
