"""What `lookdev dataset lint --fix` would write: captions with the trigger in and the invariants out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import write_text
from training.captions import names, phrase_pattern
from training.curate.place import FRONT, Place, common_place, put
from training.curate.scan import Folder
from training.curate.words import SMALL_WORDS
from training.schema import Concept

_LEADING = r"(?:(?:with|wearing|has|having|and|in)\s+)?(?:(?:a|an|the|his|her|their)\s+)?"
_KEPT_ENDINGS = SMALL_WORDS - {"up", "off", "under", "behind"}  # "looking up" ends well, "with a" does not


@dataclass(frozen=True)
class Change:
    """One caption file, as it is and as it would be."""

    path: Path
    before: str
    after: str

    def diff(self) -> str:
        """A unified diff of the file's one line."""
        lines = difflib.unified_diff(
            [self.before + "\n"], [self.after + "\n"], str(self.path), f"{self.path} (fixed)"
        )
        return "".join(lines)


def propose(folders: Sequence[Folder]) -> list[Change]:
    """The captions that can be mended by words alone. What needs an eye on the picture stays."""
    changes = []
    for folder in folders:
        plain = [_plain(still.caption, folder.concept) for still in folder.captioned]
        place = common_place(plain, folder.concept)
        for still in folder.captioned:
            mended = mend(still.caption, folder.concept, place)
            if mended != still.caption:
                changes.append(Change(still.caption_path, still.caption, mended))
    return changes


def mend(caption: str, concept: Concept, place: Place = FRONT) -> str:
    """The caption without the concept's invariants and with its trigger, at `place` if it was not there."""
    caption = _plain(caption, concept)
    if not names(caption, concept.trigger):
        caption = put(caption, concept, place)
    return caption


def _plain(caption: str, concept: Concept) -> str:
    """The caption without the concept's invariants."""
    for phrase in concept.invariant:
        caption = without(caption, phrase)
    return caption


def apply(changes: Sequence[Change]) -> None:
    """Write the captions. Raises `OutputError`."""
    for change in changes:
        write_text(change.path, change.after + "\n")


def without(caption: str, phrase: str) -> str:
    """The caption without a phrase, its article and its "with" or "wearing"; empty parts are dropped."""
    if not names(caption, phrase):
        return caption
    pattern = rf"(?<!\w){_LEADING}{phrase_pattern(phrase)}(?!\w)"
    parts = []
    for part in caption.split(","):
        if names(part, phrase):
            part = re.sub(pattern, " ", part, flags=re.IGNORECASE)
            words = part.split()
            while words and words[-1].lower() in _KEPT_ENDINGS:
                words.pop()
            part = " ".join(words)
        if part.strip():
            parts.append(part.strip())
    return ", ".join(parts)
