"""The quality tables, end to end on a random miniature, and on renders whose figures are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import quality
from benchmarks.figures import Case, judged, likeness, picture, steadiness, structure
from benchmarks.held_out import HERO, held_out, stage
from benchmarks.renders import Renderer, Variant
from benchmarks.table import markdown
from pipeline.errors import UserError

NUM_FRAMES = 3


class TruthRenderer(Renderer):
    """Stands for a perfect model: with a LoRA the film truth, without it the truth of the next member."""

    cases: list[Case]

    def frames(self, shot: object, prompt: str, variant: Variant) -> np.ndarray:
        case = next(case for case in self.cases if case.truth.shot is shot)
        other = next(name for name in sorted(case.truth.cast) if name != case.shot.hero)
        return case.truth.cast[case.shot.hero if variant.lora else other]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    folder = tmp_path_factory.mktemp("shots")
    shots = [held_out(hero, num_shots=1, num_frames=NUM_FRAMES)[0] for hero in ("iris", "otto")]
    return [Case(shot, stage(shot, folder), shot.prompt("x"), Path("x.safetensors")) for shot in shots]


@pytest.fixture
def perfect(cases: list[Case], tmp_path: Path) -> TruthRenderer:
    renderer = TruthRenderer(tmp_path)
    object.__setattr__(renderer, "cases", cases)
    return renderer


def test_shots_are_kept_and_the_hero_is_in_the_cast(cases: list[Case], tmp_path: Path) -> None:
    case = cases[0]
    assert len(case.truth.cast) == 12
    assert all(film.shape == (NUM_FRAMES, 128, 128, 3) for film in case.truth.cast.values())
    assert (case.truth.ids >> 8 == HERO).any()
    first = stage(replace(case.shot, num_frames=1), tmp_path)
    again = stage(replace(case.shot, num_frames=1), tmp_path)
    np.testing.assert_array_equal(first.cast["iris"], again.cast["iris"])
    with pytest.raises(UserError, match="expected one of ada"):
        held_out("nobody", num_shots=1, num_frames=1)


def test_perfect_renders_get_perfect_figures(cases: list[Case], perfect: TruthRenderer) -> None:
    rows = likeness(cases, perfect, strength=0.6)
    assert [row["nearest to hero"] for row in rows if row["render"] == "with LoRA"] == [1.0, 1.0]
    assert [row["nearest to hero"] for row in rows if row["render"] == "without"] == [0.0, 0.0]
    controlled = structure(cases, perfect, strength=0.8)[0]
    assert controlled["joints in place"] == 1.0 and controlled["PSNR, dB"] == float("inf")
    by_strength = picture(cases, perfect, strengths=(0.4,))
    assert by_strength[1]["SSIM"] == pytest.approx(1.0) and float(by_strength[0]["SSIM"]) < 0.95
    steady = {row["render"]: row for row in steadiness(cases, perfect, strength=0.6)}
    assert steady["film truth"]["sharpness to truth"] == 1.0
    assert steady["blend, fixed noise"]["to frame by frame"] == 1.0  # the same pictures here
    assert steady["engine frame"]["ratio to source"] == 1.0


def test_too_small_figures_are_not_judged(cases: list[Case]) -> None:
    case = cases[0]
    nobody = replace(case, truth=replace(case.truth, ids=np.zeros_like(case.truth.ids)))
    assert list(judged(nobody, case.film)) == []


def test_markdown_table() -> None:
    rows = [{"a": "x", "b": 0.5, "c": 3}, {"a": "y", "b": 12.345, "c": 4}]
    assert markdown(rows).splitlines() == [
        "| a | b | c |",
        "|---|---|---|",
        "| x | 0.500 | 3 |",
        "| y | 12.35 | 4 |",
    ]


def test_command_runs_on_a_random_miniature(tmp_path: Path) -> None:
    from pipeline.models import FAMILIES, load_model
    from pipeline.models.lora_file import lora_metadata, write_lora
    from pipeline.models.lora_inject import inject_lora, lora_state
    from samples.miniature import model as miniature
    from samples.stage.captions import corpus

    random_model = tmp_path / "model"  # its tokenizer has to know the captions, or they are too long
    miniature.save(miniature.build(corpus(100), tmp_path / "bpe"), random_model)
    model = load_model(random_model)
    inject_lora(model, rank=2, alpha=2.0, text_encoder=False, seed=0)
    lora = tmp_path / "iris.safetensors"
    metadata = lora_metadata(FAMILIES["mini"], name="iris", rank=2, alpha=2.0, trigger="irisx")
    write_lora(lora, lora_state(model), metadata=metadata)
    arguments = ["--lora", f"iris={lora}", "--model", str(random_model), "--out", str(tmp_path / "out")]
    arguments += ["--shots", "1", "--frames", "2", "--steps", "2", "--figure", "likeness"]
    result = CliRunner().invoke(quality.main, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "quality.json").read_text())["likeness"]
    assert [row["frames"] for row in rows] == [2, 2, 2]
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_command_refuses_a_bad_lora_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(quality.main, ["--lora", f"iris={tmp_path / 'no.safetensors'}"])
    assert result.exit_code == 2
    assert result.output.startswith("error: ") and "no.safetensors" in result.output
    result = CliRunner().invoke(quality.main, ["--lora", "iris"])
    assert result.exit_code == 2 and "MEMBER=FILE" in result.output
    lora = write_small_lora(tmp_path)
    for arguments, part in (
        (["--lora", f"bob={lora}"], "'bob' is not in the cast"),
        (["--lora", f"iris={lora}", "--frames", "49"], "49 frames asked of a scene of 48"),
    ):
        result = CliRunner().invoke(quality.main, [*arguments, "--out", str(tmp_path / "out")])
        assert result.exit_code == 2 and result.output.startswith("error: ") and part in result.output
        assert result.output.count("\n") == 1


def write_small_lora(folder: Path) -> Path:
    import torch

    from pipeline.models.lora_file import write_lora

    state = {
        "lora_unet_x.lora_down.weight": torch.zeros(1, 2),
        "lora_unet_x.lora_up.weight": torch.zeros(2, 1),
    }
    write_lora(folder / "small.safetensors", state, metadata={})
    return folder / "small.safetensors"
