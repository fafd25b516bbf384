"""What contradicts an invariant, and what only looks like it."""

from __future__ import annotations

import pytest

from training.curate.contradict import contradictions
from training.schema import Concept


def concept(*invariant: str, exceptions: tuple[str, ...] = (), kind: str = "character") -> Concept:
    return Concept.model_validate(
        {
            "trigger": "zorbik",
            "class": "woman",
            "kind": kind,
            "invariant": invariant,
            "exceptions": exceptions,
        }
    )


@pytest.mark.parametrize(
    ("caption", "invariant", "said"),
    [
        ("zorbik, long hair, standing", "bald", "long hair"),
        ("zorbik with a ponytail", "bald head", "ponytail"),
        ("a bald zorbik", "long black hair", "bald"),
        ("zorbik, short black hair", "long black hair", "short hair"),
        ("zorbik in a red vest", "green vest", "red vest"),
        ("zorbik, dark skin", "pale skin", "dark skin"),
        ("zorbik without glasses", "glasses", "without glasses"),
        ("zorbik clean-shaven", "brown beard", "clean-shaven"),
        ("zorbik, no green vest", "green vest", "no green vest"),
    ],
)
def test_a_contradiction_is_found(caption: str, invariant: str, said: str) -> None:
    assert contradictions(caption, concept(invariant)) == [(said, invariant)]


@pytest.mark.parametrize(
    ("caption", "invariant"),
    [
        ("zorbik standing, red light", "green vest"),
        ("zorbik, no hair", "bald"),
        ("zorbik in a red room, green vest", "green vest"),
        ("zorbik and a man, long hair, red vest", "bald"),
        ("zorbik and a woman with a red vest", "green vest"),
        ("zorbik, blonde hair", "blond hair"),
        ("zorbik, black car, red vestibule", "green vest"),
        ("zorbik at a hairdresser", "bald"),
        ("zorbik, cold film look", "glowing blue core"),
    ],
)
def test_no_false_alarm(caption: str, invariant: str) -> None:
    assert contradictions(caption, concept(invariant)) == []


def test_what_is_captioned_as_an_exception_is_meant() -> None:
    assert contradictions("zorbik, long hair", concept("bald", exceptions=("long hair",))) == []
    assert contradictions("zorbik, red hair", concept("bald", exceptions=("long hair",)))


def test_people_in_a_place_may_look_as_they_like() -> None:
    assert contradictions("long hair, in zorbik", concept("bald statue", kind="place")) == []
    assert contradictions("red wall, in zorbik", concept("teal wall", kind="place"))
