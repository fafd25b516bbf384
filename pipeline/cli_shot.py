"""`lookdev shot`: inspect and probe what is on disk. Rooms are imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.shot import MotionFinding, Shot
    from pipeline.shot.probe import VectorFinding

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
@click.option(
    "--pass", "names", multiple=True, required=True, help="motion, visible, depth, joints, normal, lineart."
)
@click.option("--motion", type=click.Choice(["dis", "raft"]), default="dis", show_default=True)
@click.option("--joints", type=click.Choice(["openpose", "dwpose"]), default="openpose", show_default=True)
@click.option("--lineart", type=click.Choice(["fine", "coarse"]), default="fine", show_default=True)
@click.option("--weights", type=FolderPath, help="Folder with the detectors' files.")
@click.option("--device", help="As torch names it; default: the accelerator where there is one.")
@click.option("--out", type=FolderPath, default=Path("out"), show_default=True, help="If SHOT is read-only.")
def estimate(
    path: Path,
    names: tuple[str, ...],
    motion: str,
    joints: str,
    lineart: str,
    weights: Path | None,
    device: str | None,
    out: Path,
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
    by = {"motion": motion, "joints": joints}
    by["lineart"] = "lineart_coarse" if lineart == "coarse" else "lineart"
    chosen = choose(missing, by=by, folder=weights)
    with frame_progress(Console(stderr=True)) as advance:
        made = make_estimates(bare, chosen, fallback=out, device=device, on_frame=advance)
    for name in made.passes.keys() - bare.passes.keys():
        click.echo(f"{name}: {made.passes[name].origin}, {made.passes[name].files[0].parent}")


@shot.command()
@click.argument("path", metavar="SHOT", type=FolderPath)
@click.option("--out", type=FolderPath, default=Path("out"), show_default=True, help="The pictures' folder.")
@click.option("--near", type=float, help="The camera's near plane in metres, for device depth.")
@click.option("--far", type=float, help="Its far plane in metres; default: infinity.")
@click.option("--one-frame", is_flag=True, help="Vectors lead from frame to frame, not over a shutter.")
@click.option("--dry-run", is_flag=True, help="Only show the verdict; write neither shot.toml nor pictures.")
def probe(
    path: Path, out: Path, near: float | None, far: float | None, one_frame: bool, dry_run: bool
) -> None:
    """Find out how a SHOT's motion vectors and depth were written, and note it in its shot.toml.

    Every sign, axis, scale and time direction of the vectors is scored by how well it warps the shot's own
    frames onto each other; depth by where walls come out flat. Only a clear winner is taken; exit code 1
    where the shot cannot tell. The picture shows a frame, its warped neighbour, and their difference (grey:
    none).
    """
    from pipeline.shot import open_shot, probe_motion

    opened = open_shot(path)
    told = []
    if "motion" in opened.passes or "depth" not in opened.passes:  # without either it says what is missing
        told.append(_told_motion(opened, probe_motion(opened, one_frame=one_frame), out, dry_run=dry_run))
    if "depth" in opened.passes:
        told.append(_told_depth(opened, near, far, dry_run=dry_run))
    if not all(told):
        raise SystemExit(EXIT_CANNOT_TELL)


def _told_motion(opened: Shot, found: MotionFinding, out: Path, *, dry_run: bool) -> bool:
    """Show and note the verdict on the motion pass; whether there is one."""
    from pipeline.image import write_png
    from pipeline.shot import probe_picture, write_motion_encoding

    for vector in found.vectors:
        _show_readings(vector)
    if found.encoding is None:
        click.secho(f"motion: cannot tell: {found.reason}", fg="yellow", err=True)
        return False
    click.echo(f"motion: {found.reason}")
    if not dry_run:
        picture = out / f"{opened.name}_motion.png"
        write_png(picture, probe_picture(opened, found.encoding, found.frame))
        number = opened.frame_numbers[found.frame]
        click.echo(f"{picture}: frame {number}, its warped neighbour, the difference")
        click.echo(f"{write_motion_encoding(opened, found.encoding)}: [motion] written")
    return True


def _told_depth(opened: Shot, near: float | None, far: float | None, *, dry_run: bool) -> bool:
    """The same for the depth pass."""
    from pipeline.shot import probe_depth, write_depth_encoding

    found = probe_depth(opened, near=near, far=far)
    if found.encoding is None:
        click.secho(f"depth: cannot tell: {found.reason}", fg="yellow", err=True)
        return False
    click.echo(f"depth: {found.reason}")
    if not dry_run:
        click.echo(f"{write_depth_encoding(opened, found.encoding)}: [depth] written")
    return True


@shot.command()
@click.argument("path", metavar="FILM", type=FolderPath)
@click.option("--out", type=FolderPath, help="The shots' folder; default: out/<film>_shots.")
@click.option("--threshold", default=3.0, show_default=True, help="A cut changes this many times as much.")
@click.option(
    "--shortest", default=8, show_default=True, type=click.IntRange(min=1), help="Frames of a shot."
)
@click.option("--dry-run", is_flag=True, help="Only list the cuts.")
def split(path: Path, out: Path | None, threshold: float, shortest: int, dry_run: bool) -> None:
    """Cut a FILM into its shots, each a video with its sound.

    A cut is where the picture changes several times as much as around it. The folder can be given to
    `lookdev batch`. Run the same command again to resume.
    """
    from rich.console import Console
    from rich.progress import Progress

    from pipeline.shot import open_shot
    from pipeline.shot.split import find_cuts, write_cuts

    film = open_shot(path)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(film.name, total=film.num_frames)
        cuts = find_cuts(
            film,
            threshold=threshold,
            shortest=shortest,
            on_frame=lambda done, total: bar.update(task, completed=done),
        )
    if dry_run:
        for start, stop in cuts:
            click.echo(f"frames {start}-{stop - 1}: {float((stop - start) / film.fps):.2f} s")
        return
    folder = out or Path("out") / f"{film.name}_shots"
    for cut in write_cuts(film, cuts, folder):
        click.echo(f"{cut.path}: frames {cut.start}-{cut.stop - 1}")


def _show_readings(vector: VectorFinding) -> None:
    from rich.console import Console
    from rich.table import Table

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
