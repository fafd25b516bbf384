"""Shot + Preset + model row -> Plan: every number resolved, a digest, no torch.

The plan reads metadata only, so it is the place where a render that cannot work is refused before
anything heavy is loaded. Two digests key what is on disk: `frames_digest` covers all that decides the
styled pixels, `digest` also what decides the video made from them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError, PresetError, ShotError
from pipeline.files import file_digest
from pipeline.models.families import FAMILIES, Family, check_lora_family, find_model
from pipeline.preset import Preset, fill
from pipeline.shot import Shot

# Raise this when the code changes what pixels a plan gives: old frames are then not taken for done.
PLAN_VERSION = 1
# The pass that each control is drawn from. No estimator stands in for a missing pass yet.
CONTROL_PASS: Mapping[str, str] = {"depth": "depth", "pose": "joints"}
CONTROL_PLACE: Mapping[str, str] = {"depth": "depth/", "pose": "joints.json"}
# Any of these tells which surface points were hidden in the frame before; `visible` is exact.
VISIBILITY_PASSES = frozenset({"visible", "ids", "depth"})
STRETCH_NOTED = 0.02  # a change of aspect smaller than what rounding to a multiple of 8 at 512 px makes


@dataclass(frozen=True)
class PlannedControl:
    """One ControlNet, active in [start, end] of the steps; `pass_name` is the pass it is drawn from."""

    kind: str
    weight: float
    start: float
    end: float
    pass_name: str


@dataclass(frozen=True)
class PlannedLora:
    """One LoRA file with its weights and its content's sha256."""

    path: Path
    weight: float
    text_weight: float
    sha256: str


@dataclass(frozen=True)
class Plan:
    """One render, every number resolved. T = num_frames; `windows` are (start, stop) frame indices.

    width, height: pixels of the styled frames. prompts, seeds: one per frame. `model`: a family's name or
    an absolute folder. `notes`: what was adjusted, in words for the user and the record.
    """

    shot: str
    num_frames: int
    fps: Fraction
    frame_numbers: tuple[int, ...]
    model: str
    width: int
    height: int
    prompts: tuple[str, ...]
    negative: str
    strength: float
    steps: int
    executed_steps: int
    guidance: float
    scheduler: str
    seeds: tuple[int, ...]
    controls: tuple[PlannedControl, ...]
    loras: tuple[PlannedLora, ...]
    windows: tuple[tuple[int, int], ...]
    method: str
    blend_weight: float
    blend_until: float
    crf: int
    scale: int
    notes: tuple[str, ...]
    frames_digest: str
    digest: str


def make_plan(shot: Shot, preset: Preset) -> Plan:
    """Resolve a preset for one shot.

    Raises PresetError (a value that this model or shot cannot take), ShotError (a pass that is asked for
    and not there) or ModelError (the model or a LoRA file), each one line, before any weights are read.
    """
    family, model_folder = _model(preset)
    controls = _controls(shot, preset, family)
    _check_motion(shot, preset)
    loras = _loras(preset, family)
    width, height, notes = _size(shot, preset, family)
    prompt = fill(preset.prompt, preset.vars, where=preset.where("prompt"))
    prompts = (prompt,) * shot.num_frames
    draft = Plan(
        shot=shot.name,
        num_frames=shot.num_frames,
        fps=shot.fps,
        frame_numbers=shot.frame_numbers,
        model=family.name if model_folder == family.folder else str(model_folder),
        width=width,
        height=height,
        prompts=prompts,
        negative=fill(preset.negative, preset.vars, where=preset.where("negative")),
        strength=preset.strength,
        steps=preset.steps,
        executed_steps=_executed_steps(preset),
        guidance=preset.guidance,
        scheduler=preset.scheduler,
        seeds=_seeds(preset, shot.num_frames),
        controls=controls,
        loras=loras,
        windows=_windows(prompts, 1 if preset.temporal.method == "blend" else preset.batch),
        method=preset.temporal.method,
        blend_weight=preset.temporal.weight,
        blend_until=preset.temporal.until,
        crf=preset.output.crf,
        scale=preset.output.scale,
        notes=notes,
        frames_digest="",
        digest="",
    )
    return _with_digests(draft, shot, model_folder)


def check_preset(preset: Preset) -> tuple[str, ...]:
    """What can be checked without a shot: the model, the kinds of control, the LoRA files, the numbers.

    Returns notes as a plan has them. Raises PresetError or ModelError as `make_plan` does.
    """
    family, _ = _model(preset)
    _check_kinds(preset, family)
    _loras(preset, family)
    _executed_steps(preset)
    return ()


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values, as `plan.json` and `record.json` keep it; long runs are folded."""
    data = {
        field.name: _plain(getattr(plan, field.name))
        for field in dataclasses.fields(plan)
        if field.name not in ("prompts", "seeds", "frame_numbers")
    }
    data["prompts"] = [[start, plan.prompts[start]] for start, _ in _runs(plan.prompts)]
    data["seeds"] = [plan.seeds[0], plan.seeds[-1]]
    data["frame_numbers"] = [plan.frame_numbers[0], plan.frame_numbers[-1]]
    return data


def input_files(shot: Shot, plan: Plan) -> list[Path]:
    """The shot's files that decide the styled pixels: the pictures and the passes that this plan reads."""
    motion = ("motion", *sorted(VISIBILITY_PASSES)) if plan.method == "blend" else ()
    names = dict.fromkeys(("rgb", *(control.pass_name for control in plan.controls), *motion))
    return [file for name in names if name in shot.passes for file in shot.passes[name].files]


def _model(preset: Preset) -> tuple[Family, Path]:
    """A family's name, or a folder relative to the preset file that names it."""
    try:
        folder = (preset.folder_of("model") / Path(preset.model).expanduser()).resolve()
        return find_model(folder if preset.model not in FAMILIES and folder.is_dir() else preset.model)
    except (ModelError, RuntimeError) as error:  # RuntimeError: ~name of nobody here
        raise PresetError(f"{preset.where('model')}: {error}") from None


def _controls(shot: Shot, preset: Preset, family: Family) -> tuple[PlannedControl, ...]:
    _check_kinds(preset, family)
    planned = []
    for index, control in enumerate(preset.control):
        where = preset.where("control", index, "kind")
        pass_name = CONTROL_PASS[control.kind]
        if pass_name not in shot.passes:
            raise ShotError(
                f"{shot.root}: has no {pass_name}, which {control.kind} control needs ({where}), "
                f"and no estimator is at hand; add {CONTROL_PLACE[control.kind]} or take that [[control]] out"
            )
        planned.append(
            PlannedControl(control.kind, control.weight, control.start, control.end, pass_name=pass_name)
        )
    return tuple(planned)


def _check_kinds(preset: Preset, family: Family) -> None:
    for index, control in enumerate(preset.control):
        if control.kind not in family.control_kinds:
            where, known = preset.where("control", index, "kind"), ", ".join(family.control_kinds)
            raise PresetError(f"{where}: found '{control.kind}'; model '{family.name}' has controls: {known}")


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
        check_lora_family(_lora_metadata(lora.path), family, where=f"{where}: {lora.path}")
        text_weight = lora.weight if lora.text_weight is None else lora.text_weight
        planned.append(PlannedLora(lora.path, lora.weight, text_weight, sha256=file_digest(lora.path)))
    return tuple(planned)


def _lora_metadata(path: Path) -> dict[str, str]:
    """The `__metadata__` of a safetensors file: 8 bytes of length (little endian), then a JSON header."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            metadata = json.loads(file.read(length)).get("__metadata__", {})
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: is no LoRA in safetensors format ({error}); train or copy it again"
        ) from None
    return metadata if isinstance(metadata, dict) else {}


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


def _executed_steps(preset: Preset) -> int:
    """Steps that run at this strength, counted as diffusers' img2img pipelines count them."""
    executed = min(int(preset.steps * preset.strength), preset.steps)
    if executed == 0 and preset.strength > 0:
        raise PresetError(
            f"{preset.where('strength')}: {preset.strength} of {preset.steps} steps is less than one step; "
            "raise strength or steps"
        )
    return executed


def _seeds(preset: Preset, num_frames: int) -> tuple[int, ...]:
    if preset.temporal.noise == "fixed":
        return (preset.seed,) * num_frames
    return tuple(preset.seed + t for t in range(num_frames))


def _runs(prompts: tuple[str, ...]) -> Iterable[tuple[int, int]]:
    start = 0
    for t in range(1, len(prompts) + 1):
        if t == len(prompts) or prompts[t] != prompts[start]:
            yield start, t
            start = t


def _windows(prompts: tuple[str, ...], batch: int) -> tuple[tuple[int, int], ...]:
    """Windows of at most `batch` frames that share one prompt."""
    return tuple(
        (start, min(start + batch, stop))
        for run_start, stop in _runs(prompts)
        for start in range(run_start, stop, batch)
    )


def _with_digests(draft: Plan, shot: Shot, model_folder: Path) -> Plan:
    fields = plan_as_json(draft)
    video = [fields.pop(name) for name in ("crf", "scale", "fps")]
    for name in ("notes", "digest", "frames_digest"):
        del fields[name]
    fields["seeds"] = list(draft.seeds)
    fields["loras"] = [[lora.sha256, lora.weight, lora.text_weight] for lora in draft.loras]
    identity = {
        "version": PLAN_VERSION,
        "shot": [_stamp(file, shot.root) for file in input_files(shot, draft)],
        "model": [_stamp(file, model_folder) for file in sorted(model_folder.rglob("*.safetensors"))],
    }
    frames_digest = _sha256({**fields, **identity})
    sound = [] if shot.audio is None else [_stamp(shot.audio, shot.root)]
    digest = _sha256([frames_digest, video, sound])
    return dataclasses.replace(draft, frames_digest=frames_digest, digest=digest)


def _stamp(file: Path, root: Path) -> list[str | int]:
    """A file's identity without reading it: its name under `root`, size and time of change."""
    status = file.stat()
    base = root if root.is_dir() else root.parent
    name = file.relative_to(base) if file.is_relative_to(base) else file
    return [name.as_posix(), status.st_size, status.st_mtime_ns]


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8")).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path | Fraction) else value
