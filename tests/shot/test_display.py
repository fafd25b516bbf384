"""Scene-linear light becomes display colours by the transform that shot.toml names."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ShotError
from pipeline.image import linear_to_srgb
from pipeline.shot import open_shot, read_frames
from pipeline.shot.display import Display, to_display
from pipeline.shot.exr import write_channels

GREYS = np.repeat(np.linspace(0, 20, 400, dtype=np.float32)[:, None], 3, axis=1)


def test_srgb_is_the_standard_curve_cut_at_one() -> None:
    light = np.array([[0.18, 0.5, 1.0], [0.0, 4.0, -1.0]], np.float32)
    expected = np.rint(linear_to_srgb(np.clip(light, 0, 1)) * 255)
    np.testing.assert_array_equal(to_display(light, Display()), expected)
    np.testing.assert_array_equal(to_display(light / 2, Display("srgb", exposure=1.0)), expected)


@pytest.mark.parametrize("name", ["filmic", "agx"])
def test_curves_keep_what_srgb_clips(name: str) -> None:
    """Greys stay grey and in order; light of 2 and 8 is told apart; black is black."""
    levels = to_display(GREYS, Display(name)).astype(int)
    assert (levels[0] <= 2).all() and (np.diff(levels, axis=0) >= 0).all()
    assert (np.ptp(levels, axis=1) <= 1).all()
    two, eight = (to_display(np.full((1, 3), value, np.float32), Display(name))[0, 0] for value in (2, 8))
    assert two + 10 < eight <= 255


def test_agx_fades_bright_colours_to_white() -> None:
    """A pure blue light of 16 loses its hue instead of clipping to (0, 0, 255)."""
    blue = to_display(np.array([[0.0, 0.0, 16.0]], np.float32), Display("agx"))[0]
    assert blue[0] > 100 and blue[2] > 200
    grey = to_display(np.full((1, 3), 0.18, np.float32), Display("agx"))[0]
    assert np.abs(grey.astype(int) - 119).max() < 12  # sRGB of 0.18 is 118


def test_ocio_agrees_with_srgb_where_the_config_says_srgb() -> None:
    pytest.importorskip("PyOpenColorIO")
    display = Display("ocio", config="ocio://default", space="Linear Rec.709 (sRGB)",
                      screen="sRGB - Display", look="Un-tone-mapped")  # fmt: skip
    light = np.random.default_rng(0).uniform(0, 1, (50, 3)).astype(np.float32)
    apart = to_display(light, display).astype(int) - to_display(light, Display())
    assert np.abs(apart).max() <= 1
    with pytest.raises(ShotError, match=r"ocio://default: OpenColorIO refuses it"):
        to_display(light, Display("ocio", config="ocio://default", screen="nowhere"))


def test_ocio_without_the_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyOpenColorIO", None)
    with pytest.raises(ShotError, match=r"pip install 'lookdev\[ocio\]', or take srgb, filmic or agx"):
        to_display(GREYS, Display("ocio", config="somewhere.ocio"))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ('display = "log"', r"display\.transform: 'log'; expected srgb, filmic, agx or ocio"),
        ("display = 3", r"display: 3; expected a name like \"agx\""),
        ('display = { transform = "agx", gain = 1 }', r"display: unknown key 'gain'; expected transform"),
        ('display = { transform = "agx", exposure = "high" }', r"display\.exposure: 'high'; expected stops"),
        ('display = { transform = "agx", config = "x" }', r"display\.config: 'x'; expected a name, and only"),
        (
            'display = { transform = "ocio", config = "no.ocio" }',
            r"display\.config: found no file .*no\.ocio",
        ),
    ],
)
def test_a_bad_display_is_one_line(tmp_path: Path, section: str, expected: str) -> None:
    write_channels(tmp_path / "shot.0001.exr", {name: np.ones((4, 4), np.float32) for name in "RGB"})
    (tmp_path / "shot.toml").write_text(f"fps = 24\n{section}\n")
    with pytest.raises(ShotError, match=expected):
        open_shot(tmp_path)


def test_the_sidecar_chooses(tmp_path: Path) -> None:
    light = np.full((4, 4), 3.0, np.float32)
    write_channels(tmp_path / "shot.0001.exr", dict.fromkeys("RGB", light))
    assert (read_frames(open_shot(tmp_path), 0, 1) == 255).all()
    (tmp_path / "shot.toml").write_text('fps = 24\ndisplay = { transform = "agx", exposure = -1.0 }\n')
    expected = to_display(np.full((1, 3), 1.5, np.float32), Display("agx"))
    assert (read_frames(open_shot(tmp_path), 0, 1) == expected).all()
