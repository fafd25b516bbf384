"""Side by side: the cells are where they should be, untouched where no resizing was asked."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.image import read_png
from pipeline.output import contact_sheet, encode_video, side_by_side, write_contact_sheet
from pipeline.output.compare import BAR, GAP

RNG = np.random.default_rng(3)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def test_cells_are_pixel_exact(tmp_path: Path) -> None:
    cells = [[noise(32, 48, 3) for _ in range(3)] for _ in range(2)]
    sheet = contact_sheet(cells, ["engine", "styled", "truth"])
    assert sheet.shape == (BAR + 2 * (32 + GAP), GAP + 3 * (48 + GAP), 3)
    for row in range(2):
        for column in range(3):
            top, left = BAR + row * (32 + GAP), GAP + column * (48 + GAP)
            assert np.array_equal(sheet[top : top + 32, left : left + 48], cells[row][column])
    write_contact_sheet(tmp_path / "sheet.png", cells, ["engine", "styled", "truth"])
    assert np.array_equal(read_png(tmp_path / "sheet.png"), sheet)


def test_enlarging_by_nearest_repeats_pixels() -> None:
    cell = noise(8, 12, 3)
    sheet = contact_sheet([[cell]], [""], height=32, enlarge="nearest")
    assert np.array_equal(sheet[BAR : BAR + 32, GAP : GAP + 48], cell.repeat(4, 0).repeat(4, 1))


def test_captions_are_drawn_and_stay_inside() -> None:
    plain = contact_sheet([[noise(16, 40, 3)] * 2], ["", ""])
    named = contact_sheet([[noise(16, 40, 3)] * 2], ["a caption far too long for its column", "b"])
    assert plain[:BAR].std() == 0 and named[:BAR].std() > 0
    gap = named[:BAR, GAP + 40 : 2 * GAP + 40]
    assert gap.std() == 0  # the long caption was made smaller, not cut or spilt


def test_row_captions_and_narrow_cells_line_up() -> None:
    rows = [[noise(16, 40, 3), noise(16, 40, 3)], [noise(16, 40, 3), noise(16, 20, 3)]]
    sheet = contact_sheet(rows, ["a", "b"], row_captions=["0001", "0024"])
    right = contact_sheet(rows, ["a", "b"])
    assert np.array_equal(sheet[:, -right.shape[1] :], right)
    assert sheet[:, : -right.shape[1]].std() > 0
    with pytest.raises(ValueError, match="expected 2 in each"):
        contact_sheet([rows[0], rows[1][:1]], ["a", "b"])


def test_columns_of_other_windows_and_sizes_make_one_stream(tmp_path: Path) -> None:
    engine, styled = noise(5, 16, 24, 3), noise(5, 32, 48, 3)
    joined = np.concatenate(list(side_by_side([[engine], [styled[:2], styled[2:]]], ["engine", "styled"])))
    assert joined.shape == (5, BAR + 16 + GAP, 3 * GAP + 48, 3)
    assert np.array_equal(joined[:, BAR : BAR + 16, GAP : GAP + 24], engine)
    count = encode_video(side_by_side([[engine], [styled]], ["a", "b"]), tmp_path / "a.mp4", fps=Fraction(24))
    assert count == 5


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(side_by_side([[noise(5, 16, 16, 3)], [noise(4, 16, 16, 3)]], ["a", "b"]))
