"""What the prompts say in one frame: templates of the preset, its beats and regions, one over the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline.preset.origin import Location
from pipeline.preset.prompt import fill, names_in
from pipeline.preset.schema import Preset
from pipeline.preset.tables import Variables

VIEW = "view"  # the variable that the joints fill where nobody else does

# Texts whose embeddings are added with these weights; the weights are > 0 and add up to 1.
Mix = tuple[tuple[str, float], ...]
Active = tuple[tuple[int, float], ...]  # beats by number, lowest first, each with its weight in (0, 1]


@dataclass(frozen=True)
class Reading:
    """A prompt and its negative, filled."""

    prompt: Mix
    negative: Mix


class _Words(Protocol):
    """A table that may say something: the preset, a region, a beat, what a beat changes of a region."""

    @property
    def prompt(self) -> str | None: ...
    @property
    def negative(self) -> str | None: ...
    @property
    def vars(self) -> Mapping[str, str | int | float]: ...


@dataclass(frozen=True)
class _Layer:
    """A table, where it stands, and how much it counts against what is below it."""

    words: _Words
    location: Location
    weight: float


@dataclass(frozen=True)
class _Text:
    """One reading of the templates: these, variables, where they stand, and its share."""

    prompt: str
    negative: str
    variables: Variables
    where_prompt: str
    where_negative: str
    share: float


def read_frame(preset: Preset, active: Active, view: str) -> Reading:
    """The prompt of the frame under these beats; `view` is "" where nobody asks for it."""
    return _filled(preset, _frame_layers(preset, active), view)


def read_region(preset: Preset, index: int, active: Active, view: str) -> Reading:
    """The prompt of a region: the frame's with the region's own words over it."""
    return _filled(preset, [*_frame_layers(preset, active), *_own_layers(preset, index, active)], view)


def uses_view(preset: Preset) -> bool:
    """Whether the frame's prompt has {view} and [vars] does not give it."""
    return VIEW not in preset.vars and VIEW in _names_used(preset, _frame_layers(preset, _every_beat(preset)))


def region_uses_view(preset: Preset, index: int) -> bool:
    """Whether a region's prompt has {view}, and neither [vars] nor the region's gives it."""
    said = {**preset.vars, **preset.region[index].vars}
    return VIEW not in said and VIEW in _region_names(preset, index)


def unused_variables(preset: Preset) -> tuple[str, ...]:
    """A line for each variable that no prompt uses."""
    every = _every_beat(preset)
    frame = _frame_layers(preset, every)
    by_region = [_region_names(preset, index) for index in range(len(preset.region))]
    used = _names_used(preset, frame).union(*by_region)
    unused = [(layer, name) for layer in frame for name in layer.words.vars if name not in used]
    for index, names in enumerate(by_region):
        own = _own_layers(preset, index, every)
        unused += [(layer, name) for layer in own for name in layer.words.vars if name not in names]
    return tuple(
        f"{preset.where(*layer.location, 'vars', name)}: no prompt uses {{{name}}}" for layer, name in unused
    )


def texts_of(preset: Preset) -> Iterator[tuple[str, str]]:
    """Every text that prompts are made of, templates and variables, and where it is written."""
    every = _every_beat(preset)
    layers = _frame_layers(preset, every)
    for index in range(len(preset.region)):
        layers += _own_layers(preset, index, every)
    for layer in layers:
        for key in ("prompt", "negative"):
            yield getattr(layer.words, key) or "", preset.where(*layer.location, key)
        for name, value in layer.words.vars.items():
            yield str(value), preset.where(*layer.location, "vars", name)


def _every_beat(preset: Preset) -> Active:
    return tuple((index, 1.0) for index in range(len(preset.beat)))


def _frame_layers(preset: Preset, active: Active) -> list[_Layer]:
    layers = [_Layer(preset, (), 1.0)]
    return layers + [_Layer(preset.beat[index], ("beat", index), weight) for index, weight in active]


def _own_layers(preset: Preset, index: int, active: Active) -> list[_Layer]:
    """Of one region: its own table, then what beats change of it."""
    region = preset.region[index]
    layers = [_Layer(region, ("region", index), 1.0)]
    for number, weight in active:
        change = preset.beat[number].region.get(region.title)
        if change is not None:
            layers.append(_Layer(change, ("beat", number, "region", region.title), weight))
    return layers


def _region_names(preset: Preset, index: int) -> set[str]:
    every = _every_beat(preset)
    own = _own_layers(preset, index, every)
    names = _names_used(preset, own)
    for key in ("prompt", "negative"):
        if getattr(preset.region[index], key) is None:  # then it reads the frame's
            names |= _names_used(preset, _frame_layers(preset, every), (key,))
    return names


def _names_used(
    preset: Preset, layers: Iterable[_Layer], keys: tuple[str, ...] = ("prompt", "negative")
) -> set[str]:
    used = set[str]()
    for layer in layers:
        for key in keys:
            used |= names_in(getattr(layer.words, key) or "", where=preset.where(*layer.location, key))
    return used


def _filled(preset: Preset, layers: Iterable[_Layer], view: str) -> Reading:
    variables: Variables = {VIEW: view} if view else {}
    texts = [_Text("", "", variables, "", "", share=1.0)]
    for layer in layers:
        texts = _laid_over(preset, texts, layer)
    return Reading(
        prompt=_mix((fill(t.prompt, t.variables, where=t.where_prompt), t.share) for t in texts),
        negative=_mix((fill(t.negative, t.variables, where=t.where_negative), t.share) for t in texts),
    )


def _laid_over(preset: Preset, texts: list[_Text], layer: _Layer) -> list[_Text]:
    """What a layer makes of the texts; while it eases in, each parts in two."""
    words = layer.words
    if words.prompt is None and words.negative is None and not words.vars:
        return texts
    changed = [dataclasses.replace(_changed(preset, t, layer), share=layer.weight * t.share) for t in texts]
    kept = [dataclasses.replace(text, share=(1.0 - layer.weight) * text.share) for text in texts]
    return changed if layer.weight == 1.0 else kept + changed


def _changed(preset: Preset, text: _Text, layer: _Layer) -> _Text:
    words = layer.words
    text = dataclasses.replace(text, variables={**text.variables, **words.vars})
    if words.prompt is not None:
        where = preset.where(*layer.location, "prompt")
        text = dataclasses.replace(text, prompt=words.prompt, where_prompt=where)
    if words.negative is not None:
        where = preset.where(*layer.location, "negative")
        text = dataclasses.replace(text, negative=words.negative, where_negative=where)
    return text


def _mix(texts: Iterable[tuple[str, float]]) -> Mix:
    shares: dict[str, float] = {}
    for text, share in texts:
        shares[text] = shares.get(text, 0.0) + share
    return tuple(shares.items()) if len(shares) > 1 else tuple((text, 1.0) for text in shares)
