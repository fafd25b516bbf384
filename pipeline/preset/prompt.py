"""Prompt templates: "photo of {hero}, {view}, {mood} light", filled from the preset and the frame."""

from __future__ import annotations

import difflib
import string
from collections.abc import Mapping

from pipeline.errors import PresetError

_FORMATTER = string.Formatter()


def fill(template: str, variables: Mapping[str, str | int | float], *, where: str) -> str:
    """The template with each `{name}` replaced; `{{` and `}}` are plain braces.

    `where` is "file:key", for the message. A variable's value is inserted as it is, never read as a template.
    Raises PresetError for an unknown variable and for a lone brace.
    """
    text = ""
    for literal, name, spec, conversion in _parts(template, where):
        text += literal
        if name is None:
            continue
        if spec or conversion or name not in variables:
            raise PresetError(f"{where}: {_unknown(name, variables)}")
        text += str(variables[name])
    return text


def names_in(template: str, *, where: str) -> set[str]:
    """The variables that a template uses. Raises PresetError for a lone brace."""
    return {name for _, name, _, _ in _parts(template, where) if name is not None}


def _parts(template: str, where: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(_FORMATTER.parse(template))
    except ValueError:
        raise PresetError(f"{where}: a lone brace in {template!r}; write {{{{ or }}}} instead") from None


def _unknown(name: str, variables: Mapping[str, str | int | float]) -> str:
    close = difflib.get_close_matches(name, list(variables), n=1)
    if close:
        return f"unknown variable {{{name}}}; did you mean {{{close[0]}}}?"
    return f"unknown variable {{{name}}}; there are: {', '.join(variables) or 'none'}"
