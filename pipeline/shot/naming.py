"""Which files of a folder are which pass: by their folder, by words of their names, by their layers."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.errors import ShotError
from pipeline.shot.layers import find_layers, pass_channels
from pipeline.shot.sequence import (
    EXR_SUFFIXES,
    IMAGE_SUFFIXES,
    PNG_SUFFIXES,
    TIFF_SUFFIXES,
    group_sequences,
    list_sequence,
)
from pipeline.shot.sidecar import Sidecar

T = TypeVar("T")
log = logging.getLogger(__name__)

PASS_SUFFIXES = {
    "rgb": (*IMAGE_SUFFIXES, *EXR_SUFFIXES),
    "depth": EXR_SUFFIXES,
    "normal": EXR_SUFFIXES,
    "motion": EXR_SUFFIXES,
    "ids": (*PNG_SUFFIXES, *TIFF_SUFFIXES, *EXR_SUFFIXES),
    "visible": PNG_SUFFIXES,
    "lineart": PNG_SUFFIXES,
    "truth": PNG_SUFFIXES,
}
PASS_WORDS: Mapping[str, frozenset[str]] = {  # words of file names, as renderers' defaults have them
    "depth": frozenset({"depth", "z", "zdepth", "worlddepth"}),
    "normal": frozenset({"normal", "normals", "worldnormal"}),
    "motion": frozenset({"motion", "vector", "vectors", "velocity", "motionvector", "motionvectors"}),
    "ids": frozenset({"id", "ids", "objectid", "index", "indexob", "cryptomatte", "cryptoobject"}),
    "rgb": frozenset(
        {"rgb", "beauty", "color", "colour", "combined", "image", "final", "finalimage", "movie"}
    ),
}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True)
class PassFrames:
    """The files of one pass by frame number, in order, and its EXR channels (empty: the usual)."""

    frames: Mapping[int, Path]
    channels: tuple[str, ...] = ()

    @property
    def first(self) -> Path:
        return next(iter(self.frames.values()))


def find_passes(root: Path, sidecar: Sidecar) -> dict[str, PassFrames]:
    """Every pass of a shot folder, gaps and all; "rgb" is always among them. Raises ShotError."""
    return _sorted_by_name(root, sidecar) or _by_folder(root, sidecar)


def _by_folder(root: Path, sidecar: Sidecar) -> dict[str, PassFrames]:
    """Where each pass has its folder, or all images are rgb."""
    folders = pass_folders(root)
    files = {"rgb": _list_pictures(_rgb_folder(root, folders))}
    for name, suffixes in PASS_SUFFIXES.items():
        if name != "rgb" and name in folders:
            files[name] = list_sequence(folders[name], suffixes)
    found = {name: _with_channels(name, frames, sidecar) for name, frames in files.items()}
    return _with_layers(found, [files["rgb"]], sidecar)


def pass_folders(root: Path) -> dict[str, Path]:
    """Pass -> its folder: of that very name, else the only one with a word of it, as "MotionVectors/" has."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path.name: path for path in folders if path.name in PASS_SUFFIXES}
    for name, known in PASS_WORDS.items():
        fits = [path for path in folders if known & _words(path.name) and path.name not in PASS_SUFFIXES]
        fits = [path for path in fits if _has_files(path, PASS_SUFFIXES[name])]
        if name not in found and len(fits) == 1:
            found[name] = fits[0]
    return found


def _has_files(folder: Path, suffixes: Sequence[str]) -> bool:
    return any(path.suffix.lower() in suffixes for path in folder.iterdir())


def _words(name: str) -> set[str]:
    return {word.lower() for word in WORD.findall(name)}


def _list_pictures(folder: Path) -> dict[int, Path]:
    """The numbered images of a folder; an EXR beside a PNG of it is another form of the same picture."""
    only_light = _has_files(folder, EXR_SUFFIXES) and not _has_files(folder, IMAGE_SUFFIXES)
    return list_sequence(folder, EXR_SUFFIXES if only_light else IMAGE_SUFFIXES)


def _sorted_by_name(root: Path, sidecar: Sidecar) -> dict[str, PassFrames]:
    """The same where one folder holds several sequences, told apart by a word in their names; else empty.

    So Unity Recorder's, Blender's compositor's and Unreal's outputs open as they are: shot_Beauty_0001.png
    beside shot_Depth_0001.exr. The pictures' sequence needs no word where it is the only one without; EXRs
    without a word give the passes that their layers hold.
    """
    if pass_folders(root):
        return {}
    groups = group_sequences(root, (*IMAGE_SUFFIXES, *EXR_SUFFIXES))
    if len(groups) < 2:
        return {}
    named: dict[str, list[str]] = {}
    for stem, frames in groups.items():
        suffix = next(iter(frames.values())).suffix.lower()
        words = _words(stem)
        fits = [name for name, known in PASS_WORDS.items() if words & known and suffix in PASS_SUFFIXES[name]]
        named.setdefault(fits[0] if fits else "", []).append(stem)
    unknown = named.pop("", [])
    if "rgb" not in named:
        named["rgb"] = [stem for stem in unknown if _is_picture(groups[stem])]
        named["rgb"] = named["rgb"] or [stem for stem in unknown if len(unknown) == 1]
        unknown = [stem for stem in unknown if stem not in named["rgb"]]
    for name, stems in named.items():
        _check_single(root, name, [next(iter(groups[stem].values())) for stem in stems], len(groups))
    found = {name: _with_channels(name, groups[stems[0]], sidecar) for name, stems in named.items()}
    light = [groups[stem] for stem in unknown if not _is_picture(groups[stem])]
    for stem in unknown:
        if _is_picture(groups[stem]):
            first = next(iter(groups[stem].values()))
            log.warning("%s: its name says no pass (depth, normal, motion, ids); passed over", first)
    return _with_layers(found, [dict(found["rgb"].frames), *light], sidecar)


def _check_single(root: Path, name: str, firsts: Sequence[Path], num_groups: int) -> None:
    if len(firsts) != 1:
        listed = " and ".join(first.name for first in firsts) or "none"
        raise ShotError(
            f"{root}: {len(firsts)} of its {num_groups} sequences look like {name} ({listed}); "
            f"expected one; put each pass in a folder of its own, like {name}/"
        )


def _is_picture(frames: Mapping[int, Path]) -> bool:
    return all(path.suffix.lower() in IMAGE_SUFFIXES for path in frames.values())


def _with_channels(name: str, frames: dict[int, Path], sidecar: Sidecar) -> PassFrames:
    """A pass with its channels, where it is of EXRs; a motion pass's are in its encoding."""
    if name == "motion" or _is_picture(frames):
        return PassFrames(frames)
    read = partial(pass_channels, name=name, view=sidecar.view, layer=sidecar.layer)
    return PassFrames(frames, _of_first(frames, read))


def _with_layers(
    found: dict[str, PassFrames], sequences: Sequence[dict[int, Path]], sidecar: Sidecar
) -> dict[str, PassFrames]:
    """`found` and the passes that are layers of these sequences' EXRs and have no files of their own."""
    whole = dict(found)
    for frames in sequences:
        if _is_picture(frames):
            continue
        layers = _of_first(frames, partial(find_layers, view=sidecar.view, layer=sidecar.layer))
        whole = {name: PassFrames(frames, channels) for name, channels in layers.items()} | whole
        if not layers:
            first = next(iter(frames.values()))
            log.warning("%s: neither its name nor its layers say a pass; passed over", first)
    return {name: whole[name] for name in PASS_SUFFIXES if name in whole}


def _of_first(frames: Mapping[int, Path], read: Callable[[Path], T]) -> T:
    """What `read` says of the first file that is whole; damage is found and named when sizes are checked."""
    first_error: ShotError | None = None
    for path in frames.values():
        try:
            return read(path)
        except ShotError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _rgb_folder(root: Path, folders: Mapping[str, Path]) -> Path:
    if "rgb" in folders:
        return folders["rgb"]
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    if not visible:
        raise ShotError(
            f"{root}: the folder is empty; expected rgb/ or numbered images; export the shot there"
        )
    if folders or not any(path.suffix.lower() in PASS_SUFFIXES["rgb"] for path in visible):
        found = ", ".join(sorted(f"{path.name}/" if path.is_dir() else path.name for path in visible)[:6])
        raise ShotError(
            f"{root}: holds {found} but no frames; expected rgb/rgb.0001.png ... or numbered images; "
            "a folder of shots is for lookdev batch"
        )
    return root
