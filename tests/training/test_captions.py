from __future__ import annotations

import pytest

from training.captions import lint, names, tag_frequency, without_trigger


@pytest.mark.parametrize(
    ("caption", "phrase", "found"),
    [
        ("irisbot, a woman", "irisbot", True),
        ("IrisBot walks", "irisbot", True),
        ("irisbots walk", "irisbot", False),
        ("a steel  skull in light", "steel skull", True),
        ("stainless steel skullcap", "steel skull", False),
        ("c++ man", "c++", True),
    ],
)
def test_phrases_are_found_as_whole_words(caption: str, phrase: str, found: bool) -> None:
    assert names(caption, phrase) is found


def test_lint_tells_each_fault_once() -> None:
    def count(text: str) -> int:
        return len(text.split()) + 2

    good = "irisbot woman in the red room"
    assert lint(good, trigger="irisbot", invariant=["steel skull"], count_tokens=count, max_tokens=8) == []
    assert len(lint(good, trigger="irisbot", invariant=[], count_tokens=count, max_tokens=7)) == 1
    (fault,) = lint("a woman", trigger="irisbot", invariant=[])
    assert "trigger 'irisbot'" in fault
    (fault,) = lint("irisbot with a steel skull", trigger="irisbot", invariant=["steel skull", "mesh"])
    assert "'steel skull'" in fault
    (fault,) = lint("  ", trigger="irisbot", invariant=["x"])
    assert fault.startswith("empty caption")


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("irisbot woman in the hall", "woman in the hall"),
        ("closeup of irisbot, red light", "closeup of woman, red light"),
        ("Irisbot  woman and irisbot", "woman and woman"),
        ("a hall", "a hall"),
        ("a woman, IrisBot, red light", "a woman, red light"),
        ("hall, irisbot, red light", "hall, woman, red light"),
    ],
)
def test_the_trigger_becomes_the_class_word(caption: str, expected: str) -> None:
    assert without_trigger(caption, trigger="irisbot", class_word="woman") == expected


def test_a_class_word_is_text_not_a_pattern() -> None:
    assert without_trigger("irisbot stands", trigger="irisbot", class_word=r"\1 (x)") == r"\1 (x) stands"


def test_tags_are_counted_commonest_first() -> None:
    assert list(tag_frequency(["a, b", "b,c ,", "b"]).items()) == [("b", 3), ("a", 1), ("c", 1)]
