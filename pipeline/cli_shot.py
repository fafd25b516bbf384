"""`lookdev shot`: inspect and probe what is on disk. Rooms are imported when a command runs."""

from __future__ import annotations

from pathlib import Path

import click

FolderPath = click.Path(path_type=Path)
EXIT_CANNOT_TELL = 1


@click.group()
def shot() -> None:
    """Look into shots: what they hold, and how their passes were written."""


@shot.command()
@click.argument("path", metavar="SHOT", type=FolderPath)
def inspect(path: Path) -> None:
    """Show what a SHOT holds: frames, size, rate, sound, and each pass with its range and gaps.

    SHOT is a folder of passes, a folder of images, or a video. Exit code 2 when it cannot be rendered.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.shot.inspect import inspect_shot

    table = Table("what")
    table.add_column("found", overflow="fold")
    rows = inspect_shot(path)
    if rows[-1][0] != "error":
        rows += _estimates(path)
    for what, found in rows:
        table.add_row(what, Text(found))
    Console().print(table)
    if rows[-1][0] == "error":
        raise SystemExit(2)


def _estimates(path: Path) -> list[tuple[str, str]]:
    """A row for each estimated pass that lies finished beside the shot."""
    from pipeline.estimate import with_finished
    from pipeline.shot import open_shot

    bare = open_shot(path)
    passes = with_finished(bare).passes
    return [
        (f"pass {name}", f"{source.origin}: {source.files[0].parent}")
        for name, source in passes.items()
        if name not in bare.passes
    ]


@shot.command()
@click.argument("path", metavar="SHOT", type=FolderPath)
@click.option("--pass", "names", multiple=True, required=True, help="motion, visible, depth, joints, normal.")
@click.option("--motion", type=click.Choice(["dis", "raft"]), default="dis", show_default=True)
@click.option("--weights", type=FolderPath, help="Folder with the detectors' files.")
@click.option("--device", help="As torch names it; default: the accelerator where there is one.")
@click.option("--out", type=FolderPath, default=Path("out"), show_default=True, help="If SHOT is read-only.")
def estimate(
    path: Path, names: tuple[str, ...], motion: str, weights: Path | None, device: str | None, out: Path
) -> None:
    """Estimate passes that a SHOT lacks, as a render would, and keep them beside it.

    Run the same command again to resume.
    """
    from rich.console import Console

    from pipeline.estimate import USUAL, choose, make_estimates
    from pipeline.screen import frame_progress
    from pipeline.shot import open_shot

    unknown = [name for name in names if name not in USUAL]
    if unknown:
        raise click.BadParameter(f"'{unknown[0]}' is not one of {', '.join(USUAL)}", param_hint="--pass")
    bare = open_shot(path)
    there = [name for name in names if name in bare.passes]
    for name in there:
        click.echo(f"{name}: the shot has it ({bare.passes[name].origin})")
    missing = [name for name in names if name not in there]
    chosen = choose(missing, motion=motion, folder=weights)
    with frame_progress(Console(stderr=True)) as advance:
        made = make_estimates(bare, chosen, fallback=out, device=device, on_frame=advance)
    for name in made.passes.keys() - bare.passes.keys():
        click.echo(f"{name}: {made.passes[name].origin}, {made.passes[name].files[0].parent}")


@shot.command()
@click.argument("path", metavar="SHOT", type=FolderPath)
@click.option("--out", type=FolderPath, default=Path("out"), show_default=True, help="The picture's folder.")
@click.option("--dry-run", is_flag=True, help="Only show the verdict; write neither shot.toml nor picture.")
def probe(path: Path, out: Path, dry_run: bool) -> None:
    """Find out how a SHOT's motion vectors were written, and note it in its shot.toml.

    Every sign, axis, scale and time direction is scored by how well it warps the shot's own frames onto
    each other. Only a clear winner is taken; exit code 1 where the shot cannot tell. The picture shows a
    frame, its warped neighbour, and their difference (grey: none).
    """
    from pipeline.image import write_png
    from pipeline.shot import open_shot, probe_motion, probe_picture, write_motion_encoding

    opened = open_shot(path)
    found = probe_motion(opened)
    for vector in found.vectors:
        _show_readings(vector)
    if found.encoding is None:
        click.secho(f"motion: cannot tell: {found.reason}", fg="yellow", err=True)
        raise SystemExit(EXIT_CANNOT_TELL)
    click.echo(f"motion: {found.reason}")
    if dry_run:
        return
    picture = out / f"{opened.name}_motion.png"
    write_png(picture, probe_picture(opened, found.encoding, found.frame))
    click.echo(f"{picture}: frame {opened.frame_numbers[found.frame]}, its warped neighbour, the difference")
    click.echo(f"{write_motion_encoding(opened, found.encoding)}: [motion] written")


def _show_readings(vector: object) -> None:
    from rich.console import Console
    from rich.table import Table

    from pipeline.shot.probe import VectorFinding

    assert isinstance(vector, VectorFinding)
    table = Table(f"vector in {' '.join(vector.channels)}, read as", "warp error", "of no motion's")
    still = next((each.error for each in vector.scored if each.reading is None), 0.0)
    for each in vector.scored[:6]:
        said = "nothing moves"
        if each.reading is not None:
            x, y = each.reading.scale
            said = f"x = {x:+.4g} {each.reading.channels[0]}, y = {y:+.4g} {each.reading.channels[1]}"
            said += f" in {each.reading.unit}"
        table.add_row(said, f"{each.error:.3e}", f"{each.error / still:.2f}" if still else "-")
    if vector.scored:
        Console().print(table)
    if vector.arrow is not None:
        slope, error = vector.arrow.slope, vector.arrow.error
        click.echo(f"time: slope {slope:+.2f} +- {error:.2f} (+1: to the frame before, -1: to the next)")
