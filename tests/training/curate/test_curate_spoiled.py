"""Issue 4, figure 1: every fault planted in the spoiled dataset is found, the clean ones raise no alarm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import cli
from samples.stage.datasets import CONCEPTS
from samples.stage.spoiled import FOLDER, PLANTED
from training.curate.audit import audit_dataset
from training.curate.findings import Finding
from training.curate.lint import lint_dataset
from training.curate.tokens import load_tokens
from training.schema import read_dataset_file

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
MINI_SIZE = 128  # pixels


def check(folder: Path) -> list[Finding]:
    """All that lint and audit say of a dataset folder."""
    path = folder / "dataset.toml"
    file = read_dataset_file(path)
    found = lint_dataset(path, file, tokens=load_tokens(path, file))
    for audit in audit_dataset(path, file, size=MINI_SIZE):
        found += audit.findings
    return found


def test_every_planted_fault_is_found_and_no_other() -> None:
    found = check(SAMPLES / FOLDER)
    planted = [(fault.rule, fault.where) for fault in PLANTED]
    unexpected = [
        str(each)
        for each in found
        if not any(each.rule == rule and each.where.endswith(where) for rule, where in planted)
    ]
    missed = [
        (rule, where)
        for rule, where in planted
        if not any(each.rule == rule and each.where.endswith(where) for each in found)
    ]
    assert (missed, unexpected) == ([], [])
    assert len(found) == len(planted)


def test_the_list_of_planted_faults_is_the_one_on_disk() -> None:
    listed = json.loads((SAMPLES / FOLDER / "planted.json").read_text())
    assert [(fault["rule"], fault["where"]) for fault in listed] == [(f.rule, f.where) for f in PLANTED]


@pytest.mark.parametrize("name", CONCEPTS)
def test_no_false_alarm_on_a_clean_dataset(name: str) -> None:
    assert check(SAMPLES / CONCEPTS[name].folder) == []


def test_the_command_ends_with_what_to_shoot_and_drop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["dataset", "audit", str(SAMPLES / FOLDER / "dataset.toml"), "--sheet", str(sheet)]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().out
    assert "shoot: no image from: profile left, profile right" in said
    assert "drop or look at: 0004.png: outlier" in said and "profile left 0" in said
    assert sheet.is_file()
