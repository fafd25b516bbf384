"""Read a preset file: TOML into the strict schema, with one-line errors that name `file:section.key`."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import PresetError
from pipeline.preset.prompt import fill
from pipeline.preset.schema import Preset

# The repository's presets/ beside the `pipeline` package.
PRESETS_FOLDER = Path(__file__).resolve().parents[2] / "presets"
DEFAULT_PRESET = "mini_blend"
PICTURES_PRESET = "mini_video"  # for a shot without the renderer's passes


def find_preset(name_or_path: str | Path) -> Path:
    """The file of a preset given by its path, or by the bare name of one that ships (`mini_blend`).

    Raises PresetError when there is neither, with the close match.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(PRESETS_FOLDER.glob("*.toml"))}
    if path.name == str(name_or_path) and path.name in shipped:
        return shipped[path.name]
    if path.is_dir():
        raise PresetError(f"{path}: is a folder; expected a preset file such as {path / 'preset.toml'}")
    hint = _did_you_mean(path.stem, list(shipped)) or f"; presets that ship: {', '.join(shipped) or 'none'}"
    raise PresetError(f"{name_or_path}: no such preset file{hint}")


def load_preset(name_or_path: str | Path, *, overrides: Sequence[str] = ()) -> Preset:
    """Read and check one preset; `overrides` are "key=value" or "section.key=value" as given to `--set`.

    LoRA paths come back absolute (relative ones count from the preset's folder). The prompt templates are
    tried once, so that an unknown variable fails here. Raises PresetError, one line.
    """
    path = find_preset(name_or_path)
    data = _parse(path)
    for override in overrides:
        _set(data, override)
    try:
        context = {"folder": path.parent.resolve()}
        preset = Preset.model_validate(_frozen(data), context=context)
    except ValidationError as error:
        raise PresetError(_one_line(path, error)) from None
    preset._source = path
    for key in ("prompt", "negative"):
        fill(getattr(preset, key), preset.vars, where=f"{path}:{key}")
    return preset


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise PresetError(f"{path}: not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise PresetError(f"{path}: not a text file in UTF-8; expected a TOML preset") from None
    except OSError as error:
        raise PresetError(f"{path}: cannot be read: {error.strerror}") from None


def _frozen(value: Any) -> Any:
    """Lists as tuples: strict pydantic takes only a tuple where the schema says tuple."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value


def _set(data: dict[str, Any], override: str) -> None:
    """Put "temporal.method=frame" or "control.0.weight=0.5" into the parsed TOML."""
    dotted, equals, text = override.partition("=")
    keys = [key.strip() for key in dotted.split(".")]
    if not equals or not all(keys):
        raise PresetError(f"--set {override}: expected key=value, as in temporal.method=frame")
    place: Any = data
    for key in keys[:-1]:
        place = _step_into(place, key, override)
    if isinstance(place, list):
        place[_index(place, keys[-1], override)] = _value(text.strip())
    elif isinstance(place, dict):
        place[keys[-1]] = _value(text.strip())
    else:
        raise PresetError(f"--set {override}: '{'.'.join(keys[:-1])}' is a plain value and has no keys")


def _step_into(place: Any, key: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, key, override)]
    if isinstance(place, dict):
        return place.setdefault(key, {})
    raise PresetError(f"--set {override}: '{key}' is inside a plain value")


def _index(items: list[Any], key: str, override: str) -> int:
    if key.isdecimal() and int(key) < len(items):
        return int(key)
    raise PresetError(f"--set {override}: expected a number below {len(items)} in place of '{key}'")


def _value(text: str) -> Any:
    """A TOML value where the text is one, else the text itself, so that `method=frame` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _one_line(path: Path, error: ValidationError) -> str:
    """The first problem as one line, unknown keys first: a misspelt key often causes the others."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    location = first["loc"]
    where = f"{path}:{_dotted(location)}" if location else str(path)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {_reason(first, location)}{more}"


def _reason(problem: Any, location: tuple[int | str, ...]) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = _keys_at(Preset, location[:-1])
        return f"unknown key '{location[-1]}'" + (
            _did_you_mean(str(location[-1]), known) or f"; known keys: {', '.join(known)}"
        )
    if kind == "missing":
        return "this key is missing and must be given"
    message = str(problem["msg"]).removeprefix("Value error, ")
    expected = message[0].lower() + message[1:]
    if kind == "value_error" or isinstance(problem["input"], dict | tuple):
        return expected
    return f"found {problem['input']!r}; {expected.replace('input should', 'it should')}"


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


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


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
