"""The file that `lookdev preset new` writes: what a shot's preset says most often, as comments to open."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import PresetError
from pipeline.files import write_text
from pipeline.preset.chain import find_preset
from pipeline.preset.read import load_preset
from pipeline.preset.schema import Preset

_TEXT = """\
# What this shot has of its own; all else is from {base}.
# Check it: lookdev preset check {name}     See it whole: lookdev preset show {name} --resolved

extends = {extends}
# append = ["lora"]             # [[lora]] below then comes after those of the base, not in their place

# strength = {strength}
# seed = {seed}

[vars]                          # the {{names}} in the prompt:
# {prompt}
{vars}

# [[lora]]                      # lookdev train leaves it in out/loras/NAME/NAME.safetensors
# path = "name.safetensors"     # relative to this file
# weight = 1.0
"""


def write_new(file: Path, *, extends: str) -> Preset:
    """Write a preset that extends `extends` (a path, or the name of one that ships) and read it back.

    Raises PresetError where `file` is there already or `extends` is no preset that works.
    """
    if file.exists():
        raise PresetError(f"{file}: is there already; choose another name or edit that one")
    if file.suffix != ".toml":
        raise PresetError(f"{file}: expected a name that ends in .toml")
    base = load_preset(extends)
    shipped = not Path(extends).is_file()
    named = extends if shipped else _seen_from(file.parent, find_preset(extends))
    lines = [f"# {name} = {json.dumps(value, ensure_ascii=False)}" for name, value in base.vars.items()]
    text = _TEXT.format(
        base=named,
        name=file.name,
        extends=json.dumps(named, ensure_ascii=False),
        strength=base.strength,
        seed=base.seed,
        prompt=base.prompt,
        vars="\n".join(lines),
    )
    write_text(file, text)
    return load_preset(file)


def _seen_from(folder: Path, file: Path) -> str:
    """`file` relative to `folder` where it is inside, else its absolute path."""
    folder, file = folder.resolve(), file.resolve()
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()
