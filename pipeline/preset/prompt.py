"""Prompt templates: "photo of {hero}, {mood} light" with the variables of the preset's [vars] table."""

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
    try:
        parts = list(_FORMATTER.parse(template))
    except ValueError:
        raise PresetError(f"{where}: a lone brace in {template!r}; write {{{{ or }}}} instead") from None
    text = ""
    for literal, name, spec, conversion in parts:
        text += literal
        if name is None:
            continue
        if spec or conversion or name not in variables:
            raise PresetError(f"{where}: {_unknown(name, variables)}")
        text += str(variables[name])
    return text


def _unknown(name: str, variables: Mapping[str, str | int | float]) -> str:
    close = difflib.get_close_matches(name, list(variables), n=1)
    if close:
        return f"unknown variable {{{name}}}; did you mean {{{close[0]}}}?"
    return f"unknown variable {{{name}}}; [vars] has {', '.join(variables) or 'none'}"
