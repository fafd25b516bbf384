"""A shot that is a folder: the layout in docs/architecture.md, or plain numbered images."""

from __future__ import annotations

import difflib
import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.errors import ShotError
from pipeline.shot.encoding import (
    LINEAR_DEPTH,
    NATIVE_MOTION,
    DepthEncoding,
    MotionEncoding,
    parse_depth,
    parse_motion,
)
from pipeline.shot.joints import read_joints_file
from pipeline.shot.sequence import (
    EXR_SUFFIXES,
    IMAGE_SUFFIXES,
    PNG_SUFFIXES,
    check_sizes,
    find_sequence,
    group_sequences,
    image_size,
    list_numbers,
    without_gaps,
)
from pipeline.shot.values import PassSource, Shot
from pipeline.shot.video import sound_codec

log = logging.getLogger(__name__)

SIDECAR = "shot.toml"
SIDECAR_KEYS = ("fps", "name", "characters", "missing", "motion", "depth")
JOINTS_FILE = "joints.json"
AUDIO_SUFFIXES = (".wav", ".m4a", ".mp3", ".flac")  # audio.wav beside rgb/
PASS_SUFFIXES = {
    "rgb": IMAGE_SUFFIXES,
    "depth": EXR_SUFFIXES,
    "normal": EXR_SUFFIXES,
    "motion": EXR_SUFFIXES,
    "ids": PNG_SUFFIXES,
    "visible": PNG_SUFFIXES,
    "truth": PNG_SUFFIXES,
}
PASS_WORDS: Mapping[str, frozenset[str]] = {  # words of file names, as renderers' defaults have them
    "depth": frozenset({"depth", "z", "zdepth", "worlddepth"}),
    "normal": frozenset({"normal", "normals", "worldnormal"}),
    "motion": frozenset({"motion", "vector", "vectors", "velocity", "motionvector", "motionvectors"}),
    "ids": frozenset({"id", "ids", "objectid", "index", "indexob"}),
    "rgb": frozenset(
        {"rgb", "beauty", "color", "colour", "combined", "image", "final", "finalimage", "movie"}
    ),
}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
DEFAULT_FPS = Fraction(24)  # film; only where no shot.toml says otherwise
HIGHEST_FPS = 1000


@dataclass(frozen=True)
class Sidecar:
    """What shot.toml says."""

    name: str
    fps: Fraction
    characters: tuple[str, ...] = ()
    motion: MotionEncoding = NATIVE_MOTION
    depth: DepthEncoding = LINEAR_DEPTH
    hold: bool = False  # missing = "hold": a missing frame is the one before it


def open_folder(root: Path) -> Shot:
    """Open a shot folder. Headers of all files are checked; no pixels are read. Raises ShotError."""
    sidecar = read_sidecar(root)
    found = _sorted_by_name(root, sidecar.hold) or _by_folder(root, sidecar.hold)
    numbers = tuple(found["rgb"])
    first = found["rgb"][numbers[0]]
    width, height = image_size(first)
    passes: dict[str, PassSource] = {}
    for name, frames in found.items():
        files = _pass_files(name, frames, numbers)
        check_sizes(files, width=width, height=height, reference=first)
        passes[name] = PassSource(name=name, files=files, origin=files[0].suffix.lower().lstrip("."))
    joints = root / JOINTS_FILE
    if joints.exists():
        _check_joints(joints, numbers)
        passes["joints"] = PassSource(name="joints", files=(joints,), origin="json")
    return Shot(
        name=sidecar.name,
        root=root,
        num_frames=len(numbers),
        fps=sidecar.fps,
        width=width,
        height=height,
        frame_numbers=numbers,
        passes=passes,
        audio=_find_audio(root),
        characters=sidecar.characters,
        motion=sidecar.motion,
        depth=sidecar.depth,
    )


def _by_folder(root: Path, hold: bool) -> dict[str, dict[int, Path]]:
    """Pass -> frame number -> file where each pass has its folder, or all images are rgb."""
    found = {"rgb": find_sequence(_rgb_folder(root), IMAGE_SUFFIXES, hold=hold)}
    for name, suffixes in PASS_SUFFIXES.items():
        if name != "rgb" and (root / name).is_dir():
            found[name] = find_sequence(root / name, suffixes, hold=hold)
    return found


def _sorted_by_name(root: Path, hold: bool) -> dict[str, dict[int, Path]]:
    """The same where one folder holds several sequences, told apart by a word in their names; else empty.

    So Unity Recorder's, Blender's compositor's and Unreal's outputs open as they are: shot_Beauty_0001.png
    beside shot_Depth_0001.exr. The pictures' sequence needs no word where it is the only one without.
    """
    if any((root / name).is_dir() for name in PASS_SUFFIXES):
        return {}
    groups = group_sequences(root, (*IMAGE_SUFFIXES, *EXR_SUFFIXES))
    if len(groups) < 2:
        return {}
    named: dict[str, list[str]] = {}
    for stem, frames in groups.items():
        suffix = next(iter(frames.values())).suffix.lower()
        words = {word.lower() for word in WORD.findall(stem)}
        fits = [name for name, known in PASS_WORDS.items() if words & known and suffix in PASS_SUFFIXES[name]]
        named.setdefault(fits[0] if fits else "", []).append(stem)
    unknown = named.pop("", [])
    if "rgb" not in named:
        named["rgb"] = [stem for stem in unknown if _is_picture(groups[stem])]
        unknown = [stem for stem in unknown if stem not in named["rgb"]]
    for name, stems in named.items():
        if len(stems) != 1:
            listed = " and ".join(next(iter(groups[stem].values())).name for stem in stems) or "none"
            raise ShotError(
                f"{root}: {len(stems)} of its {len(groups)} sequences look like {name} ({listed}); "
                f"expected one; put each pass in a folder of its own, like {name}/"
            )
    for stem in unknown:
        first = next(iter(groups[stem].values()))
        log.warning("%s: its name says no pass (depth, normal, motion, ids); passed over", first)
    return {name: without_gaps(root, groups[stems[0]], hold=hold) for name, stems in named.items()}


def _is_picture(frames: Mapping[int, Path]) -> bool:
    return all(path.suffix.lower() in IMAGE_SUFFIXES for path in frames.values())


def _rgb_folder(root: Path) -> Path:
    if (root / "rgb").is_dir():
        return root / "rgb"
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    if not visible:
        raise ShotError(
            f"{root}: the folder is empty; expected rgb/ or numbered images; export the shot there"
        )
    others = [name for name in PASS_SUFFIXES if (root / name).is_dir()]
    if others or not any(path.suffix.lower() in IMAGE_SUFFIXES for path in visible):
        found = ", ".join(sorted(f"{path.name}/" if path.is_dir() else path.name for path in visible)[:6])
        raise ShotError(
            f"{root}: holds {found} but no frames; expected rgb/rgb.0001.png ... or numbered images"
        )
    return root


def _pass_files(name: str, found: Mapping[int, Path], numbers: tuple[int, ...]) -> tuple[Path, ...]:
    """The pass's file of each frame. Raises ShotError where it lacks one."""
    missing = set(numbers) - set(found)
    folder = next(iter(found.values())).parent
    where = folder if folder.name == name else f"{folder} ({name})"
    if missing:
        raise ShotError(
            f"{where}: {len(found)} frames for {len(numbers)} of rgb; missing {list_numbers(missing)}; "
            "expected one for each; export them"
        )
    if len(found) > len(numbers):
        log.warning("%s: %d frames beyond rgb's are passed over", where, len(found) - len(numbers))
    return tuple(found[number] for number in numbers)


def _check_joints(path: Path, numbers: tuple[int, ...]) -> None:
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


def read_sidecar(root: Path) -> Sidecar:
    """Read shot.toml strictly; without one, the folder's name at 24 frames a second."""
    path = root / SIDECAR
    default_name = root.resolve().name
    if not path.exists():
        log.info("%s: no %s; taking %s frames a second", root, SIDECAR, DEFAULT_FPS)
        return Sidecar(name=default_name, fps=DEFAULT_FPS)
    table = _load_toml(path)
    for key in table:
        if key not in SIDECAR_KEYS:
            near = difflib.get_close_matches(key, SIDECAR_KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(SIDECAR_KEYS)}"
            raise ShotError(f"{path}: unknown key {key!r}; {hint}")
    if "fps" not in table:
        raise ShotError(f'{path}: no fps; expected a line like fps = "24/1"; add it')
    name = table.get("name", default_name)
    if not isinstance(name, str) or not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ShotError(
            f"{path}:name: {name!r} cannot name an output folder; expected letters, digits, _ and -"
        )
    characters = table.get("characters", [])
    if not isinstance(characters, list) or not all(isinstance(each, str) for each in characters):
        raise ShotError(f'{path}:characters: {characters!r}; expected a list of names like ["iris"]')
    return Sidecar(
        name=name,
        fps=parse_fps(table["fps"], f"{path}:fps"),
        characters=tuple(characters),
        motion=parse_motion(table["motion"], f"{path}:motion") if "motion" in table else NATIVE_MOTION,
        depth=parse_depth(table["depth"], f"{path}:depth") if "depth" in table else LINEAR_DEPTH,
        hold=_parse_missing(table.get("missing", "error"), f"{path}:missing"),
    )


def _parse_missing(value: Any, where: str) -> bool:
    if value not in ("error", "hold"):
        raise ShotError(f'{where}: {value!r}; expected "error", or "hold" to repeat the frame before')
    return bool(value == "hold")


def _load_toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ShotError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ShotError(f"{path}: not valid TOML ({error}); correct the file") from error


def parse_fps(value: Any, where: str) -> Fraction:
    """A frame rate from "24/1", "24000/1001", "23.976" or a number, exactly as written. Raises ShotError."""
    try:
        fps = Fraction(str(value)) if isinstance(value, (str, int, float)) else Fraction(0)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if isinstance(value, bool) or not 0 < fps <= HIGHEST_FPS:
        raise ShotError(f'{where}: {value!r} is not a frame rate; expected one like "24/1" or "24000/1001"')
    return fps
