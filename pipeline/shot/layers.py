"""Which channels of an EXR hold which pass, whatever view layer or part stands in front of their names.

Blender writes "ViewLayer.Depth.Z", or a part "ViewLayer.Depth" with a channel "Z"; Unity's AOV recorder a
part "Depth" with "R"; Unreal "FinalImage.R". So a layer is known by the last word before its channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import ShotError
from pipeline.shot.exr import channel_names

# The last word of a layer's name, in lower case without spaces, as renderers' defaults have it; "" is none.
LAYER_PASSES: Mapping[str, frozenset[str]] = {
    "rgb": frozenset(
        {"", "combined", "beauty", "rgba", "rgb", "finalimage", "final", "image", "color", "composite"}
    ),
    "depth": frozenset({"", "depth", "z", "zdepth", "worlddepth", "finalimageworlddepth"}),
    "normal": frozenset({"normal", "normals", "worldnormal", "n"}),
    "motion": frozenset({"vector", "vectors", "motion", "motionvector", "motionvectors", "velocity"}),
    "ids": frozenset({"indexob", "objectindex", "objectid", "id", "ids"}),
}
# The channels that a pass is read from, in lower case, the surest set first.
LAYER_CHANNELS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "rgb": (("r", "g", "b"), ("y", "ry", "by"), ("y",)),
    "depth": (("z",), ("v",), ("r",), ("y",), ("x",)),
    "normal": (("x", "y", "z"), ("r", "g", "b")),
    "motion": (("x", "y", "z", "w"), ("r", "g", "b", "a"), ("x", "y"), ("r", "g"), ("u", "v")),
    "ids": (("x",), ("r",), ("y",), ("v",)),
}
# Cryptomatte's first rank, the surest kind first (specification 1.2.0; Blender writes lower-case channels).
CRYPTOMATTES = ("cryptoobject", "cryptoasset", "cryptomaterial")
CRYPTOMATTE = re.compile(r"crypto(?:object|asset|material)00", re.IGNORECASE)


def find_layers(path: Path, *, view: str | None, layer: str | None) -> dict[str, tuple[str, ...]]:
    """Pass -> its channels, by their names without view, for every pass that the EXR at `path` holds.

    Channels with no layer in front are rgb (R G B, or luminance and chroma) and depth (Z). Where two layers
    hold one pass, the one whose name begins with `layer`. Raises ShotError where that does not decide, and
    for a file that is no EXR, cut short, or without `view`.
    """
    layers = _group(channel_names(path, view))
    found = {name: _layer_of(path, layers, name, layer) for name in LAYER_PASSES}
    return {name: _channels(each, layers[each], name) for name, each in found.items() if each is not None}


def pass_channels(path: Path, name: str, *, view: str | None, layer: str | None) -> tuple[str, ...]:
    """The channels of a pass in a file that is known to hold it: by its layer's name, else its only layer.

    Empty where that does not tell. Raises ShotError as `find_layers` does.
    """
    layers = _group(channel_names(path, view))
    found = _layer_of(path, layers, name, layer)
    (only, *others) = layers or [""]
    if found is None and layers and not others and _set(layers[only], name) is not None:
        found = only
    return () if found is None else _channels(found, layers[found], name)


def _layer_of(path: Path, layers: Mapping[str, Sequence[str]], name: str, layer: str | None) -> str | None:
    fits = [each for each in layers if _holds(each, layers[each], name)]
    if name == "ids" and not fits:
        fits = _cryptomattes(layers)
    if layer is not None and len(fits) > 1:
        fits = [each for each in fits if each.startswith(layer)] or fits
    named = [each for each in fits if each]  # a plain R G B beside a named layer is a copy of it
    fits = named if len(named) == 1 else fits
    if len(fits) > 1:
        raise ShotError(
            f"{path}: {len(fits)} layers hold {name} ({', '.join(each or 'no name' for each in fits[:6])}); "
            f'expected one; choose it with layer = "{fits[0].split(".")[0]}" in shot.toml'
        )
    return fits[0] if fits else None


def _group(names: Sequence[str]) -> dict[str, list[str]]:
    """Layer -> the last words of its channels' names, in the file's order."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layer, _, channel = name.rpartition(".")
        layers.setdefault(layer, []).append(channel)
    return layers


def _holds(layer: str, channels: Sequence[str], name: str) -> bool:
    word = re.sub(r"[\s_-]", "", layer.rpartition(".")[2]).lower()
    if not layer and name == "depth":  # R or Y without a layer is a picture
        return "z" in {channel.lower() for channel in channels}
    return word in LAYER_PASSES[name] and _set(channels, name) is not None


def _set(channels: Sequence[str], name: str) -> tuple[str, ...] | None:
    """The first set of a pass's channels that these hold."""
    held = {channel.lower() for channel in channels}
    return next((each for each in LAYER_CHANNELS[name] if set(each) <= held), None)


def _channels(layer: str, channels: Sequence[str], name: str) -> tuple[str, ...]:
    wanted = ("r",) if CRYPTOMATTE.fullmatch(layer.rpartition(".")[2]) else _set(channels, name)
    assert wanted is not None
    written = {channel.lower(): channel for channel in channels}
    return tuple(f"{layer}.{written[each]}" if layer else written[each] for each in wanted)


def _cryptomattes(layers: Mapping[str, Sequence[str]]) -> list[str]:
    """The Cryptomatte layers of the surest kind that is there."""
    for kind in CRYPTOMATTES:
        fits = [each for each in layers if each.rpartition(".")[2].lower() == f"{kind}00"]
        if fits:
            return fits
    return []
