"""Captions for images that have none, from what is known of them; invariants stay out, the trigger goes in.

What only an eye can tell (action, place) is not guessed: a template may say it in words, the same for all, or
a captioning model says it (`describe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from pipeline.errors import DatasetError
from pipeline.files import write_text
from training.captions import lint
from training.curate.describe import Describe, adapt, merged
from training.curate.detect import Detect
from training.curate.measure import measure
from training.curate.scan import scan
from training.curate.tokens import Tokens
from training.curate.views import joints_of, look, read_known
from training.folders import raise_first
from training.pictures import read_picture
from training.schema import Concept, DatasetFile

FIELDS = ("class", "trigger", "framing", "view", "light")
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
    image, a caption that would name an invariant, or a folder with other faults than missing captions.
    """
    fields = _fields(template)
    proposals = []
    folders = scan(path, file)
    raise_first(
        [
            f"{fault.where}: {fault.text}"
            for folder in folders
            for fault in folder.faults
            if fault.rule != "no-caption"
        ]
    )
    for folder in folders:
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
            caption = _fill(fields, facts)
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


def _fields(template: str) -> list[tuple[str, list[str]]]:
    """The comma-separated parts of a template, each with the fields that it names. Raises `DatasetError`."""
    known = ", ".join(f"{{{name}}}" for name in FIELDS)
    if not template.strip():
        raise DatasetError(f"--template '': is empty; fields: {known}")
    parts = []
    for part in template.split(","):
        try:
            found = [(name, how, kind) for _, name, how, kind in Formatter().parse(part) if name is not None]
        except ValueError:
            raise DatasetError(
                f"--template '{template}': a brace without the other one; fields: {known}"
            ) from None
        for name, how, kind in found:
            if name not in FIELDS or how or kind:
                odd = name + (f"!{kind}" if kind else "") + (f":{how}" if how else "")
                raise DatasetError(f"--template '{template}': {{{odd}}} is unknown; fields: {known}")
        parts.append((part, [name for name, _, _ in found]))
    return parts


def _fill(template: Sequence[tuple[str, Sequence[str]]], facts: Mapping[str, str]) -> str:
    filled = (part.format(**facts).strip() for part, names in template if all(facts[name] for name in names))
    return ", ".join(part for part in filled if part)


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
