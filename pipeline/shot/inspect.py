"""What a shot holds, as rows for a table: nothing is assumed that is not read from the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.errors import ShotError
from pipeline.shot.exr import channel_names, listed
from pipeline.shot.ids import id_names
from pipeline.shot.naming import PASS_SUFFIXES, pass_folders
from pipeline.shot.open import open_shot
from pipeline.shot.sequence import group_sequences, list_numbers, sequence_numbers
from pipeline.shot.sidecar import SIDECAR
from pipeline.shot.values import PassSource, Shot
from pipeline.shot.video import sound_codec

Row = tuple[str, str]


def inspect_shot(path: Path) -> list[Row]:
    """Rows (what, found) for a shot: frames, size, fps, duration, sound, and each pass with its range.

    Gaps make a shot unusable, but not unreadable: then the rows say which frames each pass has and lacks, and
    the last row is the error that opening it gives. Raises ShotError where there is nothing to list.
    """
    try:
        shot = open_shot(path)
    except ShotError as error:
        rows = _ranges(path)
        if not rows:
            raise
        return [*rows, ("error", str(error))]
    numbers = shot.frame_numbers
    seconds = float(shot.num_frames / shot.fps)
    rows = [
        ("shot", shot.name),
        ("frames", f"{shot.num_frames} ({list_numbers(numbers)})"),
        ("size", f"{shot.width} x {shot.height}"),
        ("fps", f"{shot.fps} ({float(shot.fps):.3f}){_fps_source(shot)}"),
        ("duration", f"{seconds:.3f} s"),
        ("sound", _sound(shot)),
    ]
    if shot.passes["rgb"].video is not None:
        rows.append(("colours", _colours(shot)))
    rows += [(f"pass {name}", _pass(shot, source)) for name, source in shot.passes.items()]
    return rows + [("note", note) for note in shot.notes]


def _fps_source(shot: Shot) -> str:
    if shot.root.is_dir() and not (shot.root / SIDECAR).exists():
        return f", assumed: there is no {SIDECAR}"
    return ""


def _colours(shot: Shot) -> str:
    """The tags of a video, and what its colours are taken for where they say nothing."""
    video = shot.passes["rgb"].video
    assert video is not None
    text = shot.colours or "not tagged"
    text += "" if video.matrix == "auto" else f", read as {video.matrix}"
    return text + (", see-through: over black" if video.alpha else "")


def _sound(shot: Shot) -> str:
    if shot.audio is None:
        return "none"
    return f"{sound_codec(shot.audio) or 'unknown'} in {shot.audio.name}"


def _pass(shot: Shot, source: PassSource) -> str:
    first, last = source.files[0], source.files[-1]
    if source.video is not None or (source.name == "joints" and first == last):
        return f"{source.origin}: {first.name}"
    place = first.parent.relative_to(shot.root).as_posix()
    files = first.name if first == last else f"{first.name} ... {last.name}"
    held = shot.num_frames - len(set(source.files))
    text = f"{source.origin}: {files if place == '.' else f'{place}/{files}'}, " + (
        f"{held} held" if held else "no gaps"
    )
    if source.origin == "exr":
        text += f", channels {' '.join(source.channels or channel_names(first, shot.view))}"
    read_as = READ_AS.get(source.name)
    return text + (read_as(shot, source) if read_as is not None else "")


def _rgb_read_as(shot: Shot, source: PassSource) -> str:
    return f", shown by {shot.display.transform}" if source.origin == "exr" else ""


def _ids_read_as(shot: Shot, source: PassSource) -> str:
    names = sorted(id_names(source.files[0], source.channels).values()) if source.origin == "exr" else []
    return f", {len(names)} named: {listed(names)}" if names else ""


READ_AS: Mapping[str, Callable[[Shot, PassSource], str]] = {
    "rgb": _rgb_read_as,
    "depth": lambda shot, source: f", read as {shot.depth.kind}",
    "motion": lambda shot, source: f", read as {shot.motion.name}",
    "ids": _ids_read_as,
}


def _ranges(path: Path) -> list[Row]:
    """Which frames each folder has and lacks, where `open_shot` refuses."""
    rows = []
    for name, folder in pass_folders(path).items() if path.is_dir() else ():
        found = sequence_numbers(folder, PASS_SUFFIXES[name])
        if found:
            rows.append((f"pass {name}", _range(found)))
    if not rows and path.is_dir():
        groups = group_sequences(path, PASS_SUFFIXES["rgb"])
        rows += [(f"sequence {stem}", _range(list(frames))) for stem, frames in groups.items()]
    return rows


def _range(found: list[int]) -> str:
    span = range(found[0], found[-1] + 1)
    missing = set(span) - set(found) if len(span) < 100 * len(found) else set()
    text = f"{len(found)} frames, {found[0]}-{found[-1]}"
    return f"{text}, missing {list_numbers(missing)}" if missing else f"{text}, no gaps"
