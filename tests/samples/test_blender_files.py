"""The exporter's own EXR and PNG files against OpenEXR and OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from pipeline.image import read_png
from pipeline.shot.exr import read_channels
from samples.blender import lookdev_files

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("size", [(1, 1), (16, 33), (37, 20)])
def test_openexr_reads_what_it_writes(tmp_path: Path, size: tuple[int, int]) -> None:
    smooth = np.linspace(0, 5, size[0] * size[1], dtype=np.float32).reshape(size)
    planes = {"Z": smooth, "Vector.X": RNG.normal(size=size).astype(np.float32), "b": np.full(size, np.inf)}
    lookdev_files.write_exr(tmp_path / "a.exr", planes)
    read = read_channels(tmp_path / "a.exr", list(planes))
    own = lookdev_files.read_exr(tmp_path / "a.exr")
    assert own.keys() == planes.keys()
    for values, name in zip(read, planes, strict=True):
        np.testing.assert_array_equal(values, planes[name].astype(np.float16).astype(np.float32))
        np.testing.assert_array_equal(own[name], values)


@pytest.mark.parametrize(
    "compression", [OpenEXR.NO_COMPRESSION, OpenEXR.ZIPS_COMPRESSION, OpenEXR.ZIP_COMPRESSION]
)
def test_it_reads_what_openexr_writes(tmp_path: Path, compression: object) -> None:
    planes = {
        "ViewLayer.Vector.W": RNG.normal(size=(21, 18)).astype(np.float32),
        "ViewLayer.Depth.Z": np.full((21, 18), 4.0, np.float32),
        "half": RNG.normal(size=(21, 18)).astype(np.float16),
    }
    header = {"compression": compression, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, dict(planes)).write(str(tmp_path / "a.exr"))
    read = lookdev_files.read_exr(tmp_path / "a.exr")
    assert read.keys() == planes.keys()
    for name, values in planes.items():
        np.testing.assert_array_equal(read[name], values.astype(np.float32))


def test_it_reads_parts_as_blender_5_writes_them(tmp_path: Path) -> None:
    values = {name: RNG.normal(size=(5, 7)).astype(np.float32) for name in ("Depth", "Normal")}
    header = {"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = [
        OpenEXR.Part(dict(header), {"Z" if name == "Depth" else "X": plane}, name=f"ViewLayer.{name}")
        for name, plane in values.items()
    ]
    OpenEXR.File(parts).write(str(tmp_path / "a.exr"))
    read = lookdev_files.read_exr(tmp_path / "a.exr")
    np.testing.assert_array_equal(read["ViewLayer.Depth.Z"], values["Depth"])
    np.testing.assert_array_equal(read["ViewLayer.Normal.X"], values["Normal"])


def test_other_compressions_and_files_are_refused(tmp_path: Path) -> None:
    header = {"compression": OpenEXR.PIZ_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": np.zeros((4, 4), np.float32)}).write(str(tmp_path / "a.exr"))
    with pytest.raises(ValueError, match="neither none nor ZIP"):
        lookdev_files.read_exr(tmp_path / "a.exr")
    (tmp_path / "b.exr").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"b\.exr: not an EXR"):
        lookdev_files.read_exr(tmp_path / "b.exr")


def test_ids_are_16_bit_pngs(tmp_path: Path) -> None:
    ids = RNG.integers(0, 65536, (9, 14)).astype(np.float32)
    lookdev_files.write_png16(tmp_path / "a" / "ids.png", ids)
    np.testing.assert_array_equal(read_png(tmp_path / "a" / "ids.png", kind="uint16"), ids)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["ids.png"]
