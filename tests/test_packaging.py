"""What an install that is not editable holds: presets, samples and weights that git tracks."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("folder", ["presets", "samples", "training"])
def test_every_file_is_package_data(folder: str) -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = {
        path
        for package, patterns in table["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = [
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".py" and not {"__pycache__", ".lookdev"} & set(path.parts)
    ]
    assert files
    assert [path for path in files if path not in packed] == []
    assert f"{folder}*" in table["packages"]["find"]["include"]
