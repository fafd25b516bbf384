"""What each frame of a shot is styled with: the preset, its beats laid over it, {view} filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from pipeline.errors import PresetError
from pipeline.preset.chain import did_you_mean
from pipeline.preset.origin import Location
from pipeline.preset.prompt import fill, names_in
from pipeline.preset.ranges import beat_weights
from pipeline.preset.schema import Beat, Preset
from pipeline.preset.speed import sampling_of
from pipeline.preset.tables import Steering, Variables

VIEW = "view"  # the variable that the joints fill where nobody else does

# Texts whose embeddings are added with these weights; the weights are > 0 and add up to 1.
Mix = tuple[tuple[str, float], ...]
_Active = tuple[tuple[int, float], ...]  # beats by number, lowest first, each with its weight in (0, 1]
_Number = Callable[[float, Callable[[Beat], float | None]], float]
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Look:
    """The settings of one frame. `loras` holds (weight, text_weight) in the preset's order."""

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

    @property
    def executed_steps(self) -> int:
        """Steps that run at this strength, counted as diffusers' img2img pipelines count them."""
        return min(int(self.steps * self.strength), self.steps)


@dataclass(frozen=True)
class _Text:
    """One reading of the prompts: templates, variables, where they stand, and its share."""

    prompt: str
    negative: str
    variables: Variables
    where_prompt: str
    where_negative: str
    share: float


def resolve_looks(
    preset: Preset, frame_numbers: Sequence[int], fps: Fraction, views: Sequence[str] | None
) -> tuple[Look, ...]:
    """One Look for each frame; frames with the same settings share the object.

    `frame_numbers` are those on disk, as beats name them; `views` one name a frame, needed where
    `uses_view(preset)`. Raises PresetError for a beat that lies outside the shot or changes what is not
    there.
    """
    weights = [beat_weights(preset, index, frame_numbers, fps) for index in range(len(preset.beat))]
    made: dict[tuple[_Active, str], Look] = {}
    looks = []
    for t in range(len(frame_numbers)):
        active = tuple((index, row[t]) for index, row in enumerate(weights) if row[t] > 0.0)
        view = "" if views is None else views[t]
        if (active, view) not in made:
            made[active, view] = _look(preset, active, view)
        looks.append(made[active, view])
    return tuple(looks)


def steady_looks(preset: Preset) -> tuple[Look, ...]:
    """The looks that are held for a while: without any beat, then within each; {view} by its first name.

    Raises PresetError for what no shot could take.
    """
    view = preset.views.names[0]
    return (_look(preset, (), view), *(_look(preset, ((i, 1.0),), view) for i in range(len(preset.beat))))


def uses_view(preset: Preset) -> bool:
    """Whether a prompt has {view} and [vars] does not give it."""
    return VIEW not in preset.vars and VIEW in _names_used(preset)


def unused_variables(preset: Preset) -> tuple[str, ...]:
    """A line for each variable that no prompt uses."""
    used = _names_used(preset)
    places: list[tuple[Location, Variables]] = [(("vars",), preset.vars)]
    places += [(("beat", index, "vars"), beat.vars) for index, beat in enumerate(preset.beat)]
    return tuple(
        f"{preset.where(*location, name)}: no prompt uses {{{name}}}"
        for location, variables in places
        for name in variables
        if name not in used
    )


def _names_used(preset: Preset) -> set[str]:
    used = set[str]()
    for key in ("prompt", "negative"):
        used |= names_in(getattr(preset, key), where=preset.where(key))
        for index, beat in enumerate(preset.beat):
            used |= names_in(getattr(beat, key) or "", where=preset.where("beat", index, key))
    return used


def _look(preset: Preset, active: _Active, view: str) -> Look:
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

    texts = _texts(preset, active, view)
    strength = number(preset.strength, lambda beat: beat.strength)
    base = sampling_of(preset, strength)
    return Look(
        prompt=_mix((fill(t.prompt, t.variables, where=t.where_prompt), t.share) for t in texts),
        negative=_mix((fill(t.negative, t.variables, where=t.where_negative), t.share) for t in texts),
        strength=strength,
        steps=round(number(base.steps, lambda beat: beat.steps)),
        guidance=number(base.guidance, lambda beat: beat.guidance),
        scheduler=choice(base.scheduler, lambda beat: beat.scheduler),
        spacing=base.spacing,
        seed=choice(preset.seed, lambda beat: beat.seed),
        controls=_controls(preset, active, number),
        loras=_loras(preset, active, number),
        blend_weight=number(preset.temporal.weight, lambda beat: beat.temporal.weight),
        blend_until=number(preset.temporal.until, lambda beat: beat.temporal.until),
    )


def _texts(preset: Preset, active: _Active, view: str) -> list[_Text]:
    """The prompts before filling; while a beat that changes them eases in, each reading parts in two."""
    base: Variables = {VIEW: view} if view else {}
    where = preset.where("prompt"), preset.where("negative")
    texts = [_Text(preset.prompt, preset.negative, base | preset.vars, *where, share=1.0)]
    for index, weight in active:
        beat = preset.beat[index]
        if beat.prompt is None and beat.negative is None and not beat.vars:
            continue
        changed = [
            dataclasses.replace(
                _with_templates(text, preset, index),
                variables={**text.variables, **beat.vars},
                share=weight * text.share,
            )
            for text in texts
        ]
        kept = [dataclasses.replace(text, share=(1.0 - weight) * text.share) for text in texts]
        texts = changed if weight == 1.0 else kept + changed
    return texts


def _with_templates(text: _Text, preset: Preset, index: int) -> _Text:
    beat = preset.beat[index]
    if beat.prompt is not None:
        where = preset.where("beat", index, "prompt")
        text = dataclasses.replace(text, prompt=beat.prompt, where_prompt=where)
    if beat.negative is not None:
        where = preset.where("beat", index, "negative")
        text = dataclasses.replace(text, negative=beat.negative, where_negative=where)
    return text


def _mix(texts: Iterable[tuple[str, float]]) -> Mix:
    shares: dict[str, float] = {}
    for text, share in texts:
        shares[text] = shares.get(text, 0.0) + share
    return tuple(shares.items()) if len(shares) > 1 else tuple((text, 1.0) for text in shares)


def _controls(preset: Preset, active: _Active, number: _Number) -> tuple[Steering, ...]:
    kinds = [control.kind for control in preset.control]
    for index, _ in active:
        _check_known(preset, index, "control", preset.beat[index].control, kinds)
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


def _loras(preset: Preset, active: _Active, number: _Number) -> tuple[tuple[float, float], ...]:
    names = [lora.path.stem for lora in preset.lora]
    for index, _ in active:
        _check_known(preset, index, "lora", preset.beat[index].lora, names)
    weights = []
    for lora, name in zip(preset.lora, names, strict=True):
        follows = lora.text_weight is None

        def of_unet(beat: Beat, name: str = name) -> float | None:
            return beat.lora[name].weight if name in beat.lora else None

        def of_text(beat: Beat, name: str = name, follows: bool = follows) -> float | None:
            own = beat.lora[name].text_weight if name in beat.lora else None
            return of_unet(beat, name) if own is None and follows else own

        text_weight = lora.weight if lora.text_weight is None else lora.text_weight
        weights.append((number(lora.weight, of_unet), number(text_weight, of_text)))
    return tuple(weights)


def _check_known(preset: Preset, index: int, key: str, given: Iterable[str], known: Sequence[str]) -> None:
    """A beat may only change a control or LoRA that is there, and just one."""
    for name in given:
        where = preset.where("beat", index, key, name)
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are: {', '.join(known) or 'none'}"
            raise PresetError(f"{where}: the preset has no {key} '{name}'{hint}")
        if known.count(name) > 1:
            raise PresetError(f"{where}: two files are named '{name}'; rename one of them")
