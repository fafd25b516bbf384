"""A preset file and those it extends, merged into one table; --set puts values on top.

`extends = "film.toml"` takes everything from that file first: one beside this file, or the name of one that
ships. Of several, `extends = ["film.toml", "shots/closeup"]`, the later lie over the earlier. Tables merge
key by key. A list (control, lora, embedding, region, beat) replaces the one below, unless
`append = ["lora"]` names it: then its entries come after those below.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PresetError
from pipeline.preset.origin import Location, Origin, Origins

# The repository's presets/ beside the `pipeline` package.
PRESETS_FOLDER = Path(__file__).resolve().parents[2] / "presets"
SHOTS = "shots"  # the folder of those that say only what a shot says
LISTS = ("control", "lora", "embedding", "region", "beat")  # what `append` may name
FILE_KEYS = ("extends", "append")  # about the file, not about the look


def find_preset(name_or_path: str | Path) -> Path:
    """The file of a preset given by its path, or by the name of one that ships (`mini_blend`).

    Raises PresetError when there is neither, with the close match.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_presets()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if path.is_dir():
        raise PresetError(f"{path}: is a folder; expected a preset file such as {path / 'preset.toml'}")
    near = did_you_mean(str(name_or_path), list(shipped)) or did_you_mean(path.stem, list(shipped))
    hint = near or f"; presets that ship: {', '.join(shipped) or 'none'}"
    raise PresetError(f"{name_or_path}: no such preset file{hint}")


def shipped_presets() -> dict[str, Path]:
    """Name -> file of the presets that ship; those in shots/ are to be extended together with a film."""
    files = sorted(PRESETS_FOLDER.glob("*.toml")) + sorted((PRESETS_FOLDER / SHOTS).glob("*.toml"))
    return {file.relative_to(PRESETS_FOLDER).with_suffix("").as_posix(): file for file in files}


def read_chain(path: Path) -> tuple[dict[str, Any], Origins, tuple[Path, ...]]:
    """The merged table of a file and of all it extends, where each key came from, and the files, base first.

    Paths of LoRAs, embeddings and ControlNets come back absolute, each from its own file's folder. Raises
    PresetError for a file that cannot be read and for a chain that comes back to itself.
    """
    tables: dict[Path, dict[str, Any]] = {}
    _collect(path, (), tables)
    merged: dict[str, Any] = {}
    origins = Origins(path)
    for file, table in tables.items():
        append = _appended(file, table)
        _anchor(table, file.parent.resolve())
        _merge(merged, table, (), Origin(file, ()), origins, append)
    return merged, origins, tuple(tables)


def _collect(file: Path, above: tuple[Path, ...], tables: dict[Path, dict[str, Any]]) -> None:
    """Put a file's table into `tables` behind those of all it extends; what is there already stays there."""
    if file.resolve() in [other.resolve() for other in above]:
        round_trip = " -> ".join(str(other) for other in (*above, file))
        raise PresetError(f"{above[-1]}:extends: comes back to itself ({round_trip}); take one out")
    if file.resolve() in [other.resolve() for other in tables]:
        return
    table = _parse(file)
    if "append" in table and "extends" not in table:
        raise PresetError(f"{file}:append: there is nothing to append to without `extends`; take it out")
    for base in _bases(file, table.pop("extends", [])):
        _collect(base, (*above, file), tables)
    tables[file] = table


def override(data: dict[str, Any], origins: Origins, text: str) -> None:
    """Put "temporal.method=frame" or "control.0.weight=0.5" into the table. Raises PresetError."""
    dotted_keys, equals, value = text.partition("=")
    keys = [key.strip() for key in dotted_keys.split(".")]
    if not equals or not all(keys):
        raise PresetError(f"--set {text}: expected key=value, as in temporal.method=frame")
    if keys[0] in FILE_KEYS:
        raise PresetError(f"--set {text}: '{keys[0]}' is for files; give another file with --preset instead")
    place: Any = data
    location: list[int | str] = []
    for key in keys[:-1]:
        location.append(_index(place, key, text) if isinstance(place, list) else key)
        place = _step_into(place, location[-1], text)
    if isinstance(place, list):
        last: int | str = _index(place, keys[-1], text)
    elif isinstance(place, dict):
        last = keys[-1]
    else:
        raise PresetError(f"--set {text}: '{'.'.join(keys[:-1])}' is a plain value and has no keys")
    place[last] = _value(value.strip())
    where = (*location, last)
    origins.note(place[last], where, Origin(None, where))


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """ "; did you mean 'x'?" for the close match, or nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise PresetError(f"{path}: not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise PresetError(f"{path}: not a text file in UTF-8; expected a TOML preset") from None
    except OSError as error:
        raise PresetError(f"{path}: cannot be read: {error.strerror}") from None


def _bases(file: Path, extends: Any) -> list[Path]:
    """The files that `file` extends, in order: beside it, or of those that ship."""
    names = extends if isinstance(extends, list) else [extends]
    for name in names:
        if not isinstance(name, str) or not name:
            raise PresetError(
                f'{file}:extends: found {name!r}; expected a file, as in extends = "film.toml", or a list of '
                "files"
            )
    return [_base(file, name) for name in names]


def _base(file: Path, extends: str) -> Path:
    beside = file.parent / Path(extends)
    if beside.is_file():
        return beside
    parts = Path(extends).parts
    by_name = (len(parts) == 1 or parts[0] == SHOTS) and not beside.is_dir()
    try:
        return find_preset(extends if by_name else beside)
    except PresetError as error:
        raise PresetError(f"{file}:extends: {error}") from None


def _appended(file: Path, table: dict[str, Any]) -> tuple[str, ...]:
    """The lists that the file adds to; the key itself is taken out."""
    names = table.pop("append", [])
    if not isinstance(names, list):
        raise PresetError(f'{file}:append: found {names!r}; expected a list, as in append = ["lora"]')
    for index, name in enumerate(names):
        if name not in LISTS:
            raise PresetError(f"{file}:append[{index}]: found {name!r}; expected one of {', '.join(LISTS)}")
        if name not in table:
            raise PresetError(f"{file}:append[{index}]: this file has no [[{name}]] to append")
    return tuple(names)


def _merge(
    below: dict[str, Any],
    table: dict[str, Any],
    location: Location,
    origin: Origin,
    origins: Origins,
    append: Sequence[str],
) -> None:
    """Lay `table` over `below`, in place."""
    for key, value in table.items():
        here, there = (*location, key), Origin(origin.file, (*origin.location, key))
        earlier = below.get(key)
        if isinstance(value, dict) and isinstance(earlier, dict):
            origins.touch(here, there)
            _merge(earlier, value, here, there, origins, ())
        elif key in append and isinstance(value, list) and isinstance(earlier, list):
            for index, item in enumerate(value):
                at = (*here, len(earlier))
                earlier.append(item)
                origins.note(item, at, Origin(there.file, (*there.location, index)))
        else:
            below[key] = value
            origins.note(value, here, there)


def _anchor(table: dict[str, Any], folder: Path) -> None:
    """Paths of LoRAs, embeddings, masks and ControlNets, relative to the file, made absolute in place."""
    regions = _tables_of(table, "region")
    places = [(item, "path") for key in ("lora", "embedding") for item in _tables_of(table, key)]
    places += [(item, "path") for region in regions for item in _tables_of(region, "lora")]
    places += [(region, "mask") for region in regions]
    places += [
        (item, "path")
        for item in _tables_of(table, "control")
        if (folder / str(item.get("path") or "")).exists()  # what does not may be a hub id
    ]
    places += [(table, key) for key in ("speed_lora", "vae") if table.get(key) != "merged"]
    for place, key in places:
        path = place.get(key)
        if isinstance(path, str) and path and not path.startswith("~"):
            place[key] = str(folder / path)


def _tables_of(table: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items = table.get(key)
    return [item for item in (items if isinstance(items, list) else ()) if isinstance(item, dict)]


def _step_into(place: Any, key: int | str, text: str) -> Any:
    if isinstance(place, list):
        return place[int(key)]
    if isinstance(place, dict):
        return place.setdefault(key, {})
    raise PresetError(f"--set {text}: '{key}' is inside a plain value")


def _index(items: list[Any], key: str, text: str) -> int:
    if key.isdecimal() and int(key) < len(items):
        return int(key)
    raise PresetError(f"--set {text}: expected a number below {len(items)} in place of '{key}'")


def _value(text: str) -> Any:
    """A TOML value where the text is one, else the text itself, so that `method=frame` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
