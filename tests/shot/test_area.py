"""Areas of a frame: figures and objects of the ids pass, drawn masks, boxes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ShotError
from pipeline.image import write_png
from pipeline.shot import Area, FramePasses, Shot, mask_files, read_area, write_shot

SIZE, FRAMES, FIRST = 16, 3, 7


@pytest.fixture
def shot(tmp_path: Path) -> Shot:
    """Figure 1 with two parts on the left, figure 2 on the right from the second frame on."""
    ids = np.zeros((FRAMES, SIZE, SIZE), np.uint32)
    ids[:, :, :4], ids[:, :, 4:6] = 257, 263
    ids[1:, :, 12:] = 513
    passes = FramePasses(rgb=np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8), ids=ids)
    return write_shot(tmp_path / "wall", [passes], fps=Fraction(24), first_number=FIRST)


def test_a_figure_is_all_its_parts_and_ids_are_as_they_are(shot: Shot) -> None:
    figure = np.stack(read_area(shot, Area(figures=(1,)), 0, FRAMES))
    assert figure.dtype == np.float32 and set(np.unique(figure)) == {0.0, 1.0}
    assert (figure[..., :6] == 1).all() and (figure[..., 6:] == 0).all()
    (part,) = read_area(shot, Area(ids=(263, 99)), 0, 1)
    assert part.sum() == 2 * SIZE and (part[:, 4:6] == 1).all()
    later = read_area(shot, Area(figures=(2,)), 0, FRAMES)
    assert [mask.any() for mask in later] == [False, True, True]


def test_a_box_counts_the_pixels_that_it_cuts_by_their_share(shot: Shot) -> None:
    (mask,) = read_area(shot, Area(box=(0.25, 0.0, 0.5 + 1 / 64, 0.75)), 2, 3)
    assert (mask[:12, 4:8] == 1).all() and mask[:12, 8] == pytest.approx(0.25)
    assert mask[12:].sum() == mask[:, :4].sum() == mask[:, 9:].sum() == 0


def test_masks_by_the_numbers_on_disk_or_one_for_all(shot: Shot, tmp_path: Path) -> None:
    for number in range(FIRST - 1, FIRST + FRAMES):
        write_png(tmp_path / "masks" / f"m.{number}.png", np.full((8, 8, 3), 20 * number, np.uint8))
    files = mask_files(shot, tmp_path / "masks")
    assert [file.name for file in files] == ["m.7.png", "m.8.png", "m.9.png"]
    second, third = read_area(shot, Area(masks=files), 1, 3)
    assert second.shape == (8, 8) and second[0, 0] == np.float32(160 / 255) and third[0, 0] > second[0, 0]
    one = mask_files(shot, files[0])
    assert one == (files[0],) * FRAMES


def test_masks_that_cannot_serve_are_one_line(shot: Shot, tmp_path: Path) -> None:
    with pytest.raises(ShotError, match=r"nothing: no such mask; expected a PNG or JPEG, or a folder"):
        mask_files(shot, tmp_path / "nothing")
    write_png(tmp_path / "few" / "m.8.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ShotError, match=r"few: has no mask for frames 7, 9 of wall; expected one for each"):
        mask_files(shot, tmp_path / "few")
    (tmp_path / "few" / "m.8.png").write_bytes(b"no picture")
    with pytest.raises(ShotError, match=r"m.8.png: not a readable image"):
        read_area(shot, Area(masks=(tmp_path / "few" / "m.8.png",)), 0, 1)
