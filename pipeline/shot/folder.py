"""A shot that is a folder: docs/architecture.md's layout, what renderers write, or numbered images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from pipeline.errors import ShotError
from pipeline.shot.exr import view_names
from pipeline.shot.exr_header import whole_parts
from pipeline.shot.joints import read_joints_file
from pipeline.shot.naming import PassFrames, find_passes
from pipeline.shot.sequence import EXR_SUFFIXES, check_gaps, image_size, list_numbers, missing_numbers
from pipeline.shot.sidecar import DEFAULT_FPS, SIDECAR, Sidecar, read_sidecar
from pipeline.shot.solo import Solo, is_solo, read_solo
from pipeline.shot.stand_in import MISSING, fill
from pipeline.shot.values import PassSource, Shot
from pipeline.shot.video import sound_codec

log = logging.getLogger(__name__)

JOINTS_FILE = "joints.json"
AUDIO_SUFFIXES = (".wav", ".m4a", ".mp3", ".flac")  # audio.wav beside rgb/

Size = tuple[int, int]  # width, height
Damage = Callable[[Shot, str, Path], str | None]  # what is wrong with a pass's file, None where it is fine


def open_folder(root: Path, *, fill_gaps: bool = False, damage: Damage | None = None) -> Shot:
    """Open a shot folder. Headers of all files are checked; no pixels are read. Raises ShotError.

    `fill_gaps`: missing frames are those before them. `damage` says what is wrong with a file; then what is
    wrong or missing is filled too, instead of an error, and noted.
    """
    sidecar = read_sidecar(root)
    solo = read_solo(root, sidecar.view) if is_solo(root) else None
    found = find_passes(root, sidecar) if solo is None else solo.passes
    hold = fill_gaps or sidecar.hold or damage is not None
    numbers = _numbers(found["rgb"], hold=hold)
    bad = {name: _missing(name, frames, numbers, hold=hold) for name, frames in found.items()}
    size = _size(found, numbers, strict=damage is None)
    shot = _draft(root, sidecar, solo, found, numbers, size)
    if damage is not None:
        bad = {name: _damaged(shot, name, found[name], reasons, damage) for name, reasons in bad.items()}
    filled = fill(root, numbers, {name: frames.frames for name, frames in found.items()}, bad)
    passes = {name: replace(source, files=filled.files[name]) for name, source in shot.passes.items()}
    if (root / JOINTS_FILE).exists():
        _check_joints(root / JOINTS_FILE, [numbers[filled.held.get(t, t)] for t in range(len(numbers))])
        passes["joints"] = PassSource(name="joints", files=(root / JOINTS_FILE,), origin="json")
    elif solo is not None and set(numbers) <= set(solo.joints):
        passes["joints"] = PassSource(
            "joints", tuple(solo.joints[number] for number in numbers), "solo", None, (solo.sensor,)
        )
    if solo is not None and "ids" in passes:
        passes["ids"] = replace(passes["ids"], palette=solo.palette)
    notes = (*_choices(shot), *(() if solo is None else solo.notes), *filled.notes)
    return replace(shot, passes=passes, held=filled.held, without_motion=filled.without_motion, notes=notes)


def _draft(
    root: Path,
    sidecar: Sidecar,
    solo: Solo | None,
    found: Mapping[str, PassFrames],
    numbers: tuple[int, ...],
    size: Size,
) -> Shot:
    """The shot with the files that are there, before anything stands in for what is not."""
    sources = {
        name: PassSource(name, tuple(each.frames.values()), _origin(each.first), None, each.channels)
        for name, each in found.items()
    }
    return Shot(
        name=sidecar.name,
        root=root,
        num_frames=len(numbers),
        fps=sidecar.fps or (None if solo is None else solo.fps) or _assumed(root),
        width=size[0],
        height=size[1],
        frame_numbers=numbers,
        passes=sources,
        audio=_find_audio(root),
        characters=sidecar.characters,
        motion=sidecar.motion,
        depth=sidecar.depth,
        display=sidecar.display,
        view=sidecar.view if solo is None else None,
    )


def _origin(path: Path) -> str:
    return path.suffix.lower().lstrip(".")


def _assumed(root: Path) -> Fraction:
    log.info("%s: no %s; taking %s frames a second", root, SIDECAR, DEFAULT_FPS)
    return DEFAULT_FPS


def _numbers(pictures: PassFrames, *, hold: bool) -> tuple[int, ...]:
    """The shot's frame numbers: those of the pictures, without gaps."""
    frames = pictures.frames
    if hold:
        missing_numbers(pictures.first.parent, frames)  # stray digits are still an error
    else:
        check_gaps(pictures.first.parent, frames)
    return tuple(range(min(frames), max(frames) + 1))


def _missing(name: str, found: PassFrames, numbers: tuple[int, ...], *, hold: bool) -> dict[int, str]:
    """The frames that a pass lacks. Raises ShotError where it may not lack any."""
    lacking = sorted(set(numbers) - set(found.frames))
    folder = found.first.parent
    where = folder if folder.name == name else f"{folder} ({name})"
    if lacking and not hold:
        check_gaps(folder, found.frames)
        raise ShotError(
            f"{where}: {len(found.frames)} frames for {len(numbers)} of rgb; missing "
            f"{list_numbers(lacking)}; expected one for each; export them, or take --fill-gaps"
        )
    beyond = len(found.frames) + len(lacking) - len(numbers)
    if beyond > 0:
        log.warning("%s: %d frames beyond rgb's are passed over", where, beyond)
    return dict.fromkeys(lacking, MISSING)


def _size(found: Mapping[str, PassFrames], numbers: tuple[int, ...], *, strict: bool) -> Size:
    """The pictures' size: the first one's, which all files must have; else the one that most have."""
    if not strict:
        sizes = Counter(size for path in found["rgb"].frames.values() if (size := _size_or_none(path)))
        if sizes:
            return sizes.most_common(1)[0][0]
    reference = found["rgb"].first
    size = image_size(reference)
    for each in found.values():
        for path in (each.frames[number] for number in numbers if number in each.frames):
            check_size(path, size, f"as {reference.name}")
    return size


def _size_or_none(path: Path) -> Size | None:
    try:
        return image_size(path)
    except ShotError:
        return None


def check_size(path: Path, size: Size, why: str) -> None:
    """Raise ShotError where a file is of another size, damaged or not to be read, by its header."""
    found = image_size(path)
    if found != size:
        raise ShotError(
            f"{path}: {found[0]} x {found[1]} pixels; expected {size[0]} x {size[1]} {why}; "
            "export it at one size"
        )


def _damaged(
    shot: Shot, name: str, found: PassFrames, lacking: Mapping[int, str], damage: Damage
) -> dict[int, str]:
    """The frames of a pass that are missing or damaged, in order, with what is wrong."""
    reasons = dict(lacking)
    for number in shot.frame_numbers:
        if number in found.frames and (reason := damage(shot, name, found.frames[number])):
            reasons[number] = reason
    return dict(sorted(reasons.items()))


def _choices(shot: Shot) -> tuple[str, ...]:
    """What was chosen without being said: one of several views."""
    picture = shot.passes["rgb"].files[0]
    if picture.suffix.lower() not in EXR_SUFFIXES or shot.view is not None:
        return ()
    views = view_names(whole_parts(picture))
    if len(views) == 1:
        return ()
    return (f"of the views {', '.join(views)} the first is read; set view in {SIDECAR} for another",)


def _check_joints(path: Path, numbers: Sequence[int]) -> None:
    missing = set(numbers) - set(read_joints_file(path))
    if missing:
        raise ShotError(
            f"{path}: no joints for frames {list_numbers(missing)}; expected every frame of rgb; export them"
        )


def _find_audio(root: Path) -> Path | None:
    """The sound beside the frames, after asking that there is some: not found out when all is rendered."""
    files = [root / f"audio{suffix}" for suffix in AUDIO_SUFFIXES]
    audio = next((file for file in files if file.is_file()), None)
    if audio is not None and sound_codec(audio) is None:
        raise ShotError(f"{audio}: holds no sound; expected a sound track; export it again or take it away")
    return audio
