import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import ModelError
from pipeline.models.prompt_syntax import parse_prompt


def parsed(text: str) -> list[list[tuple[str, float]]]:
    return [[(piece, pytest.approx(weight)) for piece, weight in part] for part in parse_prompt(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the examples of A1111's own docstring
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
        ("((a))", [("a", 1.21)]),
        ("[a]", [("a", 1 / 1.1)]),
        ("[[a] b", [("a", 1 / 1.21), (" b", 1 / 1.1)]),
        ("(a:1.3)", [("a", 1.3)]),
        ("(a: 1.3 )", [("a", 1.3)]),
        ("(a:.5)", [("a", 0.5)]),
        ("(a:-1)", [("a", -1.0)]),
        ("(a:+2.)", [("a", 2.0)]),
        ("(a:b:1.3)", [("a:b", 1.3)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),  # A1111 stops here with a traceback
        ("[a:1.3]", [("a:1.3", 1 / 1.1)]),
        ("a:1.3)", [("a:1.3)", 1.0)]),
        ("a) b]", [("a) b]", 1.0)]),
        ("(a [b:1.5) c]", [("a ", 1.5), ("b", 1.5 / 1.1), (" c", 1 / 1.1)]),
        (r"a \\ b", [("a \\ b", 1.0)]),
        (r"a \b", [("a b", 1.0)]),
        (r"\(a:1.3)", [("(a:1.3)", 1.0)]),
        ("(a\\)b:1.2)", [("a)b", 1.2)]),
        ("10:30, (dusk)", [("10:30, ", 1.0), ("dusk", 1.1)]),
        (f"(a:{'9' * 400})", [(f"a:{'9' * 400})", 1.1)]),  # no finite number
        ("", []),
        ("()", []),
    ],
)
def test_weights_as_a1111_reads_them(text: str, expected: list[tuple[str, float]]) -> None:
    assert parsed(text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a BREAK b", [[("a", 1.0)], [("b", 1.0)]]),
        ("a  BREAK\n(b)", [[("a", 1.0)], [("b", 1.1)]]),
        ("BREAK a", [[], [("a", 1.0)]]),
        ("a BREAK", [[("a", 1.0)], []]),
        ("a BREAK BREAK b", [[("a", 1.0)], [], [("b", 1.0)]]),
        ("(a BREAK b:1.3) c", [[("a", 1.3)], [("b", 1.3), (" c", 1.0)]]),
        ("(a BREAK b", [[("a", 1.1)], [("b", 1.1)]]),
        ("BREAKfast, break, OUTBREAK", [[("BREAKfast, break, OUTBREAK", 1.0)]]),
    ],
)
def test_break_parts_a_prompt(text: str, expected: list[list[tuple[str, float]]]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("a man <lora:iris:0.8>", r"prompt has <lora:iris:0.8>: .* write a \[\[lora\]\] table"),
        ("(<LORA:iris>:1.2)", r"\[\[lora\]\]"),
        ("<lyco:x:1>", r"\[\[lora\]\]"),
        ("<hypernet:anime:1> a", r"<hypernet:anime:1>: hypernetworks are not supported"),
    ],
)
def test_extra_networks_are_one_line(text: str, advice: str) -> None:
    with pytest.raises(ModelError, match=advice) as caught:
        parse_prompt(text)
    assert "\n" not in str(caught.value)


plain = st.text(st.characters(exclude_characters="\\()[]", exclude_categories=["Cs"])).filter(
    lambda text: "BREAK" not in text and not re.search("lora|lyco|hypernet", text, re.IGNORECASE)
)


@given(plain)
def test_text_without_brackets_is_unchanged(text: str) -> None:
    assert parse_prompt(text) == (((text, 1.0),) if text else (),)


@given(plain.filter(lambda text: text and ":" not in text), st.lists(st.sampled_from("([n")))
def test_weights_multiply(text: str, brackets: list[str]) -> None:
    weight, wrapped = 1.0, text
    for bracket in brackets:
        before, after, factor = {"(": ("(", ")", 1.1), "[": ("[", "]", 1 / 1.1), "n": ("(", ":0.7)", 0.7)}[
            bracket
        ]
        wrapped, weight = before + wrapped + after, weight * factor
    assert parse_prompt(wrapped) == (((text, pytest.approx(weight)),),)


@given(plain)
def test_escaped_text_is_itself(text: str) -> None:
    odd = f"{text}(a:1.2)[b]\\{text}"
    escaped = re.sub(r"[\\()\[\]]", r"\\\g<0>", odd)
    assert parse_prompt(escaped) == (((odd, 1.0),),)


@given(st.text(st.sampled_from("ab ()[]\\:.,+-19BREAK\n<>")) | st.text())
@example("(" * 200 + "a" + "]" * 300)
def test_no_text_raises(text: str) -> None:
    for part in parse_prompt(text.replace("<", "")):
        assert all(segment.text for segment in part)
        assert all(a.weight != b.weight for a, b in itertools.pairwise(part))
