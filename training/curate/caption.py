"""Captions for images that have none, from what is known of them; invariants stay out, the trigger goes in.

What only an eye can tell (action, place) is not guessed: a template may say it in words, the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.files import write_text
from training.captions import lint
from training.curate.measure import measure
from training.curate.scan import scan
from training.curate.views import look, read_known
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


def propose_captions(path: Path, file: DatasetFile, *, template: str = DEFAULT_TEMPLATE) -> list[Proposal]:
    """Captions for the images of the dataset file at `path` whose caption file is missing.

    `template` is comma-separated; {class}, {trigger}, {framing}, {view} and {light} are replaced, and a part
    whose fact is not known is left out. Raises `DatasetError`: an unknown field, no {trigger}, an unreadable
    image, or a caption that would name an invariant.
    """
    proposals = []
    for folder in scan(path, file):
        known = read_known(folder.path)
        for still in folder.stills:
            if still.caption_path.exists():
                continue
            seen = look(still.path.stem, "", known, trigger=folder.concept.trigger)
            level, tint = measure(read_picture(still.path).pixels).light.split()
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
            proposals.append(Proposal(still.caption_path, caption))
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


def _check(caption: str, concept: Concept, path: Path) -> None:
    faults = lint(caption, trigger=concept.trigger, invariant=concept.invariant)
    if faults:
        raise DatasetError(f"{path}: '{caption}': {faults[0]}; change --template")
