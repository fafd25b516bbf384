"""Pictures side by side, with captions: a video of columns, a sheet of rows and columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pipeline.image import UInt8Array, resize, write_png

GAP = 4  # pixels between cells
BAR = 20  # pixels of caption above a cell
BACKGROUND = 24
INK = (230, 230, 230)
Enlarging = Literal["nearest", "lanczos"]


def side_by_side(
    columns: Sequence[Iterable[UInt8Array]],
    captions: Sequence[str],
    *,
    height: int | None = None,
    enlarge: Enlarging = "lanczos",
) -> Iterator[UInt8Array]:
    """Join columns of windows into one stream of uint8 RGB [1, H, W, 3], ready for `encode_video`.

    Each column is a stream of uint8 RGB [T, h, w, 3]; all are brought to `height` (default: the first
    column's) and must have equally many frames (ValueError otherwise). Memory is one window of each.
    """
    if len(columns) != len(captions) or not columns:
        raise ValueError(f"{len(columns)} columns, {len(captions)} captions; expected as many, at least one")
    streams = [_frames(column) for column in columns]
    for frames in zip(*streams, strict=True):
        target = height or frames[0].shape[0]
        yield _row([_to_height(frame, target, enlarge) for frame in frames], captions)[None]


def contact_sheet(
    rows: Sequence[Sequence[UInt8Array]],
    captions: Sequence[str],
    *,
    row_captions: Sequence[str] = (),
    height: int | None = None,
    enlarge: Enlarging = "lanczos",
) -> UInt8Array:
    """One uint8 RGB [H, W, 3] picture of rows x columns of uint8 RGB [h, w, 3] cells.

    `captions` stand above each column, `row_captions` (as many as rows, or none) left of each row. Cells are
    brought to `height` (default: the first cell's own). Raises ValueError for ragged rows.
    """
    if not rows or any(len(row) != len(captions) for row in rows):
        raise ValueError(f"rows of {[len(row) for row in rows]} cells; expected {len(captions)} in each")
    if row_captions and len(row_captions) != len(rows):
        raise ValueError(f"{len(row_captions)} row captions for {len(rows)} rows; expected as many or none")
    target = height or rows[0][0].shape[0]
    cells = [[_to_height(cell, target, enlarge) for cell in row] for row in rows]
    widths = [max(row[column].shape[1] for row in cells) for column in range(len(captions))]
    lines = []
    for index, row in enumerate(cells):
        line = _row(
            [_to_width(cell, widths[i]) for i, cell in enumerate(row)], captions if index == 0 else ()
        )
        if row_captions:
            line = np.concatenate([_row_label(row_captions, index, line.shape[0]), line], axis=1)
        lines.append(line)
    return np.concatenate(lines, axis=0)


def write_contact_sheet(
    path: Path,
    rows: Sequence[Sequence[UInt8Array]],
    captions: Sequence[str],
    *,
    row_captions: Sequence[str] = (),
    height: int | None = None,
    enlarge: Enlarging = "lanczos",
) -> None:
    """`contact_sheet` to a PNG, whole or not at all. Raises OutputError."""
    sheet = contact_sheet(rows, captions, row_captions=row_captions, height=height, enlarge=enlarge)
    write_png(path, sheet)


def _frames(windows: Iterable[UInt8Array]) -> Iterator[UInt8Array]:
    for window in windows:
        yield from window


def _to_height(frame: UInt8Array, height: int, enlarge: Enlarging) -> UInt8Array:
    old_height, old_width = frame.shape[:2]
    if old_height == height:
        return frame
    width = max(1, round(old_width * height / old_height))
    if enlarge == "nearest" and height > old_height:
        return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return resize(frame, height=height, width=width)


def _to_width(frame: UInt8Array, width: int) -> UInt8Array:
    missing = width - frame.shape[1]
    return np.pad(frame, ((0, 0), (0, missing), (0, 0)), constant_values=BACKGROUND) if missing else frame


def _row(cells: Sequence[UInt8Array], captions: Sequence[str]) -> UInt8Array:
    """Cells of one height in a line with gaps around, captions above where there are any."""
    gap = _blank(cells[0].shape[0], GAP)
    parts = [gap]
    labels = [_blank(BAR, GAP)]
    for index, cell in enumerate(cells):
        parts += [cell, gap]
        if captions:
            labels += [_label(captions[index], BAR, cell.shape[1]), _blank(BAR, GAP)]
    line = np.concatenate(parts, axis=1)
    top = [np.concatenate(labels, axis=1)] if captions else []
    return np.concatenate([*top, line, _blank(GAP, line.shape[1])], axis=0)


def _row_label(captions: Sequence[str], index: int, height: int) -> UInt8Array:
    width = GAP + max(_text_width(caption, 1.0) for caption in captions)
    return _label(captions[index], height, width)


def _blank(height: int, width: int) -> UInt8Array:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _label(text: str, height: int, width: int) -> UInt8Array:
    """`text` centred in a bar, made smaller until it fits. Hershey fonts know ASCII only."""
    bar = _blank(height, width)
    plain = text.encode("ascii", "replace").decode("ascii")
    shrink = min(1.0, (width - 2) / max(1, _text_width(plain, 1.0)))
    x = max(0, (width - _text_width(plain, shrink)) // 2)
    scale = FONT_SCALE * shrink
    cv2.putText(bar, plain, (x, height // 2 + 4), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
    return bar


FONT_SCALE = 0.42  # about 9 pixels high, so that a caption fits a 128-pixel frame


def _text_width(text: str, shrink: float) -> int:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE * shrink, 1)
    return int(width)
