"""Sequences as renderers name them: any start, several in one folder, and gaps filled where that is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ShotError
from pipeline.image import write_png
from pipeline.shot import open_shot, read_pass
from pipeline.shot.exr import write_channels

H, W = 8, 12


def write_image(path: Path, level: int) -> None:
    write_png(path, np.full((H, W, 3), level, np.uint8))


def write_plane(path: Path, *channels: str) -> None:
    write_channels(path, {name: np.ones((H, W), np.float32) for name in channels})


@pytest.mark.parametrize(
    ("picture", "depth", "motion"),
    [
        ("Movie_001_0120.png", "Movie_001_Depth_0120.exr", "Movie_001_MotionVectors_0120.exr"),  # Unity
        ("0120.png", "Depth0120.exr", "Vector0120.exr"),  # Blender's file output nodes
        ("Seq.FinalImage.0120.jpeg", "Seq.WorldDepth.0120.exr", "Seq.Velocity.0120.exr"),  # Unreal
        ("take-beauty.0120.png", "take-z.0120.exr", "take-motion.0120.exr"),
    ],
)
def test_one_folder_of_several_sequences(tmp_path: Path, picture: str, depth: str, motion: str) -> None:
    for number in ("0120", "0121"):
        write_image(tmp_path / picture.replace("0120", number).replace("jpeg", "png"), 7)
        write_plane(tmp_path / depth.replace("0120", number), "Z")
        write_plane(tmp_path / motion.replace("0120", number), "R", "G")
    shot = open_shot(tmp_path)
    assert set(shot.passes) == {"rgb", "depth", "motion"} and shot.frame_numbers == (120, 121)
    assert shot.passes["depth"].files[0].name == depth


def test_folders_as_renderers_name_them(tmp_path: Path) -> None:
    """Unity's <AOV> or Unreal's {render_pass} in the path: a folder a pass, capitals and all."""
    for number in ("0007", "0008"):
        write_image(tmp_path / "Beauty" / f"Take_{number}.png", 7)
        write_plane(tmp_path / "Depth" / f"Take_{number}.exr", "R")
        write_plane(tmp_path / "MotionVectors" / f"Take_{number}.exr", "R", "G")
        write_plane(tmp_path / "Notes" / f"Take_{number}.exr", "R", "G", "B")
    shot = open_shot(tmp_path)
    assert set(shot.passes) == {"rgb", "depth", "motion"} and shot.frame_numbers == (7, 8)
    assert shot.passes["depth"].channels == ("R",)


def test_two_pictures_in_one_folder_are_refused(tmp_path: Path) -> None:
    for name in ("a_0001.png", "b_0001.png"):
        write_image(tmp_path / name, 7)
    with pytest.raises(ShotError, match=r"2 of its 2 .* look like rgb \(a_0001\.png and b_0001\.png\)"):
        open_shot(tmp_path)


def test_gaps_are_an_error_or_held(tmp_path: Path) -> None:
    for number in (3, 4, 7):
        write_image(tmp_path / f"rgb.{number:04d}.png", number)
    with pytest.raises(ShotError, match=r"2 of frames 3-7 missing: 5-6; .* set missing = \"hold\""):
        open_shot(tmp_path)
    (tmp_path / "shot.toml").write_text('fps = "24"\nmissing = "hold"')
    shot = open_shot(tmp_path)
    assert shot.frame_numbers == (3, 4, 5, 6, 7)
    assert read_pass(shot, "rgb", 0, 5)[:, 0, 0, 0].tolist() == [3, 4, 4, 4, 7]
    (tmp_path / "shot.toml").write_text('fps = "24"\nmissing = "skip"')
    with pytest.raises(ShotError, match=r"missing: 'skip'; expected"):
        open_shot(tmp_path)


def test_files_of_one_name_and_two_kinds(tmp_path: Path) -> None:
    """An EXR of the picture beside its PNG is no pass by its name, and no second picture."""
    write_image(tmp_path / "shot.0001.png", 7)
    write_plane(tmp_path / "shot.0001.exr", "R", "G", "B")
    assert set(open_shot(tmp_path).passes) == {"rgb"}


def test_blenders_background_is_infinitely_far(tmp_path: Path) -> None:
    write_image(tmp_path / "rgb" / "rgb.0001.png", 7)
    plane = np.where(np.eye(H, W, dtype=bool), np.float32(1e10), np.float32(2.0)).astype(np.float32)
    write_channels(tmp_path / "depth" / "depth.0001.exr", {"ViewLayer.Depth.Z": plane})
    depth = read_pass(open_shot(tmp_path), "depth", 0, 1)[0]
    np.testing.assert_array_equal(depth, np.where(np.eye(H, W, dtype=bool), np.inf, 2.0))


def test_depth_is_found_among_layers(tmp_path: Path) -> None:
    write_image(tmp_path / "rgb" / "rgb.0001.png", 7)
    layers = {"View.Normal.Z": 0.5, "View.Depth.Z": 3.0}
    planes = {name: np.full((H, W), value, np.float32) for name, value in layers.items()}
    write_channels(tmp_path / "depth" / "depth.0001.exr", planes)
    assert (read_pass(open_shot(tmp_path), "depth", 0, 1) == 3.0).all()
