"""What each frame of a shot is styled with: the preset, its beats laid over it, {view} filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from pipeline.errors import PresetError
from pipeline.preset.chain import did_you_mean
from pipeline.preset.origin import Location
from pipeline.preset.ranges import beat_weights
from pipeline.preset.reading import Active, Mix, read_frame, read_region
from pipeline.preset.schema import Beat, BeatLora, BeatRegion, Preset
from pipeline.preset.speed import sampling_of
from pipeline.preset.tables import Lora, Steering

_Number = Callable[[float, Callable[[Beat], float | None]], float]
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class RegionLook:
    """The settings of one region in one frame. `loras` as in `Look`: the frame's and the region's own."""

    prompt: Mix
    negative: Mix
    loras: tuple[tuple[float, float], ...]
    weight: float


@dataclass(frozen=True)
class Look:
    """The settings of one frame.

    `loras` holds (weight, text_weight) in the order of `Preset.all_loras`: the frame's, then 0 for those that
    regions alone wear. `regions` are in the preset's order.
    """

    prompt: Mix
    negative: Mix
    strength: float
    steps: int
    guidance: float
    scheduler: str
    spacing: str | None
    seed: int
    controls: tuple[Steering, ...]
    loras: tuple[tuple[float, float], ...]
    blend_weight: float
    blend_until: float
    regions: tuple[RegionLook, ...] = ()

    @property
    def parts(self) -> tuple[Look | RegionLook, ...]:
        """The frame, then its regions that are on."""
        return (self, *(region for region in self.regions if region.weight > 0.0))

    @property
    def executed_steps(self) -> int:
        """Steps that run at this strength, counted as diffusers' img2img pipelines count them."""
        return min(int(self.steps * self.strength), self.steps)


def resolve_looks(
    preset: Preset,
    frame_numbers: Sequence[int],
    fps: Fraction,
    views: Sequence[str] | None,
    region_views: Sequence[Sequence[str] | None] = (),
) -> tuple[Look, ...]:
    """One Look for each frame; frames with the same settings share the object.

    `frame_numbers` are those on disk, as beats name them; `views` one name a frame, needed where
    `uses_view(preset)`, and `region_views` the same for each region (`region_uses_view`). Raises PresetError
    for a beat that lies outside the shot or changes what is not there.
    """
    weights = [beat_weights(preset, index, frame_numbers, fps) for index in range(len(preset.beat))]
    made: dict[tuple[Active, tuple[str, ...]], Look] = {}
    looks = []
    named = [views, *(region_views or [None] * len(preset.region))]
    for t in range(len(frame_numbers)):
        active = tuple((index, row[t]) for index, row in enumerate(weights) if row[t] > 0.0)
        seen = tuple("" if names is None else names[t] for names in named)
        if (active, seen) not in made:
            made[active, seen] = _look(preset, active, seen)
        looks.append(made[active, seen])
    return tuple(looks)


def steady_looks(preset: Preset) -> tuple[Look, ...]:
    """The looks that are held for a while: without any beat, then within each; {view} by its first name.

    Raises PresetError for what no shot could take.
    """
    seen = (preset.views.names[0],) * (1 + len(preset.region))
    return (_look(preset, (), seen), *(_look(preset, ((i, 1.0),), seen) for i in range(len(preset.beat))))


def _look(preset: Preset, active: Active, views: tuple[str, ...]) -> Look:
    """`views`: the frame's, then each region's."""

    def number(base: float, of: Callable[[Beat], float | None]) -> float:
        """Eased: each beat draws the value towards its own by its weight."""
        for index, weight in active:
            value = of(preset.beat[index])
            if value is not None:
                base = value if weight == 1.0 else base + weight * (value - base)
        return base

    def choice(base: _Value, of: Callable[[Beat], _Value | None]) -> _Value:
        """What cannot be eased switches half-way."""
        for index, weight in active:
            value = of(preset.beat[index])
            if value is not None and weight >= 0.5:
                base = value
        return base

    for index, _ in active:
        _check_beat(preset, index)
    reading = read_frame(preset, active, views[0])
    strength = number(preset.strength, lambda beat: beat.strength)
    base = sampling_of(preset, strength)
    return Look(
        prompt=reading.prompt,
        negative=reading.negative,
        strength=strength,
        steps=round(number(base.steps, lambda beat: beat.steps)),
        guidance=number(base.guidance, lambda beat: beat.guidance),
        scheduler=choice(base.scheduler, lambda beat: beat.scheduler),
        spacing=base.spacing,
        seed=choice(preset.seed, lambda beat: beat.seed),
        controls=_controls(preset, active, number),
        loras=_loras(preset, number),
        blend_weight=number(preset.temporal.weight, lambda beat: beat.temporal.weight),
        blend_until=number(preset.temporal.until, lambda beat: beat.temporal.until),
        regions=tuple(_region(preset, index, active, view, number) for index, view in enumerate(views[1:])),
    )


def _region(preset: Preset, index: int, active: Active, view: str, number: _Number) -> RegionLook:
    region = preset.region[index]

    def change(beat: Beat) -> BeatRegion | None:
        return beat.region.get(region.title)

    reading = read_region(preset, index, active, view)
    return RegionLook(
        prompt=reading.prompt,
        negative=reading.negative,
        loras=_loras(preset, number, index),
        weight=number(region.weight, lambda beat: getattr(change(beat), "weight", None)),
    )


def _controls(preset: Preset, active: Active, number: _Number) -> tuple[Steering, ...]:
    controls = []
    for control in preset.control:

        def of(key: str, kind: str = control.kind) -> Callable[[Beat], float | None]:
            return lambda beat: getattr(beat.control.get(kind), key, None)

        weight, start, end = (number(getattr(control, key), of(key)) for key in ("weight", "start", "end"))
        if start >= end:
            index = next(i for i, _ in reversed(active) if control.kind in preset.beat[i].control)
            raise PresetError(
                f"{preset.where('beat', index, 'control', control.kind)}: start {start:g} must be smaller "
                f"than end {end:g}"
            )
        controls.append(Steering(kind=control.kind, weight=weight, start=start, end=end))
    return tuple(controls)


def _loras(preset: Preset, number: _Number, region: int | None = None) -> tuple[tuple[float, float], ...]:
    """Weights for all LoRAs of the preset, as the frame or one of its regions wears them."""
    worn = [_lora_weights(lora, number, lambda beat: beat.lora) for lora in preset.lora]
    for index, other in enumerate(preset.region):
        title = other.title

        def own(beat: Beat, title: str = title) -> Mapping[str, BeatLora]:
            return beat.region[title].lora if title in beat.region else {}

        worn += [_lora_weights(lora, number, own) if index == region else (0.0, 0.0) for lora in other.lora]
    return tuple(worn)


def _lora_weights(
    lora: Lora, number: _Number, changes: Callable[[Beat], Mapping[str, BeatLora]]
) -> tuple[float, float]:
    """(UNet, text encoders) of one LoRA; `changes` finds what a beat says of LoRAs by the file's name."""

    def of_unet(beat: Beat) -> float | None:
        return getattr(changes(beat).get(lora.path.stem), "weight", None)

    def of_text(beat: Beat) -> float | None:
        own: float | None = getattr(changes(beat).get(lora.path.stem), "text_weight", None)
        return of_unet(beat) if own is None and lora.text_weight is None else own

    text_weight = lora.weight if lora.text_weight is None else lora.text_weight
    return number(lora.weight, of_unet), number(text_weight, of_text)


def _check_beat(preset: Preset, index: int) -> None:
    """Raise PresetError for a control, LoRA or region that a beat changes and that is not there."""
    beat, at = preset.beat[index], ("beat", index)
    _check_known(preset, (*at, "control"), beat.control, [control.kind for control in preset.control])
    _check_known(preset, (*at, "lora"), beat.lora, [lora.path.stem for lora in preset.lora])
    regions = {region.title: region for region in preset.region}
    _check_known(preset, (*at, "region"), beat.region, list(regions))
    for title, change in beat.region.items():
        names = [lora.path.stem for lora in regions[title].lora]
        _check_known(preset, (*at, "region", title, "lora"), change.lora, names)


def _check_known(preset: Preset, location: Location, given: Iterable[str], known: Sequence[str]) -> None:
    """A beat may only change a control, LoRA or region that is there, and just one."""
    key = location[-1]
    for name in given:
        where = preset.where(*location, name)
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are: {', '.join(known) or 'none'}"
            raise PresetError(f"{where}: the preset has no {key} '{name}'{hint}")
        if known.count(name) > 1:
            raise PresetError(f"{where}: two files are named '{name}'; rename one of them")
