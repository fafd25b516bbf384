"""record.json: what made a result, so that it can be made again and resumed.

{"shot": "corridor_walk", "digest": "<sha256 of the plan>", "created": "2026-01-31T12:00:00+00:00",
 "versions": {"lookdev": "0.1.0", "torch": ..., ...}, "inputs": {"<path>": "<sha256>"},
 "settings": {...}, "outputs": [...], "num_frames": 48, "fps": "24/1",
 "seconds": {"load": 4.1, "frames": 61.2, "model": 44.0, "output": 1.3}, "denoised": 0.19, "notes": [...],
 "machines": ["cuda NVIDIA H200, float16, farm-07"]}
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.files import file_digest, write_text
from pipeline.shot.video import ffmpeg_path

RECORDED_PACKAGES = (
    "lookdev", "torch", "diffusers", "transformers", "peft", "controlnet-aux", "numpy", "opencv-python",
    "OpenEXR", "imageio-ffmpeg", "safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One result's provenance. `digest` is the plan's; `inputs` are keyed by path.

    `seconds` are by stage, over all the runs that the result took.
    """

    shot: str
    digest: str
    num_frames: int
    fps: Fraction
    versions: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    denoised: float | None = None  # frames' worth of pixels that the model made, over the frames
    notes: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()  # what the frames were computed on
    created: str = ""  # UTC, ISO 8601; filled in when written


def package_versions() -> dict[str, str]:
    """Versions of Python, of the packages that decide pixels, of ffmpeg; nothing is imported to ask."""
    versions = {"python": platform.python_version(), "ffmpeg": _ffmpeg_version()}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions


@functools.cache
def _ffmpeg_version() -> str:
    """As the binary says it: IMAGEIO_FFMPEG_EXE may name another than the package's own."""
    said = subprocess.run([ffmpeg_path(), "-version"], capture_output=True, text=True, check=False).stdout
    words = said.split(maxsplit=3)  # ffmpeg version 7.1-static ...
    return words[2] if len(words) > 2 else "unknown"


def input_digests(
    paths: Iterable[Path], *, base: Path | None = None, digest: Callable[[Path], str] = file_digest
) -> dict[str, str]:
    """sha256 per file, keyed by the path, relative to `base` where it lies inside; OutputError if unreadable.

    A `base` that is a file itself (a video) stands for its folder. `digest` is `file_digest`, or
    `known_digest` for large files that were asked for before.
    """
    if base is not None and base.is_file():
        base = base.parent
    digests = {}
    for path in paths:
        inside = base is not None and path.resolve().is_relative_to(base.resolve())
        key = path.resolve().relative_to(base.resolve()) if base is not None and inside else path
        try:
            digests[key.as_posix()] = digest(path)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be read for the record ({error.strerror}); keep inputs in place"
            ) from error
    return digests


def write_record(path: Path, record: Record) -> Record:
    """Write `record` as JSON, whole or not at all, and return it as written (time and versions filled in).

    Raises OutputError.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    filled = dataclasses.replace(
        record, created=record.created or now, versions=record.versions or package_versions()
    )
    fields = dataclasses.asdict(filled)
    fields["fps"] = f"{filled.fps.numerator}/{filled.fps.denominator}"
    write_text(path, json.dumps(fields, indent=2, default=str) + "\n")
    return filled


def read_record(path: Path) -> Record:
    """Read a record.json. Raises OutputError when it is missing or not one."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["fps"] = Fraction(fields["fps"])
        for name in ("outputs", "notes", "machines"):
            fields[name] = tuple(fields.get(name, ()))
        return Record(**fields)
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror}); render the shot again") from error
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise OutputError(
            f"{path}: not a record of this version ({error}); remove it and render again"
        ) from error
