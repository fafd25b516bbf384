"""The health table: what is found, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import cli, doctor
from pipeline.models.families import FAMILIES


def test_versions_and_disk_are_those_of_this_machine(tmp_path: Path) -> None:
    findings = {finding.what: finding for finding in doctor.examine(tmp_path / "not" / "there")}
    assert findings["torch"].found == importlib.metadata.version("torch")
    assert all(findings[name].ok for name in ("Python", "device", "ffmpeg", "samples/", "training/"))
    assert str(tmp_path) in findings["disk"].found


def test_missing_weights_are_named_with_the_way_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = {"mini": replace(FAMILIES["mini"], folder=tmp_path)}
    monkeypatch.setattr(doctor, "FAMILIES", bare)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr()
    assert "missing: model 'mini'" in said.err and "missing" in said.out


def test_weights_that_are_there(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FAMILIES", {"mini": replace(FAMILIES["mini"], folder=random_model)})
    findings = {finding.what: finding for finding in doctor.examine(Path("."))}
    assert findings["model 'mini'"].ok


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    findings = {finding.what: finding for finding in doctor.examine(Path("."))}
    missing = findings["no-such-package"]
    assert not missing.ok and missing.needed and missing.advice == "pip install no-such-package"
