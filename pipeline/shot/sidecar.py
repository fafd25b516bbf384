"""shot.toml: what cannot be read from a shot's files, said by the user or noted by the probes."""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.errors import ShotError
from pipeline.shot.display import SRGB, Display, parse_display
from pipeline.shot.encoding import (
    LINEAR_DEPTH,
    NATIVE_MOTION,
    DepthEncoding,
    MotionEncoding,
    parse_depth,
    parse_motion,
)

log = logging.getLogger(__name__)

SIDECAR = "shot.toml"
SIDECAR_KEYS = ("fps", "name", "characters", "missing", "view", "layer", "display", "motion", "depth")
DEFAULT_FPS = Fraction(24)  # film; only where no shot.toml says otherwise
HIGHEST_FPS = 1000


@dataclass(frozen=True)
class Sidecar:
    """What shot.toml says. `fps` is None where there is no file; the rest then has its defaults.

    `hold`: a missing frame is the one before it. `view`, `layer`: which of several an EXR holds is read.
    """

    name: str
    fps: Fraction | None
    characters: tuple[str, ...] = ()
    motion: MotionEncoding = NATIVE_MOTION
    depth: DepthEncoding = LINEAR_DEPTH
    hold: bool = False
    view: str | None = None
    layer: str | None = None
    display: Display = SRGB


def read_sidecar(root: Path) -> Sidecar:
    """Read shot.toml strictly; without one, the folder's name and no frame rate. Raises ShotError."""
    path = root / SIDECAR
    default_name = root.resolve().name
    if not path.exists():
        return Sidecar(name=default_name, fps=None)
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
        view=_parse_word(table.get("view"), f"{path}:view"),
        layer=_parse_word(table.get("layer"), f"{path}:layer"),
        display=parse_display(table["display"], f"{path}:display", root) if "display" in table else SRGB,
    )


def _parse_missing(value: Any, where: str) -> bool:
    if value not in ("error", "hold"):
        raise ShotError(f'{where}: {value!r}; expected "error", or "hold" to repeat the frame before')
    return bool(value == "hold")


def _parse_word(value: Any, where: str) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise ShotError(f'{where}: {value!r}; expected a name like "left"')
    return value


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
