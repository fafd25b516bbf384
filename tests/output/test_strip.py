"""The timeline as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.image import read_image
from pipeline.output import write_strip
from pipeline.output.strip import BAR, HEIGHT, KEY, OTHER


def picture(t: int) -> np.ndarray:
    return np.full((90, 160, 3), t, np.uint8)


def test_bars_keys_and_pictures(tmp_path: Path) -> None:
    shown = [1.0, 0.5, 0.5, 1.0, 0.0, 0.0]
    write_strip(tmp_path / "t.png", shown, [True] * 4 + [False] * 2, [0, 3], picture)
    strip = read_image(tmp_path / "t.png")
    assert strip.shape[:2] == (2 * HEIGHT + 4, 72)
    bottom = strip[-1, ::12]
    expected = [KEY, BAR, BAR, KEY, OTHER, OTHER]
    np.testing.assert_array_equal(bottom, np.array(expected))
    column = (strip[HEIGHT + 4 :, 12] == np.array(BAR)).all(axis=1)
    assert int(column.sum()) == HEIGHT // 2


@pytest.mark.parametrize("count", [1, 3000])
def test_short_and_long_shots(tmp_path: Path, count: int) -> None:
    asked = []

    def ask(t: int) -> np.ndarray:
        asked.append(t)
        return picture(7)

    write_strip(tmp_path / "t.png", [1.0] * count, [True] * count, range(0, count, 10), ask)
    assert read_image(tmp_path / "t.png").shape[1] <= 6000 and len(asked) <= 60
