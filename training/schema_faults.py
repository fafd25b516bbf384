"""What is wrong with a dataset file, as one line in TOML's words that names `file:section.key`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

# For what pydantic says in the words of Python.
_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "string_type": "expected text in quotes",
        "bool_type": "expected true or false",
        "int_type": "expected a whole number",
        "float_type": "expected a number",
        "string_pattern_mismatch": "expected letters, digits, '_', '.' and '-', first a letter or digit",
    }
)


def one_line(path: Path, error: ValidationError, root: type[BaseModel]) -> str:
    """The first fault as `file:section.key: what, expected what`, with the number of further ones."""
    faults = error.errors(include_url=False)
    # a list with a faulty item is called too short as well
    inside = {fault["loc"][:length] for fault in faults for length in range(len(fault["loc"]))}
    faults = [each for each in faults if each["type"] != "too_short" or each["loc"] not in inside]
    # A mistyped key makes a missing one elsewhere; the mistyped one is the cause, so it is told first.
    faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    where = f"{path}:{_dotted(fault['loc'])}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    key = str(fault["loc"][-1]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'; {_suggestion(key, fault['loc'], root)}{more}"
    sections = _sections(root)
    if fault["type"] in ("missing", "too_short") and key in sections:
        return f"{where}: missing; add a section {sections[key]}{more}"
    if fault["type"] in ("tuple_type", "model_type") and key in sections:
        return f"{where}: cannot be read like this; write {sections[key]} above its keys{more}"
    if fault["type"] == "missing":
        return f"{where}: missing; add {key} = ...{more}"
    if fault["type"] == "value_error":
        return f"{where.rstrip(':')}: {fault['msg'].removeprefix('Value error, ')}{more}"
    found = repr(fault["input"])
    found = found if len(found) <= 60 else found[:57] + "..."
    if fault["type"] == "tuple_type":
        return f'{where}: {found} cannot be used: input should be a list, like {key} = ["...", "..."]{more}'
    reason = _EXPECTED.get(fault["type"]) or fault["msg"][:1].lower() + fault["msg"][1:]
    return f"{where}: {found} cannot be used: {reason}{more}"


def _dotted(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _suggestion(key: str, loc: tuple[int | str, ...], root: type[BaseModel]) -> str:
    keys = _keys_of(_section_model(loc, root))
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    elsewhere = [name for path, name in _places(root) if key in _keys_of(path)]
    if elsewhere and not close:
        return f"it belongs {' or '.join(elsewhere)}"
    return f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(keys)}"


def _sections(root: type[BaseModel]) -> dict[str, str]:
    """The keys that hold tables, as they are written: "train" is [train], "concept" is [[concept]]."""
    found = {}
    for name, field in root.model_fields.items():
        listed = any(_is_model(each) for each in get_args(field.annotation))
        if listed or _is_model(field.annotation):
            found[name] = f"[[{name}]]" if listed else f"[{name}]"
    return found


def _places(root: type[BaseModel]) -> list[tuple[type[BaseModel], str]]:
    """Every table of a file, and where its keys are written."""
    inside = [(_section_model((name, ""), root), f"under {text}") for name, text in _sections(root).items()]
    return [(root, "above all sections"), *inside]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _section_model(loc: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel]:
    model = root
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        annotation: Any = model.model_fields[part].annotation
        for candidate in (annotation, *get_args(annotation)):
            if _is_model(candidate):
                model = candidate
    return model


def _keys_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
