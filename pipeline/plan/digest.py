"""A plan as JSON, the files that it reads, and the digests that key what is on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.files import stamp
from pipeline.models.families import FAMILIES
from pipeline.models.find import PICKLES
from pipeline.plan.controls import controlnet_files
from pipeline.plan.frame_digests import frame_digests, sha256_of
from pipeline.plan.values import ALSO_DRAWN_FROM, VISIBILITY_PASSES, Plan, PlannedControl, PlannedRegion, runs
from pipeline.preset import Look, Output, Steering
from pipeline.shot import Area, Shot, read_as

# Raise this when the code changes what pixels a plan gives: old frames are then not taken for done.
PLAN_VERSION = 2
KEYS_VERSION = 4  # the same for the method "keys" alone
OF_KEYS = ("key_noise", "key_every", "key_frames", "own_ids", "grain")  # fields of plans by "keys" alone
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
        if field.name not in ("looks", "seeds", "frame_numbers", "frame_digests", "alone_digests")
    }
    data["looks"] = [[start, _plain(plan.looks[start])] for start, _ in runs(plan.looks)]
    data["seeds"] = [plan.seeds[0], plan.seeds[-1]]
    data["frame_numbers"] = [plan.frame_numbers[0], plan.frame_numbers[-1]]
    return data


def input_files(shot: Shot, plan: Plan) -> list[Path]:
    """The files that decide the styled pixels: the pictures, passes and masks that this plan reads."""
    files = [file for name in input_passes(shot, plan) for file in shot.passes[name].files]
    masks = [file for region in plan.regions for file in region.area.masks]
    return list(dict.fromkeys([*files, *masks]))  # several passes may be layers of one file


def input_passes(shot: Shot, plan: Plan) -> list[str]:
    """The names of the shot's passes that decide the styled pixels."""
    motion = PASSES_READ.get(plan.method, ())
    drawn = [name for c in plan.controls for name in (c.pass_name, *ALSO_DRAWN_FROM.get(c.kind, ()))]
    masked = ("ids",) if any(region.area.needs_ids for region in plan.regions) else ()
    return [name for name in dict.fromkeys(("rgb", *drawn, *motion, *masked)) if name in shot.passes]


def with_digests(draft: Plan, shot: Shot, model_path: Path, *, together: int) -> Plan:
    """The plan with its digests filled in; `together`: how many frames the family computes at once."""
    fields = _shared(draft, shot, model_path)
    shared = sha256_of(fields)
    parts = list(_parts(draft, shot, together))
    frames_digest = sha256_of([shared, draft.shot, draft.frame_numbers, parts])
    video = [_plain(draft.output), str(draft.fps)]
    sound = [] if shot.audio is None else [stamp(shot.audio, shot.root)]
    return dataclasses.replace(
        draft,
        frame_digests=frame_digests(draft.method, shared, parts),
        alone_digests=_alone(fields, parts) if draft.method == "keys" else (),
        frames_digest=frames_digest,
        digest=sha256_of([frames_digest, video, sound]),
    )


def _alone(shared: Mapping[str, Any], parts: Sequence[Sequence[Any]]) -> tuple[str, ...]:
    """Digests of frames that are styled as keys: which are, and what becomes of them then, is not in it."""
    fields = {name: value for name, value in shared.items() if name not in OF_KEYS}
    company = 2  # in a forward pass by groups, which keys are not styled in
    own = [[value for place, value in enumerate(part) if place != company] for part in parts]
    return frame_digests("frame", sha256_of(fields), own)


def _parts(plan: Plan, shot: Shot, together: int) -> Iterator[list[Any]]:
    """What decides each frame beside what all share: look, seed, company in the forward pass, its files."""
    sources = [shot.passes[name].files for name in input_passes(shot, plan)]
    sources += [region.area.masks for region in plan.regions if region.area.masks]
    stamps = {file: stamp(file, shot.root) for files in sources for file in files}
    looks = {id(look): _pixels_of(look, plan.method) for look in plan.looks}
    for start, stop in plan.groups(together):
        for t in range(start, stop):
            files = [stamps[files[t if len(files) > 1 else 0]] for files in sources]
            yield [looks[id(plan.looks[t])], plan.seeds[t], stop - start, files]


def _shared(draft: Plan, shot: Shot, model_path: Path) -> dict[str, Any]:
    """What decides the pixels of every frame alike."""
    fields = plan_as_json(draft)
    # a frame is its own whatever its batch: bit for bit on a CPU, within a level of 255 elsewhere
    others = () if draft.method == "keys" else OF_KEYS
    for name in (
        *("notes", "digest", "frames_digest", "batch", "allow_pickle", "output", "fps"),
        *("shot", "num_frames", "frame_numbers", "seeds", "looks", *others),
    ):
        del fields[name]
    fields["loras"] = [lora.sha256 for lora in draft.loras]
    fields["embeddings"] = [[embedding.sha256, embedding.name] for embedding in draft.embeddings]
    fields["vae"] = draft.vae is not None
    fields["controls"] = [_identity_of(control) for control in draft.controls]
    fields["regions"] = [_outline_of(region) for region in draft.regions]
    fields["estimates"] = [[each.method, each.weights_stamp] for each in draft.estimates]
    identity = {
        "version": [PLAN_VERSION, KEYS_VERSION] if draft.method == "keys" else PLAN_VERSION,
        "read": read_as(shot, input_passes(shot, draft)),
        "model": _stamps(model_path),
        "vae": [] if draft.vae is None else _stamps(draft.vae),
    }
    return {**fields, **identity}


_PICKLED = tuple(suffix.removeprefix(".") for suffix in PICKLES)


def model_files(plan: Plan) -> list[Path]:
    """The weights that a plan was made with, for the record: of the model, its VAE and its ControlNets.

    The built-in model's are left out: lookdev's version says them.
    """
    files = [] if plan.model in FAMILIES else weights_at(Path(plan.model))
    files += [] if plan.vae is None else weights_at(plan.vae)
    nets = (controlnet_files(control) for control in plan.controls)
    return [*files, *(net.weights for net in nets if net is not None)]


def model_key(plan: Plan) -> str:
    """The same for plans that one loaded model serves: its files, controls, embeddings; LoRAs come and go."""
    place = model_place(plan)
    places = [place] if plan.vae is None else [place, plan.vae]
    controls = [[control.path, _identity_of(control)] for control in plan.controls]
    embeddings = [[embedding.sha256, embedding.name] for embedding in plan.embeddings]
    stamps = [[str(place), _stamps(place)] for place in places]
    return sha256_of([stamps, controls, embeddings, plan.allow_pickle])


def model_place(plan: Plan) -> Path:
    """The file or folder of a plan's model."""
    own = FAMILIES[plan.model].folder if plan.model in FAMILIES else None
    return own or Path(plan.model)


def weights_at(place: Path) -> list[Path]:
    """A file alone, or the weights in a folder, in order."""
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


def _plain(value: Any) -> Any:
    if isinstance(value, Area):
        folded = dict.fromkeys((value.masks[0], value.masks[-1])) if value.masks else ()
        value = dataclasses.replace(value, masks=tuple(folded))
    if isinstance(value, Steering | Output):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path | Fraction) else value
