"""review.html: before and after, frame by frame and in motion, with the settings; opens without a server."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pipeline.files import write_text

SHOWN = frozenset({".png", ".jpg", ".jpeg", ".webp"})  # pictures that every browser shows
PLAYED = frozenset({".mp4", ".webm", ".m4v"})


@dataclass(frozen=True)
class Review:
    """What the page shows. `after`, `before`: one picture a frame; a video's frames have no `before`.

    numbers: the frames' own. videos, links: (caption, file). settings: (name, value). looks: (frames, text).
    keys: indices of the key frames; strip: a picture of them over time.
    """

    shot: str
    fps: Fraction
    width: int
    height: int
    numbers: Sequence[int]
    after: Sequence[Path]
    before: Sequence[Path]
    videos: Sequence[tuple[str, Path]]
    settings: Sequence[tuple[str, str]]
    looks: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()
    links: Sequence[tuple[str, Path]] = ()
    keys: Sequence[int] = ()
    strip: Path | None = None


def write_review(path: Path, review: Review) -> None:
    """Write the page, whole or not at all; files are named relative to it. Raises OutputError."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("review.html.j2")
    videos = [(name, file) for name, file in review.videos if file.suffix.lower() in PLAYED]
    before = [_address(file, path) for file in review.before if file.suffix.lower() in SHOWN]
    text = page.render(
        shot=review.shot,
        fps=f"{float(review.fps):g}",
        width=review.width,
        height=review.height,
        num_frames=len(review.numbers),
        numbers=list(review.numbers),
        after=[_address(file, path) for file in review.after],
        before=before if len(before) == len(review.after) else [],
        videos=[(name, _address(file, path)) for name, file in videos],
        settings=review.settings,
        looks=review.looks,
        notes=review.notes,
        links=[(name, _address(file, path)) for name, file in review.links],
        keys=list(review.keys),
        strip=None if review.strip is None else _address(review.strip, path),
    )
    write_text(path, text + "\n")


def _address(file: Path, page: Path) -> str:
    """Relative to the page where there is a way, else absolute (another drive)."""
    try:
        relative = os.path.relpath(file.resolve(), page.parent.resolve())
    except ValueError:
        return file.resolve().as_uri()
    return urllib.parse.quote(Path(relative).as_posix())
