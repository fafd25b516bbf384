"""Passes that are layers, parts or views of one EXR: found whatever stands before their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from exr_files import write_deep, write_luminance_chroma

from pipeline.errors import ShotError
from pipeline.image import linear_to_srgb
from pipeline.shot import open_shot, read_frames, read_pass
from pipeline.shot.exr import write_channels
from pipeline.shot.ids import id_names
from pipeline.shot.inspect import inspect_shot

H, W = 6, 8
RAMP = np.arange(H * W, dtype=np.float32).reshape(H, W)
LIGHT = (RAMP / 60).astype(np.float32)
SCANLINES: dict[str, Any] = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
PASSES: dict[str, np.ndarray] = {  # what follows the view layer
    "Combined.R": LIGHT, "Combined.G": LIGHT / 2, "Combined.B": LIGHT / 4, "Combined.A": np.ones_like(LIGHT),
    "Depth.Z": RAMP + 1, "Normal.X": LIGHT, "Normal.Y": -LIGHT, "Normal.Z": LIGHT / 2,
    "Vector.X": LIGHT, "Vector.Y": LIGHT, "Vector.Z": LIGHT, "Vector.W": LIGHT,
    "IndexOB.X": RAMP % 5, "DiffCol.R": LIGHT, "DiffCol.G": LIGHT, "DiffCol.B": LIGHT,
    "Denoising Depth.Z": RAMP,
}  # fmt: skip


def as_layers(path: Path, prefixes: tuple[str, ...] = ("ViewLayer.",)) -> None:
    """One part, as Blender 3 writes it."""
    channels = {f"{prefix}{name}": plane for prefix in prefixes for name, plane in PASSES.items()}
    OpenEXR.File(dict(SCANLINES), channels).write(str(path))


def as_parts(path: Path, prefix: str = "ViewLayer.") -> None:
    """A part for each pass, as Blender 5 and Unity's AOV recorder write them."""
    names = dict.fromkeys(name.split(".")[0] for name in PASSES)
    renamed = {"IndexOB": "Object Index", "DiffCol": "Diffuse Color"}
    parts = [
        OpenEXR.Part(
            dict(SCANLINES),
            {key.split(".")[1]: plane for key, plane in PASSES.items() if key.split(".")[0] == name},
            prefix + renamed.get(name, name),
        )
        for name in names
    ]
    OpenEXR.File(parts).write(str(path))


def as_files(root: Path, number: int) -> None:
    """A file for each pass, in folders."""
    for name, layer in (("rgb", "Combined"), ("depth", "Depth"), ("normal", "Normal"), ("motion", "Vector"),
                        ("ids", "IndexOB")):  # fmt: skip
        planes = {key.split(".")[1]: plane for key, plane in PASSES.items() if key.startswith(f"{layer}.")}
        write_channels(root / name / f"{name}.{number:04d}.exr", planes)


@pytest.mark.parametrize("form", ["layers", "old prefix", "parts", "parts without a layer", "files"])
def test_every_form_gives_the_same_passes(tmp_path: Path, form: str) -> None:
    for number in (1001, 1002):
        path = tmp_path / f"shot.{number}.exr"
        if form == "files":
            as_files(tmp_path, number)
        elif form in ("layers", "old prefix"):
            as_layers(path, ("ViewLayer.",) if form == "layers" else ("View Layer.RenderLayer.",))
        else:
            as_parts(path, "ViewLayer." if form == "parts" else "")
    shot = open_shot(tmp_path)
    assert set(shot.passes) == {"rgb", "depth", "normal", "motion", "ids"} and shot.num_frames == 2
    np.testing.assert_array_equal(read_pass(shot, "depth", 1, 2)[0], RAMP + 1)
    np.testing.assert_array_equal(read_pass(shot, "ids", 0, 1)[0], (RAMP % 5).astype(np.uint32))
    np.testing.assert_allclose(read_pass(shot, "normal", 0, 1)[0, ..., 1], -LIGHT)
    expected = np.rint(linear_to_srgb(np.stack([LIGHT, LIGHT / 2, LIGHT / 4], axis=-1)) * 255)
    np.testing.assert_array_equal(read_frames(shot, 0, 1)[0], expected)


def test_two_view_layers_are_chosen_between(tmp_path: Path) -> None:
    as_layers(tmp_path / "shot.0001.exr", ("Figures.", "Set."))
    with pytest.raises(ShotError, match=r"2 layers hold rgb \(Figures\.Combined, Set\.Combined\).*layer = "):
        open_shot(tmp_path)
    (tmp_path / "shot.toml").write_text('fps = 24\nlayer = "Set"')
    assert open_shot(tmp_path).passes["depth"].channels == ("Set.Depth.Z",)


@pytest.mark.parametrize("form", ["names", "parts"])
def test_views(tmp_path: Path, form: str) -> None:
    path = tmp_path / "shot.0001.exr"
    left, right = {"Z": RAMP}, {"Z": RAMP + 100}
    colours = {"R": LIGHT, "G": LIGHT, "B": LIGHT}
    if form == "names":  # "Multi-view": the default view's channels have no prefix
        renamed = {f"right.{name}": plane for name, plane in (right | colours).items()}
        OpenEXR.File({**SCANLINES, "multiView": ["left", "right"]}, left | colours | renamed).write(str(path))
    else:
        parts = [
            OpenEXR.Part({**SCANLINES, "view": view}, planes, f"{name}.{view}")
            for view, depth in (("left", left), ("right", right))
            for name, planes in (("rgba", colours), ("depth", depth))
        ]
        OpenEXR.File(parts).write(str(path))
    shot = open_shot(tmp_path)
    np.testing.assert_array_equal(read_pass(shot, "depth", 0, 1)[0], RAMP)
    assert any("of the views left, right the first is read" in note for note in shot.notes)
    (tmp_path / "shot.toml").write_text('fps = 24\nview = "right"')
    chosen = open_shot(tmp_path)
    np.testing.assert_array_equal(read_pass(chosen, "depth", 0, 1)[0], RAMP + 100)
    assert chosen.notes == ()
    (tmp_path / "shot.toml").write_text('fps = 24\nview = "middle"')
    with pytest.raises(ShotError, match=r"no view 'middle'; expected left, right"):
        open_shot(tmp_path)


def test_cryptomatte(tmp_path: Path) -> None:
    """The ids are the bits of rank 0, as written; the manifest names them."""
    hashes = {"Iris": 0x3F8A21C4, "Wall": 0x4112ABCD}
    ids = np.where(RAMP < 20, hashes["Iris"], np.where(RAMP < 40, hashes["Wall"], 0)).astype(np.uint32)
    covered = np.ones_like(LIGHT)
    ranks = (ids.view(np.float32), covered, covered * 0, covered * 0)
    crypto = {f"ViewLayer.CryptoObject00.{c}": plane for c, plane in zip("rgba", ranks, strict=True)}
    material = {name.replace("Object", "Material"): plane for name, plane in crypto.items()}
    colours = {f"ViewLayer.Combined.{c}": LIGHT for c in "RGB"}
    manifest = {name: f"{value:08x}" for name, value in hashes.items()}
    header = {
        **SCANLINES,
        "cryptomatte/b2ef46a/name": "ViewLayer.CryptoObject",
        "cryptomatte/b2ef46a/manifest": json.dumps(manifest),
    }
    OpenEXR.File(header, colours | crypto | material).write(str(tmp_path / "shot.0001.exr"))
    shot = open_shot(tmp_path)
    np.testing.assert_array_equal(read_pass(shot, "ids", 0, 1)[0], ids)
    source = shot.passes["ids"]
    assert id_names(source.files[0], source.channels) == {value: name for name, value in hashes.items()}
    assert "2 named: Iris, Wall" in dict(inspect_shot(tmp_path))["pass ids"]


def test_luminance_and_chroma(tmp_path: Path) -> None:
    """RY = (R - Y) / Y, BY = (B - Y) / Y, and Y is the light's luminance (Rec. 709)."""
    write_luminance_chroma(tmp_path / "shot.0001.exr", np.full((H, W), 0.5, np.float32), red=0.2, blue=-0.4)
    red, blue = 0.6, 0.3
    green = (0.5 - 0.2126 * red - 0.0722 * blue) / 0.7152
    expected = np.rint(linear_to_srgb(np.array([red, green, blue], np.float32)) * 255)
    assert (read_frames(open_shot(tmp_path), 0, 1)[0] == expected).all()


def test_deep_files_are_refused(tmp_path: Path) -> None:
    write_deep(tmp_path / "shot.0001.exr")
    with pytest.raises(ShotError, match=r"shot\.0001\.exr: a deep EXR; expected a flat one"):
        open_shot(tmp_path)


def test_light_that_is_not_finite_is_named(tmp_path: Path) -> None:
    planes = {name: LIGHT.copy() for name in "RGB"}
    planes["G"][2, 3] = np.nan
    write_channels(tmp_path / "shot.0001.exr", planes)
    with pytest.raises(ShotError, match=r"shot\.0001\.exr: 1 pixels are nan .* \(x=3, y=2\)"):
        read_frames(open_shot(tmp_path), 0, 1)


def test_passes_in_an_exr_beside_the_pictures(tmp_path: Path) -> None:
    """Blender's PNG output with one multilayer EXR for the rest."""
    from pipeline.image import write_png

    write_png(tmp_path / "beauty_0001.png", np.full((H, W, 3), 9, np.uint8))
    as_layers(tmp_path / "extra_0001.exr")
    shot = open_shot(tmp_path)
    assert shot.passes["rgb"].origin == "png" and "depth" in shot.passes and "motion" in shot.passes
