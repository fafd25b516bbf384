"""A preset shown whole: every key as TOML with where it came from, and the JSON Schema for editors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.preset.chain import FILE_KEYS, LISTS
from pipeline.preset.origin import Location, Origin
from pipeline.preset.schema import Preset
from pipeline.preset.speed import set_by_speed

_COMMENT_COLUMN = 44


def as_toml(preset: Preset) -> str:
    """The resolved preset as a TOML file that extends nothing; keys that a file or --set gave say which.

    What its speed sets stands in comments.
    """
    lines = [f"# {file}" for file in preset.files]
    return "\n".join([*lines, *_table(preset, preset.model_dump(exclude_none=True), ())]) + "\n"


def _table(preset: Preset, table: Mapping[str, Any], location: Location) -> Iterator[str]:
    """A table's plain keys first, then its tables and lists of tables, as TOML wants them."""
    inner = {key: value for key, value in table.items() if _is_inner(value)}
    by_speed = {} if location else set_by_speed(preset)
    for key, value in table.items():
        if key not in inner and key not in by_speed:
            line = f"{_key(key)} = {_value(value)}"
            origin = preset.origin(*location, key)
            yield line if origin is None else f"{line:<{_COMMENT_COLUMN}}  # {_short(origin)}"
    for key, value in by_speed.items():  # a comment: a key that is written would go before the speed
        yield f"{f'# {key} = {_value(value)}':<{_COMMENT_COLUMN}}  # speed {preset.speed}"
    for key, value in inner.items():
        name = ".".join(_key(str(part)) for part in (*location, key) if isinstance(part, str))
        if isinstance(value, Mapping):
            if value:
                yield from ("", f"[{name}]", *_table(preset, value, (*location, key)))
            continue
        for index, item in enumerate(value):
            yield from ("", f"[[{name}]]", *_table(preset, item, (*location, key, index)))


def _is_inner(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, tuple) and all(map(_is_inner, value)))


def _short(origin: Origin) -> str:
    return "--set" if origin.file is None else origin.file.name


def _key(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str | Path):  # TOML's basic strings are JSON's, but for DEL
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a preset file, with a description for each key."""
    schema = Preset.model_json_schema()
    properties = {
        "extends": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "Take everything from this preset first, or from several, the later over the "
            "earlier: a file beside this one, or the name of one that ships.",
        },
        "append": {
            "type": "array",
            "items": {"enum": list(LISTS)},
            "description": "Lists whose entries here come after those of the extended preset; other lists "
            "replace them.",
        },
    }
    assert set(properties) == set(FILE_KEYS)
    schema["properties"] = properties | schema["properties"]
    schema.pop("required", None)  # the extended preset may give it
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "lookdev preset"}
