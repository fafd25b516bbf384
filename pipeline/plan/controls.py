"""The ControlNets of a plan: what each is drawn from, its file, and whether it fits the model. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline.controls import HIGH_THRESHOLD, LOW_THRESHOLD
from pipeline.errors import ModelError, PresetError
from pipeline.models.controlnet_file import (
    ControlNetFiles,
    cached_controlnet,
    check_controlnet,
    fetch_controlnet,
    find_controlnet,
)
from pipeline.models.families import CONTROL_KINDS, Family
from pipeline.models.hub import is_hub_id
from pipeline.plan.values import PlannedControl
from pipeline.preset import Preset

# The pass that each control is drawn from; what a shot lacks is estimated (`pipeline.plan.estimates`).
CONTROL_PASS: Mapping[str, str] = MappingProxyType(
    {
        "depth": "depth",
        "pose": "joints",
        "normal": "normal",
        "canny": "rgb",
        "softedge": "rgb",
        "lineart": "rgb",  # and, as softedge, what stands in ALSO_DRAWN_FROM
    }
)


def plan_controls(
    preset: Preset, family: Family, model: Path, *, offline: bool = False
) -> tuple[PlannedControl, ...]:
    """Every [[control]] with its pass and file; `model` is the model's folder or file.

    Raises PresetError or ModelError as `check_controls`.
    """
    check_controls(preset, family, model, offline=offline)
    planned = []
    for index, control in enumerate(preset.control):
        thresholds = _thresholds(preset, index) if control.kind == "canny" else None
        planned.append(PlannedControl(control.kind, CONTROL_PASS[control.kind], control.path, thresholds))
    return tuple(planned)


def check_controls(preset: Preset, family: Family, model: Path, *, offline: bool = False) -> None:
    """What can be checked without a shot: kinds, files, their family by the files' headers.

    Raises PresetError for a kind that the model has no ControlNet for, ModelError for a file that does not
    fit; both name the preset's key.
    """
    for index, control in enumerate(preset.control):
        where = preset.where("control", index, "kind")
        if control.path is None:
            _check_own(control.kind, family, model, where)
        else:
            if control.kind not in CONTROL_KINDS:
                raise PresetError(f"{where}: found '{control.kind}'; expected {', '.join(CONTROL_KINDS)}")
            _check_file(control.path, control.kind, family, preset.where("control", index, "path"), offline)
        if control.kind == "canny":
            _thresholds(preset, index)


def controlnet_files(control: PlannedControl) -> ControlNetFiles | None:
    """Where a planned ControlNet's files are; None for the model's own and for a hub id.

    A hub id's would not be there before its first render and would change the digest after it.
    """
    if control.path is None or is_hub_id(control.path):
        return None
    return find_controlnet(control.path)


def _thresholds(preset: Preset, index: int) -> tuple[float, float]:
    """Canny's low and high."""
    control = preset.control[index]
    low = float(LOW_THRESHOLD) if control.low is None else control.low
    high = float(HIGH_THRESHOLD) if control.high is None else control.high
    if low > high:
        where = preset.where("control", index, "high" if control.low is None else "low")
        raise PresetError(f"{where}: canny's low {low:g} is above its high {high:g}; give low <= high")
    return low, high


def _check_own(kind: str, family: Family, model: Path, where: str) -> None:
    if kind not in family.control_kinds:
        known = ", ".join(family.control_kinds)
        raise PresetError(f"{where}: found '{kind}'; model '{family.name}' has controls: {known}")
    if model != family.folder and not (model / f"controlnet_{kind}").is_dir():
        raise PresetError(
            f"{where}: model {model} brings no ControlNet for '{kind}'; give this [[control]] a path: "
            "a .safetensors file, a diffusers folder or a hub id"
        )


def _check_file(path: str, kind: str, family: Family, where: str, offline: bool) -> None:
    try:
        if not is_hub_id(path):
            check_controlnet(find_controlnet(path), family, kind=kind)
            return
        cached = fetch_controlnet(path, offline=True) if offline else cached_controlnet(path)
        if cached is not None:  # else it is downloaded, and checked, when the model is loaded
            check_controlnet(cached, family, kind=kind)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
