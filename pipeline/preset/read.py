"""Read a preset: its files into the strict schema, with one-line errors that name `file:section.key`."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import PresetError
from pipeline.preset.beats import steady_looks
from pipeline.preset.chain import FILE_KEYS, did_you_mean, find_preset, override, read_chain
from pipeline.preset.origin import Location, Origins
from pipeline.preset.schema import Preset

DEFAULT_PRESET = "mini_film"
PICTURES_PRESET = "mini_video"  # for a shot without the renderer's passes


def load_preset(name_or_path: str | Path, *, overrides: Sequence[str] = ()) -> Preset:
    """Read and check one preset; `overrides` are "key=value" or "section.key=value" as given to `--set`.

    What it extends is merged in. Paths of LoRAs, embeddings and ControlNets come back absolute (relative
    ones count from the folder of the file that names them). Prompt templates and beats are tried once, so
    that an unknown variable fails here. Raises PresetError, one line.
    """
    path = find_preset(name_or_path)
    data, origins, files = read_chain(path)
    for text in overrides:
        override(data, origins, text)
    frozen = _frozen(data)
    try:
        preset = Preset.model_validate(frozen, context={"folder": path.parent.resolve()})
    except ValidationError as error:
        raise PresetError(_one_line(origins, error, frozen)) from None
    preset._source, preset._origins, preset._files = path, origins, files
    steady_looks(preset)
    return preset


def _frozen(value: Any) -> Any:
    """Lists as tuples: strict pydantic takes only a tuple where the schema says tuple."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value


def _one_line(origins: Origins, error: ValidationError, data: Any) -> str:
    """The first problem as one line, unknown keys first: a misspelt key often causes the others."""
    by_place: dict[Location, list[Any]] = {}
    for problem in sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden"):
        by_place.setdefault(_written(problem["loc"], data), []).append(problem)
    location, problems = next(iter(by_place.items()))
    reasons = dict.fromkeys(_reason(problem, location) for problem in problems)
    reason, *others = reasons  # several where a value may be of several types
    also = "".join(
        f" or {other.partition('it should be ')[2]}" for other in others if "it should be " in other
    )
    more = f" (and {len(by_place) - 1} more)" if len(by_place) > 1 else ""
    return f"{origins.find(location)}: {reason}{also}{more}"


def _written(location: Location, data: Any) -> Location:
    """The part of a location that is keys and numbers of lists, not pydantic's names of types."""
    for depth, part in enumerate(location):
        inside = dict(enumerate(data)) if isinstance(data, tuple) else data
        if not isinstance(inside, dict) or part not in inside:
            is_missing_key = isinstance(data, dict) and depth == len(location) - 1
            return location[: depth + is_missing_key]
        data = inside[part]
    return location


_SHOULD = "it should be "
# For what pydantic says in the words of Python.
_EXPECTED = {
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "is_instance_of": "a path in quotes",
    "string_type": "text in quotes",
}


def _reason(problem: Any, location: Location) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = _keys_at(Preset, location[:-1])
        guesses = [*known, *FILE_KEYS] if len(location) == 1 else known
        return f"unknown key '{location[-1]}'" + (
            did_you_mean(str(location[-1]), guesses) or f"; known keys: {', '.join(known)}"
        )
    if kind == "missing":
        in_list = isinstance(problem["loc"][-1], int)
        film = ", or extend a film's preset" if len(location) == 1 else ""
        return "it has too few items" if in_list else f"this key is missing and must be given{film}"
    if kind == "too_long":
        return f"it has {problem['ctx']['actual_length']} items, more than {problem['ctx']['max_length']}"
    if kind == "tuple_type" and isinstance(problem["input"], dict):
        name = ".".join(part for part in location if isinstance(part, str))
        return f"found a table; {_SHOULD}a list: write [[{name}]]"
    if kind in _EXPECTED:
        found = "" if isinstance(problem["input"], dict | tuple) else f"found {problem['input']!r}; "
        return f"{found}{_SHOULD}{_EXPECTED[kind]}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    expected = message[0].lower() + message[1:]
    if kind == "value_error" or isinstance(problem["input"], dict | tuple):
        return expected
    return f"found {problem['input']!r}; {expected.replace('input should', 'it should')}"


def _keys_at(schema: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that are legal in the table at `location`."""
    for part in location:
        if isinstance(part, str) and part in schema.model_fields:
            schema = _table_of(schema.model_fields[part].annotation) or schema
    return list(schema.model_fields)


def _table_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in typing.get_args(annotation):
        found = _table_of(argument)
        if found:
            return found
    return None
