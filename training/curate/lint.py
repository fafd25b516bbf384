"""The caption checks: negative captioning made checkable.

Rules and what to do about each: docs/datasets.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from training.captions import names
from training.curate.contradict import contradictions
from training.curate.findings import Finding
from training.curate.scan import Folder, Still, scan
from training.curate.tokens import Tokens
from training.curate.words import COMMON_WORDS, SMALL_WORDS, SUBJECTS
from training.schema import Concept, DatasetFile

ABSORBED_SHARE = 0.8  # of captions: what nearly all say, the trigger learns instead of the words
MIN_CAPTIONS = 5  # with fewer, a share says nothing
_PHRASE_LENGTHS = range(3, 9)  # words of a phrase inside a longer sentence


def lint_dataset(path: Path, file: DatasetFile, *, tokens: Tokens | None) -> list[Finding]:
    """Every fault of the captions of the dataset file at `path`, errors first within each concept.

    `tokens` is the model's tokenizer; None leaves out the rules that need one (`too-long`, `known-token`).
    """
    findings: list[Finding] = []
    for index, folder in enumerate(scan(path, file)):
        own = [*folder.faults, *_lint_trigger(folder, tokens)]
        own += _shared_trigger(file, index, f"{folder.where}.trigger")
        for still in folder.captioned:
            own += _lint_caption(still, folder.concept, tokens)
        own += _absorbed(folder)
        findings += sorted(own, key=lambda finding: finding.level != "error")
    return findings


def _lint_trigger(folder: Folder, tokens: Tokens | None) -> Iterator[Finding]:
    trigger, where = folder.concept.trigger, f"{folder.where}.trigger"
    words = trigger.lower().split()
    if all(word in COMMON_WORDS or word in SUBJECTS for word in words):
        text = f"'{trigger}' is an everyday word, which brings its own pictures; choose a made-up word"
        yield Finding("warning", "common-trigger", where, text)
    elif trigger.lower() == folder.concept.class_word.lower():
        text = f"'{trigger}' is the class word too, so the class itself is overwritten; choose a made-up word"
        yield Finding("warning", "common-trigger", where, text)
    elif tokens is not None and tokens.is_one_token(trigger):
        text = f"'{trigger}' is one token, so the model has seen it with other pictures; choose a rarer word"
        yield Finding("warning", "known-token", where, text)


def _shared_trigger(file: DatasetFile, index: int, where: str) -> Iterator[Finding]:
    for inner in (j for i, j in file.shared_triggers if i == index):
        text = (
            f"'{file.concept[index].trigger}' says the trigger '{file.concept[inner].trigger}' of "
            f"concept[{inner + 1}] too, so its images teach both; choose words that the two do not share"
        )
        yield Finding("warning", "shared-trigger", where, text)


def _lint_caption(still: Still, concept: Concept, tokens: Tokens | None) -> Iterator[Finding]:
    caption, where = still.caption, str(still.caption_path)
    if not names(caption, concept.trigger):
        text = f"the trigger '{concept.trigger}' is not in the caption; add it"
        yield Finding("error", "no-trigger", where, text)
    for phrase in concept.invariant:
        if names(caption, phrase):
            text = f"names the invariant '{phrase}', which the trigger should carry; take it out"
            yield Finding("error", "invariant", where, text)
    for said, invariant in contradictions(caption, concept):
        text = (
            f"'{said}' contradicts the invariant '{invariant}'; drop the image, or list '{said}' in "
            "exceptions if it is meant"
        )
        yield Finding("error", "contradiction", where, text)
    if tokens is not None and (found := tokens.count(caption)) > tokens.max_tokens:
        text = f"{found} tokens, the text encoder reads {tokens.max_tokens}; shorten the caption"
        yield Finding("error", "too-long", where, text)


def _absorbed(folder: Folder) -> Iterator[Finding]:
    """Fragments that nearly all captions share: nothing tells them apart from the trigger."""
    captions = [still.caption for still in folder.captioned]
    if len(captions) < MIN_CAPTIONS:
        return
    counts = Counter(fragment for caption in captions for fragment in set(fragments(caption)))
    common = [
        fragment
        for fragment, count in counts.items()
        if count >= ABSORBED_SHARE * len(captions) and not _is_bare(fragment, folder.concept)
    ]
    for fragment in sorted(common, key=lambda text: (-len(text), text)):
        if any(fragment != longer and names(longer, fragment) for longer in common):
            continue
        text = (
            f"'{fragment}' is in {counts[fragment]} of {len(captions)} captions, so the trigger absorbs it; "
            "add images without it, or list it as invariant if it belongs to the concept"
        )
        yield Finding("warning", "absorbed", folder.where, text)


def fragments(caption: str) -> Iterator[str]:
    """The comma-separated parts of a caption, and phrases of 3 to 8 words inside them; lower case."""
    for part in re.split(r"[,;.]", caption.lower()):
        words = part.split()
        if words:
            yield " ".join(words)
        for length in _PHRASE_LENGTHS:
            for start in range(len(words) - length + 1):
                phrase = words[start : start + length]
                if phrase != words and sum(word not in SMALL_WORDS for word in phrase) > 1:
                    yield " ".join(phrase)


def _is_bare(fragment: str, concept: Concept) -> bool:
    """Whether a fragment says only who or what it is of: the trigger, the class, "a person"."""
    if names(fragment, concept.trigger):
        fragment = re.sub(re.escape(concept.trigger), "", fragment, flags=re.IGNORECASE)
    if names(fragment, concept.class_word):
        fragment = re.sub(re.escape(concept.class_word), "", fragment, flags=re.IGNORECASE)
    return all(word in SMALL_WORDS or word in SUBJECTS for word in re.findall(r"[\w'-]+", fragment))
