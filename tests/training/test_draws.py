"""Where the way from the engine's render starts, and which of its steps are trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from small_material import small_material

from training.draws import Draw, draw
from training.schema import TrainSettings

STEPS = 1000


def drawn(rows: int, **settings: object) -> Draw:
    material = replace(small_material(), has_engine=torch.tensor([True, False]))
    wanted = TrainSettings.model_validate({"engine_probability": 1.0} | settings)
    return draw(material, [0, 1] * (rows // 2), 3, wanted, STEPS)


def test_ways_start_within_the_strengths_and_only_their_steps_are_trained() -> None:
    found = drawn(400, engine_strength=[0.4, 0.6])
    ours, plain = found.from_engine, drawn(400)
    assert ours.sum() == 200
    starts, steps = found.start[ours], found.timesteps[ours]
    assert 399 <= int(starts.min()) < 420 and 580 < int(starts.max()) <= 599
    assert bool((steps <= starts).all()) and bool((steps >= 0).all())
    share = (steps / starts).double()
    assert 0.45 < float(share.mean()) < 0.55 and float(share.max()) > 0.95
    # The others' steps, and everything else that is drawn, are as without it.
    assert torch.equal(found.timesteps[~ours], plain.timesteps[~ours])
    assert all(torch.equal(a, b) for a, b in zip(found.noise, plain.noise, strict=True))


def test_one_strength_is_a_range_too() -> None:
    found = drawn(40, engine_strength=[0.5, 0.5])
    assert set(found.start[found.from_engine].tolist()) == {499}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0.6, 0.4], r"engine_strength = \[0.6, 0.4\]: expected the least first"),
        ([0.0, 0.5], "greater than 0"),
        ([0.5, 1.5], "less than or equal to 1"),
    ],
)
def test_strengths_that_are_none_are_told(given: list[float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSettings.model_validate({"engine_strength": given})
