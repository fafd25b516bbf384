"""A plan as JSON, the files that it reads, and the digests that key what is on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.files import stamp
from pipeline.models.families import FAMILIES
from pipeline.models.find import PICKLES
from pipeline.plan.controls import controlnet_files
from pipeline.plan.values import ALSO_DRAWN_FROM, VISIBILITY_PASSES, Plan, PlannedControl, PlannedRegion, runs
from pipeline.preset import Look, Steering
from pipeline.shot import Area, Shot

# Raise this when the code changes what pixels a plan gives: old frames are then not taken for done.
PLAN_VERSION = 2
# What each method reads of a shot besides the pictures and what controls are drawn from.
PASSES_READ: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "blend": ("motion", *sorted(VISIBILITY_PASSES)),
        "keys": ("motion", *sorted(VISIBILITY_PASSES), "normal", "joints"),
    }
)


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values, as `plan.json` and `record.json` keep it; long runs are folded."""
    data = {
        field.name: _plain(getattr(plan, field.name))
        for field in dataclasses.fields(plan)
        if field.name not in ("looks", "seeds", "frame_numbers")
    }
    data["looks"] = [[start, _plain(plan.looks[start])] for start, _ in runs(plan.looks)]
    data["seeds"] = [plan.seeds[0], plan.seeds[-1]]
    data["frame_numbers"] = [plan.frame_numbers[0], plan.frame_numbers[-1]]
    return data


def input_files(shot: Shot, plan: Plan) -> list[Path]:
    """The files that decide the styled pixels: the pictures, passes and masks that this plan reads."""
    motion = PASSES_READ.get(plan.method, ())
    drawn = [name for c in plan.controls for name in (c.pass_name, *ALSO_DRAWN_FROM.get(c.kind, ()))]
    masked = ("ids",) if any(region.area.needs_ids for region in plan.regions) else ()
    names = dict.fromkeys(("rgb", *drawn, *motion, *masked))
    files = [file for name in names if name in shot.passes for file in shot.passes[name].files]
    masks = dict.fromkeys(file for region in plan.regions for file in region.area.masks)
    return [*files, *masks]


def with_digests(draft: Plan, shot: Shot, model_path: Path) -> Plan:
    """The plan with its two digests filled in."""
    fields = plan_as_json(draft)
    video = [fields.pop(name) for name in ("crf", "scale", "fps")]
    # a frame is its own whatever its batch: bit for bit on a CPU, within a level of 255 elsewhere
    others = () if draft.method == "keys" else ("carry_noise", "key_every", "key_frames", "own_ids", "grain")
    for name in ("notes", "digest", "frames_digest", "batch", "allow_pickle", *others):
        del fields[name]
    fields["seeds"] = list(draft.seeds)
    fields["looks"] = [_pixels_of(look, draft.method) for look in draft.looks]
    fields["loras"] = [lora.sha256 for lora in draft.loras]
    fields["embeddings"] = [[embedding.sha256, embedding.name] for embedding in draft.embeddings]
    fields["vae"] = draft.vae is not None
    fields["controls"] = [_identity_of(control) for control in draft.controls]
    fields["regions"] = [_outline_of(region) for region in draft.regions]
    fields["estimates"] = [[each.method, each.weights_stamp] for each in draft.estimates]
    identity = {
        "version": PLAN_VERSION,
        "shot": [stamp(file, shot.root) for file in input_files(shot, draft)],
        "model": _stamps(model_path),
        "vae": [] if draft.vae is None else _stamps(draft.vae),
    }
    frames_digest = _sha256({**fields, **identity})
    sound = [] if shot.audio is None else [stamp(shot.audio, shot.root)]
    digest = _sha256([frames_digest, video, sound])
    return dataclasses.replace(draft, frames_digest=frames_digest, digest=digest)


_PICKLED = tuple(suffix.removeprefix(".") for suffix in PICKLES)


def model_files(plan: Plan) -> list[Path]:
    """The weights that a plan was made with, for the record: of the model, its VAE and its ControlNets.

    The built-in model's are left out: lookdev's version says them.
    """
    files = [] if plan.model in FAMILIES else _weights_at(Path(plan.model))
    files += [] if plan.vae is None else _weights_at(plan.vae)
    nets = (controlnet_files(control) for control in plan.controls)
    return [*files, *(net.weights for net in nets if net is not None)]


def _weights_at(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(file for end in ("safetensors", *_PICKLED) for file in place.rglob(f"*.{end}"))


def _stamps(place: Path) -> list[Any]:
    """A file's stamp, or those of a folder's weights and configs."""
    if place.is_file():
        return [stamp(place, place.parent)]
    files = (file for end in ("safetensors", "json", "txt", *_PICKLED) for file in place.rglob(f"*.{end}"))
    return [stamp(file, place) for file in sorted(files)]


def _identity_of(control: PlannedControl) -> dict[str, Any]:
    """What of a control decides pixels: a file by its stamp wherever it lies, a hub id by its name."""
    identity: dict[str, Any] = {"kind": control.kind, "pass_name": control.pass_name}
    if control.thresholds is not None:
        identity["thresholds"] = list(control.thresholds)
    files = controlnet_files(control)
    if files is not None:
        there = [file for file in (files.weights, files.config) if file is not None]
        identity["files"] = [stamp(file, file.parent) for file in there]
    elif control.path is not None:
        identity["hub_id"] = control.path
    return identity


def _outline_of(region: PlannedRegion) -> list[Any]:
    """What of a region decides pixels, beside its looks; its masks are among the input files."""
    area = region.area
    return [area.figures, area.ids, area.box, len(area.masks), region.grow, region.soft]


def _pixels_of(look: Look, method: str) -> dict[str, Any]:
    """The part of a look that decides pixels; its seed is in the plan's seeds."""
    fields: dict[str, Any] = _plain(look)
    unread = {"seed"}
    if look.guidance == 1.0:
        unread.add("negative")
        for region in fields["regions"]:
            del region["negative"]
    if method == "frame":
        unread |= {"blend_weight", "blend_until"}
    return {name: value for name, value in fields.items() if name not in unread}


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Area):
        folded = dict.fromkeys((value.masks[0], value.masks[-1])) if value.masks else ()
        value = dataclasses.replace(value, masks=tuple(folded))
    if isinstance(value, Steering):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path | Fraction) else value
