"""Resolve a preset for one shot, or check what can be checked without one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ModelError, PresetError, ShotError
from pipeline.files import file_digest
from pipeline.models.families import FAMILIES, Family
from pipeline.models.find import find_model
from pipeline.models.header import Header, read_header
from pipeline.models.lora_family import check_lora_family
from pipeline.plan.controls import check_controls, plan_controls
from pipeline.plan.digest import runs, with_digests
from pipeline.plan.frames import name_shot_views, suspicions
from pipeline.plan.prompts import check_prompts, plan_embeddings, unsaid_embeddings
from pipeline.plan.values import VISIBILITY_PASSES, Plan, PlannedLora
from pipeline.preset import Look, Preset, resolve_looks, steady_looks
from pipeline.shot import Shot

STRETCH_NOTED = 0.02  # a change of aspect smaller than what rounding to a multiple of 8 at 512 px makes


def make_plan(shot: Shot, preset: Preset, *, allow_partial: bool = False) -> Plan:
    """Resolve a preset for one shot; `allow_partial` goes into the plan.

    Raises PresetError (a value that this model or shot cannot take), ShotError (a pass that is asked for
    and not there) or ModelError (the model, a LoRA or embedding file), each one line, before any weights are
    read.
    """
    family, model_folder = _model(preset)
    controls = plan_controls(shot, preset, family, model_folder)
    _check_motion(shot, preset)
    loras = _loras(preset, family)
    check_prompts(preset)
    embeddings = plan_embeddings(preset, family)
    width, height, notes = _size(shot, preset, family)
    looks = resolve_looks(preset, shot.frame_numbers, shot.fps, name_shot_views(shot, preset))
    _check_steps(preset)
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
            look.seed + (t if preset.temporal.noise == "fresh" else 0) for t, look in enumerate(looks)
        ),
        controls=controls,
        loras=loras,
        embeddings=embeddings,
        clip_skip=preset.clip_skip,
        allow_partial=allow_partial,
        windows=_windows(looks, 1 if preset.temporal.method == "blend" else preset.batch),
        method=preset.temporal.method,
        crf=preset.output.crf,
        scale=preset.output.scale,
        notes=(
            *notes,
            *suspicions(preset, loras, looks, shot.frame_numbers),
            *unsaid_embeddings(preset, embeddings, looks),
        ),
        frames_digest="",
        digest="",
    )
    return with_digests(draft, shot, model_folder)


def check_preset(preset: Preset) -> tuple[str, ...]:
    """What can be checked without a shot: model, kinds of control, LoRA and embedding files, numbers.

    Returns notes as a plan has them. Raises PresetError or ModelError as `make_plan` does.
    """
    family, model_folder = _model(preset)
    check_controls(preset, family, model_folder)
    _check_steps(preset)
    check_prompts(preset)
    embeddings = plan_embeddings(preset, family)
    looks = steady_looks(preset)
    notes = suspicions(preset, _loras(preset, family), looks, ())
    return (*notes, *unsaid_embeddings(preset, embeddings, looks))


def _model(preset: Preset) -> tuple[Family, Path]:
    """A family's name, or a folder relative to the preset file that names it."""
    try:
        folder = (preset.folder_of("model") / Path(preset.model).expanduser()).resolve()
        return find_model(folder if preset.model not in FAMILIES and folder.is_dir() else preset.model)
    except (ModelError, RuntimeError) as error:  # RuntimeError: ~name of nobody here
        raise PresetError(f"{preset.where('model')}: {error}") from None


def _check_motion(shot: Shot, preset: Preset) -> None:
    if preset.temporal.method != "blend":
        return
    where = f"which method 'blend' needs ({preset.where('temporal', 'method')})"
    if "motion" not in shot.passes:
        raise ShotError(f'{shot.root}: has no motion pass, {where}; add motion/ or set method = "frame"')
    if not VISIBILITY_PASSES & shot.passes.keys():
        raise ShotError(
            f"{shot.root}: has no visible, ids or depth pass to tell hidden from seen, {where}; "
            'add one of them or set method = "frame"'
        )


def _loras(preset: Preset, family: Family) -> tuple[PlannedLora, ...]:
    planned = []
    for index, lora in enumerate(preset.lora):
        where = preset.where("lora", index, "path")
        if not lora.path.is_file():
            raise PresetError(
                f"{where}: found no file {lora.path}; train it first (lookdev train) or mend the path"
            )
        header = _lora_header(lora.path, where)
        check_lora_family(header, family, where=f"{where}: {lora.path}")
        trigger = header.metadata.get("modelspec.trigger_phrase", "")
        planned.append(PlannedLora(lora.path, file_digest(lora.path), trigger))
    return tuple(planned)


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
    notes = []
    if preset.size is not None and (width, height) != preset.size:
        notes.append(
            f"size {preset.size[0]}x{preset.size[1]} became {width}x{height}: "
            f"model '{family.name}' takes multiples of {multiple}"
        )
    stretch = abs((width / height) / (shot.width / shot.height) - 1.0)
    if stretch > STRETCH_NOTED:
        notes.append(
            f"the shot's {shot.width}x{shot.height} is stretched by {100 * stretch:.0f} % to {width}x{height}"
        )
    return width, height, tuple(notes)


def _check_steps(preset: Preset) -> None:
    """A strength that is held for a while must be worth a step; on its way up from 0 it need not."""
    for number, look in enumerate(steady_looks(preset)):
        if look.executed_steps == 0 and look.strength > 0:
            in_beat = number > 0 and {"strength", "steps"} & preset.beat[number - 1].model_fields_set
            where = preset.where("beat", number - 1, "strength") if in_beat else preset.where("strength")
            raise PresetError(
                f"{where}: {look.strength:g} of {look.steps} steps is less than one step; "
                "raise strength or steps"
            )


def _windows(looks: Sequence[Look], batch: int) -> tuple[tuple[int, int], ...]:
    """Windows of at most `batch` frames that share one look."""
    return tuple(
        (start, min(start + batch, stop))
        for run_start, stop in runs(looks)
        for start in range(run_start, stop, batch)
    )
