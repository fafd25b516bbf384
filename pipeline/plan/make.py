"""Resolve a preset for one shot, or check what can be checked without one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ModelError, PresetError, ShotError
from pipeline.files import known_digest
from pipeline.models.detect import KIND_TITLES, kind_of
from pipeline.models.embedding_layout import embeddings_of_lora
from pipeline.models.families import FAMILIES, Family
from pipeline.models.find import find_model, header_of
from pipeline.models.header import Header, read_header
from pipeline.models.hub import is_hub_id
from pipeline.models.lora_family import check_lora_family
from pipeline.plan.controls import check_controls, plan_controls
from pipeline.plan.digest import with_digests
from pipeline.plan.estimates import plan_estimates
from pipeline.plan.frames import name_region_views, name_shot_views, suspicions
from pipeline.plan.prompts import check_prompts, missing_embeddings, plan_embeddings, unsaid_embeddings
from pipeline.plan.regions import check_masks, plan_regions, worn_in_regions
from pipeline.plan.speed import speed_file
from pipeline.plan.values import Plan, PlannedLora
from pipeline.preset import (
    MERGED,
    Preset,
    resolve_looks,
    speed_notes,
    steady_looks,
    turning_points,
)
from pipeline.shot import Shot

STRETCH_NOTED = 0.02  # a change of aspect smaller than what rounding to a multiple of 8 at 512 px makes


def make_plan(
    shot: Shot, preset: Preset, *, precision: str = "auto", offline: bool = False, allow_partial: bool = False
) -> Plan:
    """Resolve a preset for one shot.

    `offline` forbids fetching what is not on this machine; `precision` and `allow_partial` go into the plan.

    Raises PresetError (a value that this model or shot cannot take), ShotError (a pass that is asked for
    and not there) or ModelError (the model, a LoRA or embedding file), each one line, before any weights are
    read.
    """
    family, model_folder = _model(preset, offline=offline)
    _check_vae(preset)
    controls = plan_controls(preset, family, model_folder, offline=offline)
    estimates, estimate_notes = plan_estimates(shot, preset)
    loras = _loras(preset, family)
    check_prompts(preset)
    embeddings = plan_embeddings(preset, family)
    width, height, notes = _size(shot, preset, family)
    regions = plan_regions(shot, preset)
    views = name_shot_views(shot, preset), name_region_views(shot, preset)
    looks = resolve_looks(preset, shot.frame_numbers, shot.fps, *views)
    _check_steps(preset)
    speed = _speed_loras(preset, family, loras, offline=offline)
    notes = (
        *shot.notes,
        *notes,
        *estimate_notes,
        *suspicions(preset, loras, looks, shot.frame_numbers),
        *unsaid_embeddings(preset, embeddings, looks),
        *missing_embeddings(preset, loras, embeddings),
        *speed_notes(preset),
    )
    looks = worn_in_regions(looks, len(speed))
    draft = Plan(
        shot=shot.name,
        num_frames=shot.num_frames,
        fps=shot.fps,
        frame_numbers=shot.frame_numbers,
        model=family.name if model_folder == family.folder else str(model_folder),
        width=width,
        height=height,
        looks=looks,
        seeds=tuple(
            look.seed + (t if preset.temporal.noise == "fresh" and preset.temporal.method != "keys" else 0)
            for t, look in enumerate(looks)
        ),
        controls=controls,
        estimates=estimates,
        loras=(*loras, *speed),
        embeddings=embeddings,
        regions=regions,
        clip_skip=preset.clip_skip,
        vae=preset.vae,
        precision=precision,
        allow_pickle=preset.allow_pickle,
        allow_partial=allow_partial,
        batch=preset.batch,
        method=preset.temporal.method,
        key_noise=preset.temporal.noise,
        key_every=preset.temporal.key_every,
        key_frames=turning_points(preset, shot.frame_numbers, shot.fps),
        own_ids=_own_ids(shot, preset),
        grain=None if preset.temporal.grain == "auto" else preset.temporal.grain,
        output=preset.output,
        notes=notes,
    )
    return with_digests(draft, shot, model_folder, together=family.frames_at_once)


def check_preset(preset: Preset, *, offline: bool = False) -> tuple[str, ...]:
    """What can be checked without a shot: model, kinds of control, LoRA and embedding files, numbers.

    `offline` forbids fetching what is not on this machine. Returns notes as a plan has them. Raises
    PresetError or ModelError as `make_plan` does.
    """
    family, model_folder = _model(preset, offline=offline)
    _check_vae(preset)
    check_controls(preset, family, model_folder, offline=offline)
    _check_steps(preset)
    check_prompts(preset)
    check_masks(preset)
    embeddings = plan_embeddings(preset, family)
    loras = _loras(preset, family)
    _speed_loras(preset, family, loras, offline=offline)
    looks = steady_looks(preset)
    notes = suspicions(preset, loras, looks, ())
    return (
        *notes,
        *unsaid_embeddings(preset, embeddings, looks),
        *missing_embeddings(preset, loras, embeddings),
        *speed_notes(preset),
    )


def _model(preset: Preset, *, offline: bool) -> tuple[Family, Path]:
    """A family's name, a hub id, or a file or folder relative to the preset file that names it."""
    try:
        folder = (preset.folder_of("model") / Path(preset.model).expanduser()).resolve()
        may_be_a_name = is_hub_id(preset.model) or not {"/", ".", "~"} & set(preset.model)
        named = preset.model in FAMILIES or (may_be_a_name and not folder.exists())
        name = preset.model if named else folder
        return find_model(name, offline=offline, allow_pickle=preset.allow_pickle)
    except (ModelError, RuntimeError) as error:  # RuntimeError: ~name of nobody here
        raise PresetError(f"{preset.where('model')}: {error}") from None


def _check_vae(preset: Preset) -> None:
    """A VAE of its own must be there, and be one; what it fits is seen when it is loaded."""
    if preset.vae is None or preset.vae.is_dir():
        return
    where = preset.where("vae")
    try:
        kind = kind_of(header_of(preset.vae, allow_pickle=preset.allow_pickle))
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    if kind not in ("vae", "tiny_vae", "checkpoint"):
        raise ModelError(f"{where}: {preset.vae} is {KIND_TITLES[kind]}; expected a VAE")


def _own_ids(shot: Shot, preset: Preset) -> tuple[int, ...]:
    """The ids that every frame styles. Raises ShotError where there is no pass to find them by."""
    ids = preset.temporal.own_ids
    if ids and "ids" not in shot.passes:
        raise ShotError(
            f"{shot.root}: has no ids pass, which {preset.where('temporal', 'own_ids')} needs; add ids/ or "
            "take own_ids out"
        )
    return ids


def _loras(preset: Preset, family: Family) -> tuple[PlannedLora, ...]:
    planned = []
    for location, lora in preset.all_loras():
        where = preset.where(*location, "path")
        if not lora.path.is_file():
            raise PresetError(
                f"{where}: found no file {lora.path}; train it first (lookdev train) or mend the path"
            )
        planned.append(_planned_lora(lora.path, family, where))
    return tuple(planned)


def _planned_lora(path: Path, family: Family, where: str) -> PlannedLora:
    header = _lora_header(path, where)
    check_lora_family(header, family, where=f"{where}: {path}")
    web_hash = header.metadata.get("sshs_model_hash") or known_digest(path, skip=header.length)
    trigger = header.metadata.get("modelspec.trigger_phrase", "")
    return PlannedLora(
        path, known_digest(path), trigger, web_hash, embeddings=embeddings_of_lora(header.metadata)
    )


def _speed_loras(
    preset: Preset, family: Family, loras: Sequence[PlannedLora], *, offline: bool
) -> tuple[PlannedLora, ...]:
    """The LoRA of the preset's speed, if it needs one; with [[lora]] it must not come twice."""
    found = speed_file(preset, family, offline=offline)
    if found is None:
        return ()
    planned = _planned_lora(found[0], family, found[1])
    for (location, _), lora in zip(preset.all_loras(), loras, strict=True):
        if lora.sha256 == planned.sha256:
            raise PresetError(
                f"{preset.where(*location, 'path')}: is the LoRA of speed '{preset.speed}', which adds "
                f'it by itself; take it out here, or set speed_lora = "{MERGED}"'
            )
    return (planned,)


def _lora_header(path: Path, where: str) -> Header:
    try:
        return read_header(path)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None


def _size(shot: Shot, preset: Preset, family: Family) -> tuple[int, int, tuple[str, ...]]:
    """The styled frames' width and height, and notes on what was adjusted."""
    if preset.size is not None:
        wanted_width, wanted_height = (float(side) for side in preset.size)
    else:
        scale = family.default_size / math.sqrt(shot.width * shot.height)
        wanted_width, wanted_height = shot.width * scale, shot.height * scale
    multiple = family.size_multiple
    width, height = (
        max(1, math.floor(side / multiple + 0.5)) * multiple for side in (wanted_width, wanted_height)
    )
    if preset.size is not None and (width, height) != preset.size:
        raise PresetError(
            f"{preset.where('size')}: found {preset.size[0]}x{preset.size[1]}; model '{family.name}' takes "
            f"multiples of {multiple}: {width}x{height} is the nearest"
        )
    notes = []
    stretch = abs((width / height) / (shot.width / shot.height) - 1.0)
    if stretch > STRETCH_NOTED:
        notes.append(
            f"the shot's {shot.width}x{shot.height} is stretched by {100 * stretch:.0f} % to {width}x{height}"
        )
    return width, height, tuple(notes)


def _check_steps(preset: Preset) -> None:
    """A strength that is held for a while must be worth a step (on its way up from 0 not); legal spacing."""
    for number, look in enumerate(steady_looks(preset)):
        if (look.scheduler, look.spacing) == ("ddim", "linspace"):
            raise PresetError(
                f"{preset.where('spacing')}: found 'linspace', through which scheduler 'ddim' cannot step; "
                "take 'trailing' or 'leading'"
            )
        if look.executed_steps == 0 and look.strength > 0:
            in_beat = number > 0 and {"strength", "steps"} & preset.beat[number - 1].model_fields_set
            where = preset.where("beat", number - 1, "strength") if in_beat else preset.where("strength")
            raise PresetError(
                f"{where}: {look.strength:g} of {look.steps} steps is less than one step; "
                "raise strength or steps"
            )
