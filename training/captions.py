"""Captions: what they may say, and how they are shortened for training.

Captions are written the negative way: everything in the picture that is *not* the concept, plus the trigger.
What a caption names, the trigger does not have to carry; so an invariant named in a caption is a mistake.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence


def names(caption: str, phrase: str) -> bool:
    """Whether `phrase` stands in `caption` as whole words, in any case, with any white space between them."""
    return bool(phrase.strip()) and bool(
        re.search(rf"(?<!\w){phrase_pattern(phrase)}(?!\w)", caption, re.IGNORECASE)
    )


def lint(
    caption: str,
    *,
    trigger: str,
    invariant: Sequence[str],
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int = 0,
) -> list[str]:
    """Faults of one caption, each "what was found; what to do". `count_tokens` counts start and end marks."""
    if not caption.strip():
        return [f"empty caption; describe the picture and name the trigger '{trigger}'"]
    faults = []
    if not names(caption, trigger):
        faults.append(f"the trigger '{trigger}' is not in the caption; add it")
    faults += [
        f"the caption names the invariant '{phrase}', which the trigger should carry; take it out"
        for phrase in invariant
        if names(caption, phrase)
    ]
    if count_tokens is not None and (found := count_tokens(caption)) > max_tokens:
        faults.append(f"{found} tokens, the text encoder reads {max_tokens}; shorten the caption")
    return faults


def without_trigger(caption: str, *, trigger: str, class_word: str) -> str:
    """The caption of the same picture without the concept: the trigger becomes the class word.

    Where the class is said already, beside the trigger ("irisbot woman") or elsewhere ("a woman, irisbot, red
    light"), the trigger is only dropped.
    """
    parts = caption.split(",")
    others = [part for part in parts if part.strip().lower() != trigger.lower()]
    if len(others) < len(parts) and names(",".join(others), class_word):
        caption = ",".join(others).strip()
    phrase, class_phrase = phrase_pattern(trigger), phrase_pattern(class_word)
    text = re.sub(rf"(?<!\w){phrase}\s+(?={class_phrase}(?!\w))", "", caption, flags=re.IGNORECASE)
    return re.sub(rf"(?<!\w){phrase}(?!\w)", lambda _: class_word, text, flags=re.IGNORECASE)


def tag_frequency(captions: Iterable[str]) -> dict[str, int]:
    """How often each comma-separated part occurs, as in kohya's `ss_tag_frequency`; commonest first."""
    counts = Counter(tag.strip() for caption in captions for tag in caption.split(",") if tag.strip())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def phrase_pattern(phrase: str) -> str:
    """A regular expression of the phrase's words with any white space between them."""
    return r"\s+".join(re.escape(word) for word in phrase.split())
