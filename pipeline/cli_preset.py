"""`lookdev preset`: check, show, describe and start preset files. Rooms are imported when a command runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.errors import PresetError, UserError

FolderPath = click.Path(path_type=Path)
EXIT_BAD_INPUT = 2
overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a preset's key."
)


@click.group()
def preset() -> None:
    """Check, show and start preset files."""


@preset.command()
@click.argument("presets", nargs=-1, required=True)
@click.option("--shot", type=FolderPath, help="Check against this shot too: its passes, frames and views.")
@click.option("--offline", is_flag=True, help="Fetch nothing from the Hugging Face hub.")
@overrides_option
def check(presets: Sequence[str], shot: Path | None, overrides: Sequence[str], offline: bool) -> None:
    """Check PRESETS: every key, template and file they name.

    Each is a file or the name of one that ships. Exit code 2 when one of them cannot work.
    """
    from pipeline.plan import check_preset, make_plan
    from pipeline.preset import load_preset
    from pipeline.shot import open_shot

    opened = None if shot is None else open_shot(shot)
    failed = False
    for name in presets:
        try:
            loaded = load_preset(name, overrides=overrides)
            if opened is None:
                notes = check_preset(loaded, offline=offline)
            else:
                notes = make_plan(opened, loaded, offline=offline).notes
        except UserError as error:
            click.secho(f"error: {error}", fg="red", err=True)
            failed = True
            continue
        for note in notes:
            click.echo(f"note: {note}", err=True)
        click.echo(f"{name}: ok")
    if failed:
        raise SystemExit(EXIT_BAD_INPUT)


@preset.command()
@click.argument("name", metavar="PRESET")
@click.option("--resolved", is_flag=True, help="Every key after merging, with where it came from.")
@overrides_option
def show(name: str, resolved: bool, overrides: Sequence[str]) -> None:
    """Print a PRESET: as it is written, or as it is after all that it extends.

    The output of --resolved is a preset file that extends nothing.
    """
    from pipeline.preset import as_toml, find_preset, load_preset

    loaded = load_preset(name, overrides=overrides)
    if resolved:
        click.echo(as_toml(loaded), nl=False)
    elif overrides:
        raise PresetError("--set: is shown with --resolved only; add --resolved")
    else:
        click.echo(find_preset(name).read_text(encoding="utf-8"), nl=False)


@preset.command()
@click.option("--out", type=FolderPath, help="File to write it to; default: print it.")
def schema(out: Path | None) -> None:
    """Print the JSON Schema of preset files, from which editors complete and explain keys."""
    import json

    from pipeline.files import write_text
    from pipeline.preset import json_schema

    text = json.dumps(json_schema(), indent=1) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
        click.echo(str(out))


@preset.command()
@click.argument("file", type=FolderPath)
@click.option("--extends", default="mini_film", show_default=True, help="The preset it starts from.")
def new(file: Path, extends: str) -> None:
    """Start a preset FILE that extends another, with a commented line for each thing to change."""
    from pipeline.preset import write_new

    write_new(file, extends=extends)
    click.echo(f"{file}: extends {extends}; check it with: lookdev preset check {file}")
