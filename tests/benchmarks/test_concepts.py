"""The concepts' forced choices on pictures whose answers are known: truths, right and in another's place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.concepts import Judged, concept_row, leak_row, share, verdict
from benchmarks.judging import Choice, judge
from benchmarks.moments import AXES, CONCEPTS, NONE, ORDINARY, Moment, moments
from pipeline.image import UInt8Array
from samples.stage.render import render
from samples.stage.sets import LOOKS, SETS, built
from training.likeness import LOOK_OFFSET, look_distance


@pytest.fixture(scope="module")
def moment() -> Moment:
    return moments("VaultHall", "tuning", 1)[0]


@pytest.fixture(scope="module")
def rivals(moment: Moment) -> dict[str, dict[str, UInt8Array]]:
    return {axis: moment.rivals(axis) for axis in AXES}


def test_moments_are_of_their_concept_and_no_two_splits_share_one() -> None:
    for group in (*CONCEPTS, NONE):
        tuning, held_out = moments(group, "tuning", 3), moments(group, "held-out", 3)
        assert [m.prompt for m in tuning] == [m.prompt for m in moments(group, "tuning", 3)]
        assert not {m.scene for m in tuning} & {m.scene for m in held_out}
        for each in (*tuning, *held_out):
            there = [concept for concept in CONCEPTS if concept in each.right.values()]
            assert there == [group] * (group != NONE)
            assert [concept for concept in CONCEPTS if concept in each.prompt] == there
    assert {m.name for m in ORDINARY}.isdisjoint(CONCEPTS)


def test_rivals_differ_in_what_they_are_and_not_in_layout(
    moment: Moment, rivals: dict[str, dict[str, UInt8Array]]
) -> None:
    for axis in AXES:
        assert np.array_equal(rivals[axis][moment.right[axis]], moment.frame.film)
        assert len({film.tobytes() for film in rivals[axis].values()}) == len(rivals[axis])
    dressed = render(replace(moment.scene, dress="a red room"), moment.number)
    assert np.array_equal(dressed.ids, moment.frame.ids)
    assert np.array_equal(dressed.depth, moment.frame.depth)
    background = moment.frame.ids < 256
    figure_changes = np.abs(dressed.film.astype(int) - moment.frame.film)[~background].mean()
    assert figure_changes < 0.2 * np.abs(dressed.film.astype(int) - moment.frame.film)[background].mean()


def test_a_dress_keeps_shape_and_lamp() -> None:
    for place in SETS:
        for dress in SETS:
            own, worn = SETS[place](0), built(place, dress)
            assert np.array_equal(own.rows, worn.rows) and own.materials.shape == worn.materials.shape
            assert own.lamp is worn.lamp or np.array_equal(own.lamp, worn.lamp)  # type: ignore[arg-type]
            assert np.array_equal(worn.materials[0], SETS[dress](0).materials[0])


def test_every_truth_is_taken_for_what_it_shows(
    moment: Moment, rivals: dict[str, dict[str, UInt8Array]]
) -> None:
    for axis, name in (("who", "iris"), ("where", "a brick hall"), ("look", "VaultFilm")):
        chosen = judge(moment, rivals[axis][name], rivals)
        assert chosen[axis].nearest == name
        for other in set(AXES) - {axis, "look"}:  # a look changes all that is seen, not the other way round
            if axis != "look":
                assert chosen[other].nearest == moment.right[other]


def test_the_sample_look_is_as_far_from_the_others_as_they_are_from_one_another() -> None:
    seen = [each.rivals("look") for each in moments("VaultFilm", "tuning", 6)]
    nearest = {
        look: min(
            float(np.mean([look_distance(films[look], films[other]) for films in seen]))
            for other in LOOKS
            if other != look
        )
        for look in LOOKS
    }
    sample = nearest.pop("VaultFilm")
    assert 0.95 * min(nearest.values()) < sample < 1.05 * max(nearest.values())


def test_a_grey_render_is_no_concept(moment: Moment, rivals: dict[str, dict[str, UInt8Array]]) -> None:
    chosen = judge(moment, moment.frame.engine, rivals)
    assert not {choice.nearest for choice in chosen.values()} & {"iris", "otto", "VaultFilm"}


def test_a_look_is_told_by_contrast_and_tint_not_by_brightness(
    rivals: dict[str, dict[str, UInt8Array]],
) -> None:
    film = rivals["look"]["film look"]
    brighter = np.clip(film.astype(int) + 8, 0, 255).astype(np.uint8)  # about 3 units of L*
    assert LOOK_OFFSET > 3.0
    assert look_distance(brighter, film) < 0.5 * look_distance(film, rivals["look"]["warm film look"])
    assert set(rivals["look"]) == set(LOOKS)


def _judged(moment: Moment, **nearest: str) -> Judged:
    names = {"who": (moment.right["who"], "iris", "mara", "otto"), "where": tuple(SETS), "look": tuple(LOOKS)}
    choices = {
        axis: Choice.of(
            {each: 0.1 if each == nearest.get(axis, moment.right[axis]) else 0.3 for each in names[axis]}
        )
        for axis in AXES
    }
    return Judged(moment, moment.frame.film, choices)


def test_tables_count_hits_leaks_and_bleed(moment: Moment) -> None:
    group = [_judged(moment)] * 3 + [_judged(moment, where="a red room", who="iris")]
    row = concept_row("with LoRA", "VaultHall", group)
    assert row["right"] == 0.75 and row["frames"] == 4 and row["another concept seen"] == 0.25
    assert row["margin, median"] == pytest.approx(3.0) and row["most chosen"] == "VaultHall 3, a red room 1"
    plain = moments(NONE, "tuning", 1)[0]
    ordinary = [_judged(plain, who="mara")] * 9 + [_judged(plain, who="otto", look="VaultFilm")]
    leak = leak_row("with LoRA", ordinary)
    assert (leak["taken for otto"], leak["taken for VaultFilm"], leak["taken for iris"]) == (0.1, 0.1, 0.0)
    assert share(ordinary, "where") == 1.0
    whole = verdict([row | {"right": 1.0}, row], [leak], "with LoRA")
    assert (whole["worst concept"], whole["spread"], whole["leak, worst"]) == (0.75, 0.25, 0.1)
