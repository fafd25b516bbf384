"""The passes that a render needs and the shot lacks: how each is estimated, or why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.errors import ModelError, ShotError
from pipeline.estimate import METHODS, Estimate, choose
from pipeline.plan.controls import CONTROL_PASS
from pipeline.plan.values import GEOMETRY_PASSES, VISIBILITY_PASSES
from pipeline.preset import Preset
from pipeline.shot import Shot

PASS_PLACE: Mapping[str, str] = MappingProxyType({"joints": "joints.json"})  # the others have a folder


@dataclass(frozen=True)
class _Need:
    """A pass that the shot lacks, what needs it, and the preset's key that asks for that."""

    name: str
    by: str
    where: str


def plan_estimates(shot: Shot, preset: Preset) -> tuple[tuple[Estimate, ...], tuple[str, ...]]:
    """The estimates that this render needs, and a note on each.

    Raises ShotError for a pass that is not there where `estimate.missing` is off, or whose estimator has no
    weights here.
    """
    needs = {need.name: need for need in _needs(shot, preset)}
    table = preset.estimate
    by = {"motion": table.motion, "joints": table.joints, "lineart": LINEART[table.lineart]}
    for need in needs.values():
        lacks = f"{shot.root}: has no {need.name}, which {need.by} needs ({need.where})"
        place = PASS_PLACE.get(need.name, f"{need.name}/")
        if not table.missing:
            raise ShotError(
                f"{lacks}, and estimate.missing is off ({preset.where('estimate', 'missing')}); "
                f"add {place}, or let it be estimated"
            )
        try:
            choose([need.name], by=by, folder=table.weights)
        except ModelError as error:
            raise ShotError(f"{lacks}, and its estimate cannot be made: {error}; or add {place}") from None
    estimates = choose(needs, by=by, folder=table.weights)
    notes = [
        f"{' and '.join(sorted(set(each.passes) - shot.passes.keys()))}: {each.origin}, the shot has no such "
        f"pass: good for {GOOD_FOR[METHODS[each.method].passes[0]]}"
        for each in estimates
    ]
    if any(control.kind == "lineart" for control in preset.control) and not _has_lines(shot, needs):
        from_passes = [name for name in GEOMETRY_PASSES if name in shot.passes]
        notes.append(f"lineart: drawn from {', '.join(from_passes)} and the picture, by no detector")
    return estimates, tuple(notes)


LINEART: Mapping[str, str] = MappingProxyType(
    {"passes": "lineart", "fine": "lineart", "coarse": "lineart_coarse"}
)
GOOD_FOR: Mapping[str, str] = MappingProxyType(
    {
        "motion": "textured places; edges and plain walls may swim",
        "visible": "what comes into view; its edges are rough",
        "depth": "near and far, not for metres",
        "joints": "figures in full view",
        "normal": "large shapes",
        "lineart": "what a pen would draw; lines of faint things come and go",
    }
)


def _needs(shot: Shot, preset: Preset) -> Iterator[_Need]:
    for index, control in enumerate(preset.control):
        name = "lineart" if _drawn_by_a_detector(control.kind, shot, preset) else CONTROL_PASS[control.kind]
        if name not in shot.passes:
            yield _Need(name, f"{control.kind} control", preset.where("control", index, "kind"))
    method = preset.temporal.method
    if method == "frame":
        return
    by, where = f"method '{method}'", preset.where("temporal", "method")
    if "motion" not in shot.passes:
        yield _Need("motion", by, where)
    elif not VISIBILITY_PASSES & shot.passes.keys():
        yield _Need("visible", by, where)


def _drawn_by_a_detector(kind: str, shot: Shot, preset: Preset) -> bool:
    """Whether a control's lines are asked of a detector, or of nothing else to be had."""
    by_passes = preset.estimate.lineart == "passes" and any(name in shot.passes for name in GEOMETRY_PASSES)
    return kind == "lineart" and not by_passes


def _has_lines(shot: Shot, needs: Mapping[str, _Need]) -> bool:
    return "lineart" in shot.passes or "lineart" in needs
