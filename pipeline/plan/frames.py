"""What a plan takes from the shot frame by frame: {view} from the joints; and what looks like a mistake."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.errors import PresetError, ShotError
from pipeline.estimate import with_finished
from pipeline.plan.values import PlannedLora
from pipeline.preset import Look, Preset, face_angle, name_views, unused_variables, uses_view
from pipeline.shot import FrameJoints, Shot, read_joints


def name_shot_views(shot: Shot, preset: Preset) -> list[str] | None:
    """A name for {view} in each frame, where a prompt asks for it."""
    if not uses_view(preset):
        return None
    advice = 'set vars.view, as in view = "front view"'
    shot = with_finished(shot)
    if "joints" not in shot.passes:
        raise ShotError(
            f"{shot.root}: has no joints, which {{view}} in the prompt needs ({preset.where('prompt')}); "
            f"add joints.json, run `lookdev shot estimate {shot.root} --pass joints`, or {advice}"
        )
    frames = read_joints(shot, 0, shot.num_frames)
    there = list(dict.fromkeys(figure.name for frame in frames for figure in frame.figures))
    wanted = preset.views.figure or (there[0] if there else "")
    if preset.views.figure and wanted not in there:
        known = ", ".join(there) or "none"
        raise PresetError(f"{preset.where('views', 'figure')}: found '{wanted}'; the joints have: {known}")
    names = name_views((_angle(frame, wanted) for frame in frames), preset.views)
    if names is None:
        raise ShotError(f"{shot.root}: the joints show no face or back to name {{view}} by; {advice}")
    return names


def _angle(frame: FrameJoints, name: str) -> float | None:
    figure = next((figure for figure in frame.figures if figure.name == name), None)
    if figure is None:
        return None
    place = frame.camera.get("position")
    is_place = isinstance(place, list) and len(place) == 3 and all(isinstance(v, int | float) for v in place)
    return face_angle(figure.points, figure.world, place if is_place else None)


def suspicions(
    preset: Preset, loras: Sequence[PlannedLora], looks: Sequence[Look], frame_numbers: Sequence[int]
) -> tuple[str, ...]:
    """What is legal and still looks like a mistake: unused variables, a LoRA's trigger that no one says."""
    notes = list(unused_variables(preset))
    for index, lora in enumerate(loras):
        missing = [
            t for t, look in enumerate(looks) if any(look.loras[index]) and not _says(look, lora.trigger)
        ]
        if missing:
            which = ""
            if frame_numbers and len(missing) < len(looks):
                which = f" in {len(missing)} of {len(looks)} frames, first {frame_numbers[missing[0]]}"
            where = preset.where("lora", index, "path")
            notes.append(f"{where}: the prompt does not say its trigger '{lora.trigger}'{which}")
    return tuple(notes)


def _says(look: Look, trigger: str) -> bool:
    """Whether every part of a trigger phrase stands in each text as words of its own."""
    words = [re.escape(part.strip()) for part in trigger.split(",") if part.strip()]
    return all(
        re.search(rf"(?<!\w){word}(?!\w)", text, re.IGNORECASE) for text, _ in look.prompt for word in words
    )
