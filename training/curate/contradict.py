"""Captions that contradict what the trigger stands for: "long hair" of someone whose invariant is "bald"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from training.captions import names
from training.curate.words import MODIFIERS, PRESENCE, SAME_WORD
from training.schema import Concept

_REACH = 3  # words before a noun that can belong to it
_OTHER_PEOPLE = r"\band (?=(?:a|an|another|two|three|several) (?:{people})\b)"
_NEGATION = re.compile(r"\b(?:no|without|not)\s+(?:\w+\s+)?$", re.IGNORECASE)


def contradictions(caption: str, concept: Concept) -> list[tuple[str, str]]:
    """(what the caption says, the invariant that it contradicts), each once.

    Only what is said of the concept counts, not of another person ("..., and a man, ..."). Phrases listed in
    `exceptions` are meant and do not count.
    """
    text = _about_the_concept(caption, concept)
    for phrase in concept.exceptions:
        text = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", text, flags=re.IGNORECASE)
    found: dict[tuple[str, str], None] = {}
    for invariant in concept.invariant:
        said = _other_modifier(text, invariant) or _denied(text, invariant)
        if said is None and concept.kind == "character":
            said = _other_presence(text, invariant)
        if said is not None:
            found[said, invariant] = None
    return list(found)


def _about_the_concept(caption: str, concept: Concept) -> str:
    words = ["person", "man", "woman", "boy", "girl", "child", "people", "men", "women", concept.class_word]
    people = "|".join(re.escape(word) for word in words)
    parts = re.split(_OTHER_PEOPLE.format(people=people), caption, flags=re.IGNORECASE)
    own = [part for part in parts if names(part, concept.trigger)]
    return " ".join(own or parts[:1])


def _other_presence(text: str, invariant: str) -> str | None:
    """The caption's phrase for a thing that the invariant says is not there, or the other way round."""
    for there, absent in PRESENCE.values():
        if any(names(invariant, phrase) for phrase in absent):
            said = _affirmed(text, there)
        elif _affirmed(invariant, there):
            said = next((phrase for phrase in absent if names(text, phrase)), None)
        else:
            continue
        if said is not None:
            return said
    return None


def _affirmed(text: str, phrases: Sequence[str]) -> str | None:
    """The first of the phrases, with the words before it, that the text says without a "no" or "without"."""
    for phrase in phrases:
        for match in re.finditer(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE):
            before = text[: match.start()]
            if not _NEGATION.search(before):
                close = re.split(r"[,;.]", before)[-1].split()[-2:]
                return " ".join([*(word for word in close if _family(word)), phrase])
    return None


def _denied(text: str, invariant: str) -> str | None:
    """ "no beard", "without glasses" where the invariant names it."""
    noun = _words(invariant)[-1] if _words(invariant) else ""
    match = noun and re.search(rf"\b(no|without)\s+(?:\w+\s+)?{re.escape(noun)}(?!\w)", text, re.IGNORECASE)
    return match[0] if match else None


def _other_modifier(text: str, invariant: str) -> str | None:
    """The invariant's noun with another word of the same family: "red vest" for "green vest"."""
    *before, noun = _words(invariant) or [""]
    own = {_family(word): SAME_WORD.get(word, word) for word in before if _family(word)}
    if not own:
        return None
    for part in re.split(r"[,;.]", text):
        words = _words(part)
        for index in (i for i, word in enumerate(words) if word == noun):
            for word in words[max(0, index - _REACH) : index]:
                family = _family(word)
                if family in own and SAME_WORD.get(word, word) != own[family]:
                    return f"{word} {noun}"
    return None


def _family(word: str) -> str | None:
    return next((name for name, words in MODIFIERS.items() if word.lower() in words), None)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())
