"""EXRs as renderers write them: layers, parts, halves, windows, and files that are cut short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from pipeline.errors import ShotError
from pipeline.shot.exr import channel_names, exr_size, read_channels

H, W = 6, 8
RAMP = np.arange(H * W, dtype=np.float32).reshape(H, W)
SCANLINES = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}


def write_layers(path: Path) -> None:
    """One part, two layers, one as halves, as Blender 3 writes them."""
    channels = {
        "ViewLayer.Combined.R": RAMP.astype(np.float16),
        "ViewLayer.Depth.Z": RAMP + 1,
        "ViewLayer.Vector.X": RAMP + 2,
        "Other.Vector.X": RAMP + 3,
    }
    OpenEXR.File(dict(SCANLINES), channels).write(str(path))


def write_parts(path: Path) -> None:
    """A part per pass, as Blender 5 and Unity's AOV recorder write them."""
    parts = [
        OpenEXR.Part(dict(SCANLINES), {"Z": RAMP + 1}, "ViewLayer.Depth"),
        OpenEXR.Part(dict(SCANLINES), {"X": (RAMP + 2).astype(np.float16), "Y": RAMP}, "Vector"),
    ]
    OpenEXR.File(parts).write(str(path))


def test_layers_are_found_by_their_ending(tmp_path: Path) -> None:
    path = tmp_path / "layers.exr"
    write_layers(path)
    assert exr_size(path) == (W, H) and len(channel_names(path)) == 4
    depth, red = read_channels(path, ["Depth.Z", "R"])
    np.testing.assert_array_equal(depth, RAMP + 1)
    np.testing.assert_array_equal(red, RAMP)
    with pytest.raises(ShotError, match=r"2 channels are called Vector\.X \(.*Other\.Vector\.X"):
        read_channels(path, ["Vector.X"])
    np.testing.assert_array_equal(read_channels(path, ["ViewLayer.Vector.X"])[0], RAMP + 2)
    with pytest.raises(ShotError, match=r"holds the channels .*; expected Normal\.X"):
        read_channels(path, ["Normal.X"])


def test_parts_are_one_set_of_channels(tmp_path: Path) -> None:
    path = tmp_path / "parts.exr"
    write_parts(path)
    assert sorted(channel_names(path)) == ["Vector.X", "Vector.Y", "ViewLayer.Depth.Z"]
    x, depth = read_channels(path, ["Vector.X", "Depth.Z"])
    np.testing.assert_array_equal(x, RAMP + 2)
    np.testing.assert_array_equal(depth, RAMP + 1)


@pytest.mark.parametrize("write", [write_layers, write_parts])
def test_a_cut_file_is_named(tmp_path: Path, write: object) -> None:
    path = tmp_path / "cut.exr"
    write(path)  # type: ignore[operator]
    whole = path.read_bytes()
    for length in (0, 7, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ShotError, match=r"cut\.exr: .*(cut short|not an OpenEXR|is empty)"):
            exr_size(path)


def test_a_data_window_inside_the_display_window(tmp_path: Path) -> None:
    path = tmp_path / "window.exr"
    left_top, right_bottom = (np.array(corner, np.int32) for corner in ((2, 1), (1 + W, H)))
    display = (np.array((0, 0), np.int32), np.array((W + 3, H + 1), np.int32))
    header = {**SCANLINES, "dataWindow": (left_top, right_bottom), "displayWindow": display}
    OpenEXR.File(header, {"Z": RAMP}).write(str(path))
    assert exr_size(path) == (W + 4, H + 2)
    (plane,) = read_channels(path, ["Z"], outside=np.inf)
    expected = np.full((H + 2, W + 4), np.inf, np.float32)
    expected[1 : 1 + H, 2 : 2 + W] = RAMP
    np.testing.assert_array_equal(plane, expected)
