"""Captions for images that have none, from what is known of them; invariants stay out, the trigger goes in.

What only an eye can tell (action, place) is not guessed: a template may say it in words, the same for all, or
a captioning model says it (`describe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.files import write_text
from training.captions import lint
from training.curate.describe import Describe, adapt, merged
from training.curate.detect import Detect
from training.curate.measure import measure
from training.curate.scan import scan
from training.curate.tokens import Tokens
from training.curate.views import joints_of, look, read_known
from training.pictures import read_picture
from training.schema import Concept, DatasetFile

DEFAULT_TEMPLATE = "{class}, {trigger}, {framing}, {view}, {light}"
_FRAMING_WORDS = {"closeup": "closeup", "medium": "medium shot", "full": "full shot"}
_LEVELS = {"dark": "dark", "mid": "", "bright": "bright"}
_TINTS = {"neutral": "", "warm": "warm", "cool": "cold blue", "green": "green", "red": "red"}


@dataclass(frozen=True)
class Proposal:
    """A caption file that is not there yet, and what it would say."""

    path: Path
    caption: str
    notes: tuple[str, ...] = ()
    """What a captioning model said that was left out, and why."""


def propose_captions(
    path: Path,
    file: DatasetFile,
    *,
    template: str = DEFAULT_TEMPLATE,
    describe: Describe | None = None,
    detect: Detect | None = None,
    tokens: Tokens | None = None,
) -> list[Proposal]:
    """Captions for the images of the dataset file at `path` whose caption file is missing.

    `template` is comma-separated; {class}, {trigger}, {framing}, {view} and {light} are replaced, and a part
    whose fact is not known is left out. `describe` is a captioning model: its words stand behind the
    template's, without who it is and without invariants, as many as `tokens` leave room for. `detect` finds
    the joints of images that have none. Raises `DatasetError`: an unknown field, no {trigger}, an unreadable
    image, or a caption that would name an invariant.
    """
    proposals = []
    for folder in scan(path, file):
        known = read_known(folder.path)
        for still in folder.stills:
            if still.caption_path.exists():
                continue
            picture = read_picture(still.path).pixels
            own = joints_of(still.path, known, (picture.shape[1], picture.shape[0]))
            seen = look(still.path.stem, "", own, trigger=folder.concept.trigger)
            if seen.figure is None and detect is not None and folder.concept.kind == "character":
                trigger = folder.concept.trigger
                seen = look(still.path.stem, "", own, trigger=trigger, detected=detect(picture))
            level, tint = measure(picture).light.split()
            light = " ".join(word for word in (_LEVELS[level], _TINTS[tint]) if word)
            facts = {
                "class": f"a {folder.concept.class_word}",
                "trigger": folder.concept.trigger,
                "framing": _FRAMING_WORDS.get(seen.framing or "", ""),
                "view": f"{seen.view.split()[0]} view" if seen.view else "",
                "light": f"{light} light" if light else "",
            }
            caption = _fill(template, facts)
            _check(caption, folder.concept, still.caption_path)
            notes: tuple[str, ...] = ()
            if describe is not None:
                description = adapt(describe(picture), folder.concept)
                caption = _fitting(merged(caption, description, folder.concept), tokens)
                notes = description.notes
            proposals.append(Proposal(still.caption_path, caption, notes))
    return proposals


def write_captions(proposals: Sequence[Proposal]) -> None:
    """Write the caption files. Raises `OutputError`."""
    for proposal in proposals:
        write_text(proposal.path, proposal.caption + "\n")


def _fill(template: str, facts: Mapping[str, str]) -> str:
    parts = []
    for part in template.split(","):
        try:
            empty = [name for name, fact in facts.items() if not fact and f"{{{name}}}" in part]
            filled = part.format(**facts).strip()
        except (KeyError, IndexError, ValueError) as error:
            fields = ", ".join(f"{{{name}}}" for name in facts)
            raise DatasetError(f"--template '{template}': {error} is unknown; fields: {fields}") from None
        if filled and not empty:
            parts.append(filled)
    return ", ".join(parts)


def _fitting(caption: str, tokens: Tokens | None) -> str:
    """The caption without the last words that the text encoder would not read."""
    words = caption.split()
    while tokens is not None and len(words) > 1 and tokens.count(" ".join(words)) > tokens.max_tokens:
        words.pop()
    return " ".join(words).rstrip(",")


def _check(caption: str, concept: Concept, path: Path) -> None:
    faults = lint(caption, trigger=concept.trigger, invariant=concept.invariant)
    if faults:
        raise DatasetError(f"{path}: '{caption}': {faults[0]}; change --template")
