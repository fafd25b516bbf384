"""The passes that a render needs and the shot lacks: how each is estimated, or why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.errors import ModelError, ShotError
from pipeline.estimate import METHODS, Estimate, choose
from pipeline.plan.controls import CONTROL_PASS
from pipeline.plan.values import VISIBILITY_PASSES
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
    for need in needs.values():
        lacks = f"{shot.root}: has no {need.name}, which {need.by} needs ({need.where})"
        place = PASS_PLACE.get(need.name, f"{need.name}/")
        if not table.missing:
            raise ShotError(
                f"{lacks}, and estimate.missing is off ({preset.where('estimate', 'missing')}); "
                f"add {place}, or let it be estimated"
            )
        try:
            choose([need.name], motion=table.motion, folder=table.weights)
        except ModelError as error:
            raise ShotError(f"{lacks}, and its estimate cannot be made: {error}; or add {place}") from None
    estimates = choose(needs, motion=table.motion, folder=table.weights)
    notes = [
        f"{' and '.join(sorted(set(each.passes) - shot.passes.keys()))}: {each.origin}, the shot has no such "
        f"pass: good for {GOOD_FOR[METHODS[each.method].passes[0]]}"
        for each in estimates
    ]
    return estimates, tuple(notes)


GOOD_FOR: Mapping[str, str] = MappingProxyType(
    {
        "motion": "textured places; edges and plain walls may swim",
        "visible": "what comes into view; its edges are rough",
        "depth": "near and far, not for metres",
        "joints": "figures in full view",
        "normal": "large shapes",
    }
)


def _needs(shot: Shot, preset: Preset) -> Iterator[_Need]:
    for index, control in enumerate(preset.control):
        name = CONTROL_PASS[control.kind]
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
