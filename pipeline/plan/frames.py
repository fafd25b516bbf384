"""What a plan takes from the shot frame by frame: {view} from the joints; and what looks like a mistake."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import PresetError, ShotError
from pipeline.estimate import with_finished
from pipeline.plan.values import PlannedLora
from pipeline.preset import (
    Look,
    Preset,
    RegionLook,
    face_angle,
    name_views,
    region_uses_view,
    unused_variables,
    uses_view,
)
from pipeline.preset.origin import Location
from pipeline.shot import FrameJoints, Shot, read_joints


def name_shot_views(shot: Shot, preset: Preset) -> list[str] | None:
    """A name for {view} in each frame, where a prompt asks for it."""
    if not uses_view(preset):
        return None
    return _names(shot, preset, _frames_figure(shot, preset), ("prompt",), _IN_VARS)


def name_region_views(shot: Shot, preset: Preset) -> list[list[str] | None]:
    """The same for each region: of the figure that it says or is, else of the frame's."""
    named: list[list[str] | None] = []
    for index, region in enumerate(preset.region):
        if not region_uses_view(preset, index):
            named.append(None)
            continue
        location = ("region", index)
        if region.view_of is not None:
            wanted = _Wanted(region.view_of, (*location, "view_of"))
        elif region.figure is not None:
            wanted = _Wanted(region.figure, (*location, "figure"))
        else:
            wanted = _frames_figure(shot, preset)
        named.append(_names(shot, preset, wanted, location, "set the region's vars.view"))
    return named


_IN_VARS = 'set vars.view, as in view = "front view"'


@dataclass(frozen=True)
class _Wanted:
    """A figure, by its name or its number, and the key that says so; None: the first one."""

    figure: str | int | None
    location: Location


def _frames_figure(shot: Shot, preset: Preset) -> _Wanted:
    return _Wanted(preset.views.figure or None, ("views", "figure"))


def _names(shot: Shot, preset: Preset, wanted: _Wanted, location: Location, advice: str) -> list[str]:
    """A name for each frame. `location`: of the prompt that asks, for messages."""
    shot = with_finished(shot)
    if "joints" not in shot.passes:
        raise ShotError(
            f"{shot.root}: has no joints, which {{view}} in the prompt needs ({preset.where(*location)}); "
            f"add joints.json, run `lookdev shot estimate {shot.root} --pass joints`, or {advice}"
        )
    frames = read_joints(shot, 0, shot.num_frames)
    there = {figure.name: figure.id for frame in frames for figure in frame.figures}
    if wanted.figure is None:
        figure = next(iter(there), "")
    elif wanted.figure in there:
        figure = str(wanted.figure)
    else:
        figure = next((name for name, number in there.items() if number == wanted.figure), "")
    if wanted.figure is not None and not figure:
        known = ", ".join(there) or "none"
        raise PresetError(
            f"{preset.where(*wanted.location)}: found '{wanted.figure}'; the joints have: {known}"
        )
    names = name_views((_angle(frame, figure) for frame in frames), preset.views)
    if names is None:
        of = f" of {figure}" if figure else ""
        raise ShotError(f"{shot.root}: the joints show no face or back{of} to name {{view}} by; {advice}")
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
    for index, ((location, _), lora) in enumerate(zip(preset.all_loras(), loras, strict=True)):
        missing = [t for t, look in enumerate(looks) if any(_lacks(part, index, lora) for part in look.parts)]
        if missing:
            which = ""
            if frame_numbers and len(missing) < len(looks):
                which = f" in {len(missing)} of {len(looks)} frames, first {frame_numbers[missing[0]]}"
            whose = _owner(preset, location)
            where = preset.where(*location, "path")
            notes.append(f"{where}: the prompt {whose}does not say its trigger '{lora.trigger}'{which}")
    return tuple(notes)


def _owner(preset: Preset, location: Location) -> str:
    """ "of region 'iris' " for a LoRA that is a region's own."""
    if location[0] != "region":
        return ""
    return f"of region '{preset.region[int(location[1])].title}' "


def _lacks(part: Look | RegionLook, index: int, lora: PlannedLora) -> bool:
    """Whether a LoRA is worn without every part of its trigger standing in each text as words of its own."""
    words = [re.escape(word.strip()) for word in lora.trigger.split(",") if word.strip()]
    says = all(
        re.search(rf"(?<!\w){word}(?!\w)", text, re.IGNORECASE) for text, _ in part.prompt for word in words
    )
    return any(part.loras[index]) and not says
