"""People keep their names while they move, cross and are lost for a while."""

from __future__ import annotations

import numpy as np

from pipeline.estimate.people import FORGOTTEN, follow


def person(x: float) -> np.ndarray:
    points = np.zeros((18, 3), np.float32)
    points[:, 0] = x + np.arange(18) % 3
    points[:, 1] = np.linspace(10, 90, 18)
    points[:, 2] = 2
    return points


def names(frames: list[list[np.ndarray]]) -> list[list[tuple[str, float]]]:
    stacked = [np.array(each, np.float32).reshape(-1, 18, 3) for each in frames]
    followed = follow(stacked, range(1, len(frames) + 1), diagonal=140.0)
    return [[(f.name, float(f.points[0, 0])) for f in frame.figures] for frame in followed]


def test_the_order_of_detection_does_not_matter() -> None:
    found = names([[person(20), person(60)], [person(57), person(24)], [person(54), person(28)]])
    assert found == [
        [("figure1", 20), ("figure2", 60)],
        [("figure1", 24), ("figure2", 57)],
        [("figure1", 28), ("figure2", 54)],
    ]


def test_who_is_missed_for_a_frame_comes_back_as_the_same() -> None:
    found = names([[person(20), person(60)], [person(61)], [person(62), person(21)]])
    assert found[1:] == [[("figure2", 61)], [("figure1", 21), ("figure2", 62)]]


def test_who_comes_from_elsewhere_or_after_long_is_new() -> None:
    assert names([[person(20)], [person(100)]])[1] == [("figure2", 100)]
    gone = names([[person(20)], *([[]] * (FORGOTTEN + 1)), [person(20)]])
    assert gone[-1] == [("figure2", 20)]


def test_joints_that_are_not_there_tell_nothing() -> None:
    hidden = person(20)
    hidden[:, 2] = 0
    assert names([[person(20)], [hidden]])[1] == [("figure2", 20)]
