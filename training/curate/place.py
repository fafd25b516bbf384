"""Where captions say the trigger, so that `lookdev dataset lint --fix` puts a missing one there too."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.captions import phrase_pattern
from training.schema import Concept

AGREED = 0.8  # share of the captions that name the trigger
MIN_SAID = 2  # captions that name it: one is no custom
_MARKS = ",;."
_ARTICLE = r"(?:(?:a|an|the)\s+)?"


@dataclass(frozen=True)
class Place:
    """Before the trigger stand these words, in lower case and without marks; or it stands last."""

    lead: tuple[str, ...] = ()
    mark: str = ""
    """What ends the lead: "," in "a woman, zorbik"."""
    is_last: bool = False
    with_class: bool = False
    """Whether the class follows at once: "zorbik woman"."""


FRONT = Place()


def common_place(captions: Sequence[str], concept: Concept) -> Place:
    """The trigger's place in the captions that name it, if `AGREED` of them have the same; else `FRONT`."""
    found = [place for caption in captions if (place := _place(caption, concept)) is not None]
    begins = Counter((each.lead, each.mark) for each in found)
    for beginning, count in begins.most_common(1):
        if _agree(count, found):
            fitting = [each for each in found if (each.lead, each.mark) == beginning]
            return Place(*beginning, with_class=_agree(sum(each.with_class for each in fitting), fitting))
    return Place(is_last=_agree(sum(each.is_last for each in found), found))


def _agree(count: int, found: Sequence[Place]) -> bool:
    return count >= max(MIN_SAID, AGREED * len(found))


def put(caption: str, concept: Concept, place: Place) -> str:
    """The caption with the trigger at a place; in front where it does not begin with the place's words."""
    if not caption:
        return concept.trigger
    if place.is_last:
        return f"{caption.rstrip(f' {_MARKS}')}, {concept.trigger}"
    words, length = caption.split(), len(place.lead)
    if tuple(map(_bare, words[:length])) != place.lead:
        words, length = caption.split(), 0
    lead = " ".join(words[:length]).rstrip(_MARKS) + place.mark if length else ""
    rest = " ".join(words[length:]).lstrip(f" {_MARKS}")
    before = f"{lead} " if lead else ""
    of_class = re.match(rf"{_ARTICLE}(?={phrase_pattern(concept.class_word)}(?!\w))", rest, re.IGNORECASE)
    if place.with_class and of_class is not None:
        return f"{before}{concept.trigger} {rest[of_class.end() :]}"
    return f"{before}{concept.trigger}, {rest}" if rest else f"{before}{concept.trigger}"


def _place(caption: str, concept: Concept) -> Place | None:
    """Where a caption first says the trigger."""
    match = re.search(rf"(?<!\w){phrase_pattern(concept.trigger)}(?!\w)", caption, re.IGNORECASE)
    if match is None:
        return None
    before, after = caption[: match.start()].strip(), caption[match.end() :]
    of_class = re.match(rf"\s+{phrase_pattern(concept.class_word)}(?!\w)", after, re.IGNORECASE)
    return Place(
        lead=tuple(map(_bare, before.split())),
        mark=before[-1:] if before[-1:] in _MARKS else "",
        is_last=not after[of_class.end() if of_class else 0 :].strip(f" {_MARKS}"),
        with_class=of_class is not None,
    )


def _bare(word: str) -> str:
    return word.lower().rstrip(_MARKS)
