r"""A1111's prompt weighting: text -> segments with weights. No torch here.

    (a)  weight 1.1         ((a))  1.21          (a:1.3)  1.3         [a]  1 / 1.1
    \( \) \[ \] \\  the plain character          BREAK  the rest starts a new chunk

Brackets nest and weights multiply. As in A1111 a bracket that is never closed holds to the end of the text,
a closing one without its opening one is plain text, `[a:1.3]` is no weight (the colon is text), a lone
backslash is dropped. Other than in A1111, BREAK works inside brackets too. Prompt editing (`[a:b:0.5]`) and
AND are not read: beats do that here.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from pipeline.errors import ModelError

ROUND = 1.1  # what one pair of round brackets multiplies by; square ones divide
_TOKEN = re.compile(
    r"""
    \\(?P<escaped>[\\()\[\]])
  | (?P<backslash>\\)
  | (?P<open>[(\[])
  | :\s*(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*\)
  | (?P<close>[)\]])
  | (?P<text>[^\\()\[\]:]+|:)
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_EXTRA = re.compile(r"<\s*(lora|lyco|hypernet)\s*:[^<>]*>?", re.IGNORECASE)
_OPENS = {")": "(", "]": "["}


class Segment(NamedTuple):
    """A piece of a prompt and how much its tokens weigh."""

    text: str
    weight: float


def parse_prompt(text: str) -> tuple[tuple[Segment, ...], ...]:
    """The parts of a prompt between BREAKs, at least one, each a run of segments (none for an empty part).

    Neighbours in a part differ in weight. Text without brackets, backslashes and BREAK is one segment of
    weight 1, unchanged. Raises ModelError for `<lora:...>` and `<hypernet:...>`, and for nothing else.
    """
    refuse_extra_networks(text)
    parts: list[list[Segment]] = [[]]
    opened: list[tuple[str, int, int]] = []  # bracket, and where it stands: part, segment
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        if kind == "escaped":
            parts[-1].append(Segment(match["escaped"], 1.0))
        elif kind == "open":
            opened.append((token, len(parts) - 1, len(parts[-1])))
        elif kind == "number":
            weight = float(match["number"])
            if not (math.isfinite(weight) and _close(parts, opened, "(", weight)):
                _append(parts, token)
        elif kind == "close":
            if not _close(parts, opened, _OPENS[token], ROUND if token == ")" else 1.0 / ROUND):
                _append(parts, token)
        elif kind == "text":
            _append(parts, token)
    for bracket, part, segment in opened:
        _multiply(parts, part, segment, ROUND if bracket == "(" else 1.0 / ROUND)
    return tuple(_merged(part) for part in parts)


def refuse_extra_networks(text: str) -> None:
    """Raise ModelError where a prompt has A1111's `<lora:name:0.8>` or `<hypernet:name:1>`."""
    found = _EXTRA.search(text)
    if found is None:
        return
    if found[1].lower() == "hypernet":
        raise ModelError(f"prompt has {found[0]}: hypernetworks are not supported; take it out of the prompt")
    raise ModelError(
        f"prompt has {found[0]}: LoRAs are not read from prompts; write a [[lora]] table with its path "
        "and weight"
    )


def _append(parts: list[list[Segment]], text: str) -> None:
    """Plain text, parted at BREAK."""
    first, *rest = _BREAK.split(text)
    parts[-1].append(Segment(first, 1.0))
    parts.extend([Segment(piece, 1.0)] for piece in rest)


def _close(
    parts: list[list[Segment]], opened: list[tuple[str, int, int]], bracket: str, weight: float
) -> bool:
    """Weigh what came after the last open bracket of this kind; False where there is none."""
    for index in range(len(opened) - 1, -1, -1):
        if opened[index][0] == bracket:
            _, part, segment = opened.pop(index)
            _multiply(parts, part, segment, weight)
            return True
    return False


def _multiply(parts: list[list[Segment]], part: int, segment: int, weight: float) -> None:
    for number in range(part, len(parts)):
        start = segment if number == part else 0
        parts[number][start:] = [Segment(text, w * weight) for text, w in parts[number][start:]]


def _merged(part: list[Segment]) -> tuple[Segment, ...]:
    """Neighbours of one weight as one segment; empty ones left out."""
    merged: list[Segment] = []
    for segment in part:
        if not segment.text:
            continue
        if merged and merged[-1].weight == segment.weight:
            segment = Segment(merged.pop().text + segment.text, segment.weight)
        merged.append(segment)
    return tuple(merged)
