"""`lookdev lora`: look at LoRA files and check them.

Nothing heavy is imported before a sub-command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from pipeline.models.lora_file import LoraFile

FilePath = click.Path(path_type=Path, dir_okay=False)
_SHOWN_KEYS = 20
_MODEL_HELP = "Model family or model; default: the family that the file fits best."


@click.group()
def lora() -> None:
    """Look at LoRA files and check them."""


@lora.command()
@click.argument("file", type=FilePath)
def info(file: Path) -> None:
    """Show rank, alpha, base, trigger, concepts and training metadata of FILE."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.models.lora_info import describe

    opened, family = _open(file, None)
    table = Table(show_header=False, title=Text(str(file)), title_justify="left")
    for label, value in describe(opened, family):
        table.add_row(label, Text(value))  # Text: metadata is never read as markup
    Console().print(table)


@lora.command()
@click.argument("file", type=FilePath)
@click.option("--model", help=_MODEL_HELP)
@click.option("--all", "everything", is_flag=True, help="List every unmatched key.")
def verify(file: Path, model: str | None, everything: bool) -> None:
    """Replay how kohya, A1111, ComfyUI, diffusers and lookdev match FILE's keys.

    Exit code 2 when lookdev itself has no place for a key.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.models import lora_verify

    opened, family = _open(file, model)
    readings = lora_verify.verify(opened, family)
    title = Text(f"{file} on {family}, layout {opened.layout}")  # Text: a path is never read as markup
    table = Table(title=title, title_justify="left")
    for heading in ("program", "keys matched", "unmatched"):
        table.add_column(heading)
    for reading in readings:
        matched = reading.num_keys - len(reading.unmatched)
        table.add_row(reading.program, f"{matched} of {reading.num_keys}", str(len(reading.unmatched)))
    Console().print(table)
    for reading in readings:
        shown = reading.unmatched if everything else reading.unmatched[:_SHOWN_KEYS]
        for key in shown:
            click.echo(f"{reading.program}: {key}")
        if len(shown) < len(reading.unmatched):
            click.echo(f"{reading.program}: ... and {len(reading.unmatched) - len(shown)} more (--all)")
    lost = readings[0].unmatched
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ModelError(
            f"LoRA {file}: {lost[0]}{more} has no place in model '{family}'; expected the names and "
            "shapes of its layers; choose its model with --model, or export it again"
        )


def _open(file: Path, model: str | None) -> tuple[LoraFile, str]:
    """The file, and the family it is for: of `model` if given, else the one that it fits best."""
    from pipeline.models.architectures import ARCHITECTURES
    from pipeline.models.families import find_model
    from pipeline.models.lora_file import read_lora
    from pipeline.models.lora_verify import find_family, likely_families

    opened = read_lora(file)
    if model is None:
        return opened, find_family(opened, likely_families(opened))
    return opened, model if model in ARCHITECTURES else find_model(model)[0].name
