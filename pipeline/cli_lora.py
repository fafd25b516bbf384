"""`lookdev lora`: look at LoRA files, check them, and turn one into another.

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
    """Look at LoRA files, check, convert, merge, resize them."""


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
        share = "refuses the file" if reading.refusal else f"{matched} of {reading.num_keys}"
        table.add_row(reading.program, share, str(len(reading.unmatched)))
    Console().print(table)
    for reading in readings:
        if reading.refusal:
            click.echo(f"{reading.program} refuses the file: {reading.refusal}")
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


@lora.command()
@click.argument("file", type=FilePath)
@click.argument("out", type=FilePath)
@click.option("--to", "layout", required=True, type=click.Choice(["kohya", "peft", "diffusers"]))
@click.option("--model", help=_MODEL_HELP)
def convert(file: Path, out: Path, layout: str, model: str | None) -> None:
    """Write FILE in another layout to OUT, bit for bit, alpha included.

    kohya is for A1111, ComfyUI and kohya's tools; peft is what diffusers writes today; diffusers its earlier
    names.
    """
    from pipeline.models.lora_convert import convert as convert_lora
    from pipeline.models.lora_file import write_lora

    _keep_input(out, [file])
    opened, family = _open(file, model)
    state, metadata = convert_lora(opened, layout, family)
    write_lora(out, state, metadata=metadata)
    click.echo(f"{out}: {len(opened.modules)} modules in {layout}'s layout, for {family}")


@lora.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE[:WEIGHT]...")
@click.option("--out", required=True, type=FilePath, help="The merged file.")
@click.option("--rank", type=click.IntRange(min=1), help="Cut to this rank; default: the ranks add up.")
@click.option("--model", help=_MODEL_HELP)
def merge(files: tuple[str, ...], out: Path, rank: int | None, model: str | None) -> None:
    """Add up LoRAs into one: iris.safetensors:0.8 film.safetensors:0.5.

    Without --rank the ranks add up and the sum is exact; with it, each layer keeps its largest singular
    values.
    """
    from pipeline.models.lora_arithmetic import merge as merge_loras
    from pipeline.models.lora_file import write_lora

    weighted = [_weighted(text) for text in files]
    _keep_input(out, [path for path, _ in weighted])
    first, family = _open(weighted[0][0], model)
    opened = [(first, weighted[0][1])] + [(_open(path, family)[0], weight) for path, weight in weighted[1:]]
    result = merge_loras(opened, family, name=out.stem, rank=rank)
    write_lora(out, result.state, metadata=result.metadata)
    click.echo(f"{out}: {len(files)} LoRAs, {_kept(result.kept)} of the change kept")


@lora.command()
@click.argument("file", type=FilePath)
@click.argument("out", type=FilePath)
@click.option("--rank", required=True, type=click.IntRange(min=1), help="The new rank.")
@click.option("--model", help=_MODEL_HELP)
def resize(file: Path, out: Path, rank: int, model: str | None) -> None:
    """Cut FILE to a smaller rank by SVD; LoHa and LoKr become plain LoRA."""
    from pipeline.models.lora_arithmetic import resize as resize_lora
    from pipeline.models.lora_file import write_lora

    _keep_input(out, [file])
    opened, family = _open(file, model)
    result = resize_lora(opened, family, name=out.stem, rank=rank)
    write_lora(out, result.state, metadata=result.metadata)
    click.echo(f"{out}: rank {rank}, {_kept(result.kept)} of the change kept")


def _open(file: Path, model: str | None) -> tuple[LoraFile, str]:
    """The file, and the family it is for: of `model` if given, else the one that it fits best."""
    from pipeline.models.architectures import ARCHITECTURES
    from pipeline.models.find import find_model
    from pipeline.models.lora_file import read_lora
    from pipeline.models.lora_verify import find_family, likely_families

    opened = read_lora(file)
    if model is None:
        return opened, find_family(opened, likely_families(opened))
    return opened, model if model in ARCHITECTURES else find_model(model)[0].name


def _weighted(text: str) -> tuple[Path, float]:
    """ "file.safetensors:0.8" -> path and weight; a name without a number weighs 1."""
    name, colon, number = text.rpartition(":")
    if not colon or not number or "/" in number or "\\" in number or number.endswith(".safetensors"):
        return Path(text), 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = float("nan")
    if not abs(weight) < float("inf"):
        raise ModelError(f"'{text}': the weight '{number}' is no number; expected FILE:0.8 or FILE")
    return Path(name), weight


def _keep_input(out: Path, files: list[Path]) -> None:
    if any(out.resolve() == file.resolve() for file in files):
        raise ModelError(f"{out}: is the input; expected another file for the result: choose another name")


def _kept(share: float) -> str:
    return "all" if share > 1 - 1e-6 else f"{100 * share:.2f} %"
