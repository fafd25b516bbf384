"""Figure 3's table on renders whose figures are known: film truths as they are, and with roles swapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import regions
from benchmarks.regions import OTHER, SCENES, Staged, judge, row, stage, variants
from pipeline.image import write_png
from pipeline.preset import Preset
from pipeline.shot import Shot
from samples.stage.cast import BY_NAME
from samples.stage.render import render

LORAS = {"iris": Path("iris.safetensors"), "otto": Path("otto.safetensors")}


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staged:
    monkeypatch.setattr(regions, "SECONDS", 1)
    monkeypatch.setitem(regions.RATES, "frame", 2)
    return stage("two_shot", tmp_path / "shots", rate=2)


def swapped(staged: Staged) -> np.ndarray:
    """The film truth with each character in the other one's role."""
    scene = staged.scene
    for index, role in enumerate(staged.scene.roles):
        scene = scene.recast(index, BY_NAME[OTHER[role.member.name]])
    return np.stack([render(scene, t).film for t in range(len(staged.frames))])


def test_every_scene_has_both_and_both_orders_are_there() -> None:
    for scene in SCENES.values():
        assert {role.member.name for role in scene.roles} == set(OTHER)
    firsts = [scene.roles[0].member.name for scene in SCENES.values()]
    assert min(firsts.count(name) for name in OTHER) >= 3
    assert len({scene.place for scene in SCENES.values()}) >= 5


def test_the_truth_is_right_and_the_swapped_one_wrong(staged: Staged) -> None:
    truth = list(judge(staged, np.stack([frame.film for frame in staged.frames])))
    assert len(truth) == 4 and all(each.nearest == each.character for each in truth)
    wrong = list(judge(staged, swapped(staged)))
    assert all(each.nearest == OTHER[each.character] for each in wrong)
    line = row("half", [*truth, *wrong], 20.0, 0.5)
    assert (line["iris"], line["otto"], line["right"]) == ("2 of 4", "2 of 4", "50 %")


def test_what_is_compared_differs_in_the_regions_alone(staged: Staged) -> None:
    *without, regional = variants(staged, LORAS, "frame").values()
    assert [region.title for region in regional.region] == ["iris", "otto"]
    assert [region.lora[0].path.name for region in regional.region] == [path.name for path in LORAS.values()]
    assert regional.lora == () and regional.vars["place"] == "in a brick hall"
    for preset, weight in zip(without, (0.7, 1.0), strict=True):
        assert preset.region == () and [lora.weight for lora in preset.lora] == [weight, weight]
        assert preset.vars["subject"] == "a person, iris and a person, otto"
        same = {"strength", "steps", "guidance", "seed", "control", "temporal", "model"}
        assert preset.model_dump(include=same) == regional.model_dump(include=same)


def test_the_command_prints_the_table_and_the_sheet(
    staged: Staged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(pictures: Callable[[Preset], Sequence[np.ndarray]]) -> Callable[..., SimpleNamespace]:
        def render_shot(shot: Shot, preset: Preset, out: Path) -> SimpleNamespace:
            for number, picture in enumerate(pictures(preset), start=1):
                write_png(out / "frames" / f"styled.{number:04d}.png", picture)
            return SimpleNamespace(video=out / "two_shot.mp4", seconds=3.0, num_rendered=2)

        return render_shot

    truth = [frame.film for frame in staged.frames]
    monkeypatch.setattr(regions, "render_shot", fake(lambda p: truth if p.region else swapped(staged)))
    result = CliRunner().invoke(regions.main, ["--scene", "two_shot", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    rows = {line.split(" | ")[0]: line for line in result.output.splitlines() if line.startswith("| all")}
    assert "| 100 % |" in rows["| all, with regions"]
    assert (
        "| 0 % |" in rows["| all, without regions, LoRAs at 0.7"] and (tmp_path / "sheet_frame.png").is_file()
    )
