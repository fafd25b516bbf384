"""What a preset's speed sets, and what in the preset speaks against it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.preset.origin import Location
from pipeline.preset.sampling import SPEEDS, Speed, steps_for
from pipeline.preset.schema import Beat, Preset


@dataclass(frozen=True)
class Sampling:
    """How a look is sampled before its beats: the preset's own keys, else its speed's."""

    scheduler: str
    spacing: str | None
    guidance: float
    steps: int


def sampling_of(preset: Preset, strength: float) -> Sampling:
    """The scheduler, spacing, guidance and steps at `strength`.

    A key that the preset or what it extends or --set gives goes before the speed. A speed fixes the number of
    executed steps, so its `steps` follow the strength.
    """
    values = {name: getattr(preset, name) for name in ("scheduler", "spacing", "guidance", "steps")}
    return Sampling(**{**values, **set_by_speed(preset, strength)})


def set_by_speed(preset: Preset, strength: float | None = None) -> dict[str, Any]:
    """The keys that the speed sets, because nobody wrote them; at the preset's strength if no other."""
    speed = SPEEDS.get(preset.speed)
    if speed is None:
        return {}
    strength = preset.strength if strength is None else strength
    values: dict[str, Any] = {
        "scheduler": speed.scheduler,
        "guidance": speed.guidance,
        "steps": steps_for(speed.executed_steps, strength),
    }
    if speed.spacing is not None:
        values["spacing"] = speed.spacing
    return {key: value for key, value in values.items() if key not in preset.model_fields_set}


def speed_notes(preset: Preset) -> tuple[str, ...]:
    """A line for each key that speaks against the speed; such keys hold all the same."""
    speed = SPEEDS.get(preset.speed)
    if speed is None:
        if preset.speed_lora is None:
            return ()
        return (f'{preset.where("speed_lora")}: is not read at speed "{preset.speed}"',)
    notes = []
    for location, strength, values in _places(preset):
        for key, reason in _against(speed, strength, values):
            where = preset.where(*location, key)
            notes.append(f'{where}: {values[key]} goes before speed "{preset.speed}", {reason}')
    return tuple(notes)


def _places(preset: Preset) -> Iterator[tuple[Location, float, dict[str, Any]]]:
    """Location, strength and the sampling keys written there: of the preset, then of each beat."""
    names = ("scheduler", "spacing", "guidance", "steps")
    tables: list[tuple[Location, Preset | Beat]] = [((), preset)]
    tables += [(("beat", index), beat) for index, beat in enumerate(preset.beat)]
    for location, table in tables:
        written = {name: getattr(table, name, None) for name in names if name in table.model_fields_set}
        strength = preset.strength if table.strength is None else table.strength
        yield location, strength, written


def _against(speed: Speed, strength: float, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys that speak against the speed, each with what it was made for."""
    if "scheduler" in values and values["scheduler"] not in speed.schedulers:
        yield "scheduler", f"which is made for {' or '.join(speed.schedulers)}"
    if "spacing" in values and speed.spacing is not None and values["spacing"] != speed.spacing:
        yield "spacing", f"which is made for {speed.spacing}"
    if "guidance" in values and values["guidance"] > speed.most_guidance:
        most = f"at most {speed.most_guidance:g}" if speed.most_guidance > 1.0 else "1, no guidance"
        yield "guidance", f"which is made for {most}"
    fewest, most_steps = speed.steps
    executed = int(values.get("steps", 0) * strength)
    if "steps" in values and not fewest <= executed <= most_steps:
        yield "steps", f"which is made for {fewest} to {most_steps} executed steps: {executed} are"
