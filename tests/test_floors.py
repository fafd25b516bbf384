"""The walls of docs/architecture.md, held by walking every module's imports (lazy ones too)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest first. A room may import rooms of lower floors; those on its own floor are its siblings.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("files",),
    ("image",),
    ("shot", "preset", "controls", "models", "steady"),
    ("estimate",),
    ("plan", "diffuse", "conform"),
    ("footage",),
    ("output", "journal", "hold", "steps", "styling", "timeline"),
    ("patches", "delivery"),
    ("keys",),
    ("methods", "score", "deflicker"),
    ("render",),
    ("batch", "doctor"),
    ("screen", "screen_batch", "cli_options"),
    ("cli_shot", "cli_preset", "cli_lora", "cli_batch"),
    ("cli",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TRAINING_MAY_USE = {
    "errors",
    "files",
    "image",
    "shot",
    "preset",
    "controls",
    "models",
    "estimate",
    "diffuse",
    "output",
}
PACKAGES = ("pipeline", "training", "samples")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, name: str, *, is_package: bool) -> Iterator[str]:
    """Dotted names of everything that a module imports, relative imports resolved.

    `from a import b` counts as "a.b", since b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")
            if node.level:
                drop = node.level - 1 if is_package else node.level
                base = base[: len(base) - drop]
                base += node.module.split(".") if node.module else []
            else:
                base = (node.module or "").split(".")
            yield from (".".join([*base, alias.name]) for alias in node.names)


def room_of(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else None


def breaches(source: str, name: str, *, is_package: bool = False) -> list[str]:
    """What a module of `pipeline` imports against the rules."""
    room = room_of(name)
    found = []
    for target in imported(source, name, is_package=is_package):
        if target.split(".")[0] in ("training", "samples", "benchmarks", "tests"):
            found.append(f"{name} imports {target}: pipeline finds it by name only")
        other = room_of(target)
        if other is None or other == room:
            continue
        if other not in FLOOR_OF:
            found.append(f"{name} imports {target}: room '{other}' has no floor")
        elif room is not None and FLOOR_OF[other] >= FLOOR_OF[room]:
            found.append(f"{name} (floor {FLOOR_OF[room]}) imports {target} (floor {FLOOR_OF[other]})")
    return found


@pytest.mark.parametrize("path", modules("pipeline"), ids=module_name)
def test_imports_point_down(path: Path) -> None:
    room = room_of(module_name(path))
    assert room is None or room in FLOOR_OF, f"give '{room}' a floor here and in docs/architecture.md"
    text = path.read_text(encoding="utf-8")
    assert breaches(text, module_name(path), is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize("path", modules("training"), ids=module_name)
def test_training_uses_only_its_share(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in imported(text, module_name(path), is_package=path.name == "__init__.py"):
        room = room_of(target)
        assert room is None or room in TRAINING_MAY_USE, f"{module_name(path)} imports {target}"
        assert target.split(".")[0] not in ("samples", "benchmarks", "tests"), target


@pytest.mark.parametrize(
    ("source", "name", "is_package"),
    [
        ("import pipeline.render", "pipeline.plan", False),
        ("from pipeline import render", "pipeline.plan", False),
        ("def f():\n    from pipeline.diffuse import x", "pipeline.steady.blend", False),
        ("from ..models import load", "pipeline.shot.read", False),
        ("from ..models import load", "pipeline.shot", True),
        ("from .models import load", "pipeline.preset", False),
        ("from . import cli", "pipeline.errors", False),
        ("import training.run", "pipeline.cli", False),
        ("from samples import stage", "pipeline.batch", False),
    ],
)
def test_the_walk_sees_a_breach(source: str, name: str, is_package: bool) -> None:
    assert breaches(source, name, is_package=is_package)


def test_the_contract_names_every_floor() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    stated = re.search(r"Imports point down only: (.*?)\.\n", text, re.DOTALL)
    assert stated is not None
    floors = tuple(tuple(room.strip() for room in floor.split(",")) for floor in stated[1].split("->"))
    assert floors == FLOORS


def test_every_room_with_a_floor_is_there() -> None:
    rooms = {path.stem for path in (ROOT / "pipeline").iterdir() if not path.name.startswith("_")}
    assert set(FLOOR_OF) == rooms
