"""Who does not belong, against sums over every possibility; and whom to look at first."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from training.curate.outliers import (
    CERTAIN,
    DOUBT,
    MIN_JUDGED,
    STRANGERS,
    difference,
    farthest,
    outliers,
    strangers,
)
from training.curate.recognise import Heads

KNOWN = Heads(
    (("short hair", "bald"), ("black hair", "red hair"), ("no glasses", "glasses")),
    np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, -1, 0], [1, -1, 1]]),
    np.array([0.25, 0.1, 0.2, 0.1, 0.25, 0.1]),
)


def sure(head: int, doubt: float = 1e-4) -> np.ndarray:
    """A reading that is nearly certain."""
    read = np.full(6, doubt / 5)
    read[head] = 1.0 - doubt
    return read


def test_chances_are_the_sum_over_every_way_it_may_be() -> None:
    """Each image shows the one head or a stranger: all 2^5 ways, with each of 6 heads."""
    rng = np.random.default_rng(3)
    read = rng.dirichlet(np.full(6, 0.4), 5)
    evidence = (1.0 - DOUBT) * read / KNOWN.odds + DOUBT
    # the heads that differ from each in one property: bald has no colour of hair
    near = {0: (1, 2, 4), 1: (0, 3, 5), 2: (0, 3, 4), 3: (1, 2, 5), 4: (0, 2, 5), 5: (1, 3, 4)}
    expected, total = np.zeros(5), 0.0
    for ways in itertools.product((False, True), repeat=5):
        for head in range(6):
            others = list(near[head])
            odds = KNOWN.odds[others] / KNOWN.odds[others].sum()
            chance = KNOWN.odds[head]
            for image, strange in enumerate(ways):
                anybody = (KNOWN.odds * evidence[image]).sum()
                changed = (odds * evidence[image, others]).sum()
                own = (1.0 - STRANGERS) * evidence[image, head]
                chance *= STRANGERS * (anybody + changed) / 2 if strange else own
            expected += chance * np.array(ways)
            total += chance
    np.testing.assert_allclose(strangers(read, KNOWN), expected / total, rtol=1e-9)


def test_one_and_two_of_a_kind_are_found_and_nobody_else() -> None:
    crowd = [sure(0)] * 8
    assert outliers(strangers(np.stack(crowd), KNOWN)) == []
    assert outliers(strangers(np.stack([*crowd, sure(4)]), KNOWN)) == [8]
    assert outliers(strangers(np.stack([sure(4), *crowd, sure(4)]), KNOWN)) == [0, 9]


def test_what_a_picture_leaves_open_accuses_nobody() -> None:
    """From behind, glasses cannot be seen: the reading is the odds, and so is the chance."""
    behind = np.array([0.25, 0.1, 0, 0, 0, 0]) / 0.35
    read = np.stack([sure(1)] * 8 + [behind])
    chances = strangers(read, KNOWN)
    assert chances[8] < 2 * STRANGERS and outliers(chances) == []
    nothing = np.stack([sure(1)] * 8 + [KNOWN.odds])
    assert strangers(nothing, KNOWN)[8] == pytest.approx(STRANGERS, rel=0.01)


def test_too_few_or_too_many_are_not_judged() -> None:
    chances = np.zeros(MIN_JUDGED)
    chances[1] = CERTAIN
    assert outliers(chances) == [1]
    assert outliers(chances[:-1]) == []
    chances[2] = CERTAIN
    assert outliers(chances) == []  # a third of them: the reading is at fault


def test_the_difference_is_said_in_words() -> None:
    read = np.stack([sure(0)] * 6 + [sure(4), sure(3)])
    assert difference(read, 6, KNOWN) == "bald, the others short hair"
    assert difference(read, 7, KNOWN) == "red hair and glasses, the others black hair and no glasses"


def test_only_what_is_clearly_seen_is_said() -> None:
    """Glasses on a head whose colour of hair is open, among others whose glasses are: no colour is named."""
    open_colour = np.array([0.0, 0.5, 0.0, 0.5, 0.0, 0.0])
    assert difference(np.stack([sure(0)] * 7 + [open_colour]), 7, KNOWN) == "glasses, the others no glasses"
    barely = np.array([0.3, 0.0, 0.7, 0.0, 0.0, 0.0])  # red at 70 %
    assert difference(np.stack([sure(0)] * 7 + [barely]), 7, KNOWN).endswith("in what is not clear")
    nobody = np.stack([KNOWN.odds] * 7 + [sure(3)])  # of the others nothing is known
    assert difference(nobody, 7, KNOWN).endswith("in what is not clear")


def test_farthest_is_who_is_unlike_those_seen_from_the_same_side() -> None:
    front, back, other = np.eye(3)
    vectors = np.stack([front] * 6 + [back] * 4 + [back, other])
    angles: list[float | None] = [0.1] * 6 + [3.0] * 4 + [0.0, None]
    order = farthest(vectors, angles)
    assert set(order[:2]) == {10, 11} and sorted(order) == list(range(12))
    assert 10 not in farthest(vectors, [None] * 12)[:2]  # without views it is one of five
