"""Pictures in every file that renderers write: 8 and 16 bits, grey, colour, see-through."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import ShotError
from pipeline.shot import open_shot, read_frames

H, W = 6, 10
RED, GREEN, BLUE = 200, 100, 50


def write(path: Path, *, bits: int = 8, channels: int = 3, alpha: float = 1.0) -> np.ndarray:
    """A flat colour; returns what a display shows of it over black."""
    most = 2**bits - 1
    colour = np.array([BLUE, GREEN, RED], float) / 255 * most  # OpenCV's order
    values = {1: colour[2:], 3: colour, 4: np.append(colour, alpha * most)}[channels]
    image = np.tile(np.rint(values).astype(np.uint8 if bits == 8 else np.uint16), (H, W, 1))
    assert cv2.imwrite(str(path), image)
    shown = [RED] * 3 if channels == 1 else [RED, GREEN, BLUE]
    return np.rint(np.array(shown) * (alpha if channels == 4 else 1.0))


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("channels", "alpha"), [(1, 1.0), (3, 1.0), (4, 0.25)])
def test_bits_and_alpha(tmp_path: Path, suffix: str, bits: int, channels: int, alpha: float) -> None:
    for number in (3, 4):
        expected = write(tmp_path / f"shot.{number:04d}.{suffix}", bits=bits, channels=channels, alpha=alpha)
    shot = open_shot(tmp_path)
    assert (shot.width, shot.height, shot.frame_numbers) == (W, H, (3, 4))
    assert np.abs(read_frames(shot, 0, 2) - expected).max() <= 1  # 16 bits of 200 / 255 round twice


def test_sixteen_bits_round_to_the_nearest(tmp_path: Path) -> None:
    """257 * 100 + 200 is nearer to 101 than to 100; cutting bits off would say 100."""
    assert cv2.imwrite(str(tmp_path / "a.0001.png"), np.full((H, W, 3), 257 * 100 + 200, np.uint16))
    assert (read_frames(open_shot(tmp_path), 0, 1) == 101).all()


def test_jpeg(tmp_path: Path) -> None:
    expected = write(tmp_path / "shot_0001.jpg")
    assert np.abs(read_frames(open_shot(tmp_path), 0, 1) - expected).max() <= 3


def test_tiffs_that_are_cut_or_of_floats(tmp_path: Path) -> None:
    path = tmp_path / "shot.0001.tif"
    write(path)
    whole = path.read_bytes()
    for length in (0, 6, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:length])
        with pytest.raises(ShotError, match=r"shot\.0001\.tif: .*(cut short|empty|not a)"):
            open_shot(tmp_path)
    assert cv2.imwrite(str(path), np.ones((H, W, 3), np.float32))
    with pytest.raises(ShotError, match=r"shot\.0001\.tif: holds float32 numbers; expected 8 or 16 bits"):
        read_frames(open_shot(tmp_path), 0, 1)


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.0001.png"), np.full((1, 1, 3), 7, np.uint8))
    shot = open_shot(tmp_path)
    assert (shot.width, shot.height) == (1, 1) and read_frames(shot, 0, 1).tolist() == [[[[7, 7, 7]]]]
