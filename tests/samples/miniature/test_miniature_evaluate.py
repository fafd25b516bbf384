"""The training's own score: truth scores best, and the score is of the cases it says."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.models import load_model
from samples.miniature import evaluate
from samples.stage.cast import BY_NAME, CAST, is_held_out


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "NUM_SCENES", 2)
    evaluate.cases.cache_clear()


def test_cases_show_who_they_name_and_nobody_held_out(few: None) -> None:
    cases = evaluate.cases()
    assert len(cases) == 2
    for case in cases:
        assert not is_held_out(BY_NAME[case.who])
        assert set(case.truths) == {member.name for member in CAST}
        assert np.array_equal(case.truths[case.who], case.frame.film)
    evaluate.cases.cache_clear()


def test_score_compares_with_the_truth(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("mini")
    result = evaluate.score(model, steps=2)
    assert result.sheet.shape == (128, 2 * 384, 3)
    assert 8.0 < result.engine < result.styled < 40.0  # nearer to the truth than the frame it was given
    answers = iter([case.frame.film[None] for case in evaluate.cases()])
    monkeypatch.setattr(evaluate, "img2img", lambda *args: next(answers))
    perfect = evaluate.score(model)
    assert perfect.right == 1.0
    assert perfect.styled == float("inf")
    evaluate.cases.cache_clear()
