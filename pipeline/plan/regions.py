"""The regions of a plan: where each is in the shot. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.errors import PresetError, ShotError
from pipeline.plan.values import PlannedRegion
from pipeline.preset import Look, Preset, Region
from pipeline.shot import Area, Shot, mask_files, read_joints


def plan_regions(shot: Shot, preset: Preset) -> tuple[PlannedRegion, ...]:
    """Every [[region]] with its area.

    Raises PresetError for a figure that the shot has not, ShotError for a pass or a mask that is not there.
    """
    return tuple(
        PlannedRegion(region.title, _area(shot, preset, index), region.grow, region.soft)
        for index, region in enumerate(preset.region)
    )


def check_masks(preset: Preset) -> None:
    """What can be checked without a shot. Raises PresetError for a mask that is not there."""
    for index, region in enumerate(preset.region):
        if region.mask is not None and not region.mask.exists():
            raise PresetError(
                f"{preset.where('region', index, 'mask')}: found no {region.mask}; expected a picture, or a "
                "folder with one for each frame"
            )


def worn_in_regions(looks: Sequence[Look], count: int) -> tuple[Look, ...]:
    """The looks with `count` further LoRAs everywhere, whole on the UNet; equal looks stay one object."""
    further = ((1.0, 0.0),) * count
    made: dict[int, Look] = {}
    for look in looks:
        if id(look) not in made:
            regions = tuple(dataclasses.replace(r, loras=(*r.loras, *further)) for r in look.regions)
            made[id(look)] = dataclasses.replace(look, loras=(*look.loras, *further), regions=regions)
    return tuple(made[id(look)] for look in looks)


def figures_there(shot: Shot) -> dict[str, int]:
    """Names of the shot's figures -> their numbers in the ids pass, in order of their first frame.

    By the joints where there are any, else the characters of shot.toml, counted from 1.
    """
    if "joints" not in shot.passes:
        return {name: number for number, name in enumerate(shot.characters, start=1)}
    figures: dict[str, int] = {}
    for frame in read_joints(shot, 0, shot.num_frames):
        for figure in frame.figures:
            figures.setdefault(figure.name, figure.id)
    return figures


def _area(shot: Shot, preset: Preset, index: int) -> Area:
    region = preset.region[index]
    if region.box is not None:
        return Area(box=region.box)
    if region.mask is not None:
        try:
            return Area(masks=mask_files(shot, region.mask))
        except ShotError as error:
            raise ShotError(f"{preset.where('region', index, 'mask')}: {error}") from None
    key = "ids" if region.figure is None else "figure"
    if "ids" not in shot.passes:
        where = preset.where("region", index, key)
        raise ShotError(
            f"{shot.root}: has no ids, which a region by its {key} needs ({where}); add ids/, or give the "
            "region a mask or a box"
        )
    if region.ids is not None:
        return Area(ids=region.ids)
    return Area(figures=(_number(shot, preset, index, region),))


def _number(shot: Shot, preset: Preset, index: int, region: Region) -> int:
    if isinstance(region.figure, int):
        return region.figure
    there = figures_there(shot)
    if region.figure not in there:
        known = ", ".join(there) or "none by name; give its number in the ids pass"
        raise PresetError(
            f"{preset.where('region', index, 'figure')}: found '{region.figure}'; the shot has: {known}"
        )
    return there[region.figure]
