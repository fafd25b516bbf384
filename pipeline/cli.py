"""The `lookdev` command: parse, make one call, print.

Every sub-command imports its room when it runs, so that `lookdev --help` costs no torch, no numpy and no
OpenCV.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli_batch import batch
from pipeline.cli_lora import lora
from pipeline.cli_options import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    FolderPath,
    model_options,
    on_machine,
    shot_options,
)
from pipeline.cli_preset import preset
from pipeline.cli_shot import shot
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.steady.fuse import Method


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-v", "--verbose", is_flag=True, help="Say more while working.")
@click.version_option(package_name="lookdev")
def lookdev(verbose: bool) -> None:
    """From cheap 3D renders to a film look: train a look, restyle shots with it, hold them steady."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr
    )
    # Threads that spin while they wait starve all else on a busy machine; torch reads this when loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@lookdev.command()
@click.argument("dataset", type=FolderPath)
@click.option("--out", type=FolderPath, help="Folder for the result; default: out/loras/<name>.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps; default: the dataset file's.")
@click.option("--gpus", type=click.IntRange(min=1), help="Train on so many GPUs at once; default: one.")
def train(dataset: Path, out: Path | None, steps: int | None, gpus: int | None) -> None:
    """Train a LoRA, an embedding or a whole model on the images of DATASET.

    DATASET is a dataset.toml; its train.kind says what is trained. Run the same command again to resume.
    """
    run = importlib.import_module("training.run")
    if gpus is not None and gpus > 1:
        run.check(dataset, steps=steps)  # here a fault is one line; each of the processes would tell it
        options = ["--out", str(out)] if out is not None else []
        options += ["--steps", str(steps)] if steps is not None else []
        parallel = importlib.import_module("training.parallel")
        raise SystemExit(parallel.launch(gpus, ["train", str(dataset), *options]))
    result = run.train_from_file(dataset, out=out, steps=steps)
    if os.environ.get("RANK", "0") != "0":  # one of several processes; the first speaks
        return
    told = "trained already, " if result.was_done else ""
    click.echo(f"{result.result}: {told}{result.steps} steps, {result.images_per_second:.1f} images/s")
    click.echo(f"{result.samples}: sample images")


@lookdev.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dataset(arguments: Sequence[str]) -> None:
    """Check, audit and import training images.

    `lookdev dataset --help` lists its commands.
    """
    group = importlib.import_module("training.commands").dataset
    group.main(args=list(arguments), prog_name="lookdev dataset", standalone_mode=False)


@lookdev.command()
@click.argument("shot", type=FolderPath)
@click.option(
    "--preset", help="Preset file or name of one that ships; default: SHOT/preset.toml, else by its passes."
)
@click.option("--out", type=FolderPath, default=Path("out"), show_default=True, help="Results' folder.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a preset's key.")
@shot_options
@model_options
def render(
    shot: Path,
    preset: str | None,
    out: Path,
    overrides: Sequence[str],
    fill_gaps: bool,
    skip_bad: bool,
    **how: Any,
) -> None:
    """Restyle one SHOT.

    SHOT is a folder of passes, a folder of images, or a video. Run the same command again to resume.
    """
    from rich.console import Console

    from pipeline.batch import default_preset, preset_for
    from pipeline.preset import load_preset
    from pipeline.render import render_shot
    from pipeline.screen import frame_progress
    from pipeline.shot import open_shot

    opened = open_shot(shot, fill_gaps=fill_gaps, skip_bad=skip_bad)
    chosen = load_preset(preset or preset_for(shot) or default_preset(opened), overrides=overrides)
    with frame_progress(Console(stderr=True)) as advance:
        result = render_shot(opened, chosen, out, on_frame=advance, **on_machine(**how))
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    if result.skipped:
        click.echo(f"{result.video}: was done already")
    else:
        pace = f", {result.seconds / result.num_rendered:.2f} s/frame" if result.num_rendered else ""
        click.echo(f"{result.video}: {result.num_frames} frames, {result.num_rendered} rendered now{pace}")


@lookdev.command()
@click.argument("video", type=FolderPath)
@click.option("--shot", "shot_path", type=FolderPath, required=True, help="The shot it was made from.")
@click.option("--out", type=FolderPath, default=Path("out"), show_default=True, help="Results' folder.")
def score(video: Path, shot_path: Path, out: Path) -> None:
    """Measure how steady and sharp a styled VIDEO is.

    VIDEO is a video or a folder of frames, styled by lookdev or by any other tool. It is measured along the
    shot's motion pass, or along estimated motion where there is none. Writes a JSON and a plot over time.
    """
    from rich.console import Console

    from pipeline.score import plot_score, score_video, write_score
    from pipeline.screen import score_table
    from pipeline.shot import open_shot

    result = score_video(video, open_shot(shot_path))
    Console().print(score_table(result))
    for path, write in (
        (out / f"{result.name}_score.json", write_score),
        (out / f"{result.name}_score.png", plot_score),
    ):
        write(result, path)
        click.echo(f"{path}: written")


@lookdev.command()
@click.argument("video", type=FolderPath)
@click.option("--shot", "shot_path", type=FolderPath, required=True, help="The shot it was made from.")
@click.option("--out", type=FolderPath, default=Path("out"), show_default=True, help="Results' folder.")
@click.option(
    "--method",
    type=click.Choice(["keys", "blend"]),
    default="keys",
    show_default=True,
    help="keys: colour and detail apart, lost detail put back; blend: the plain mean along the motion.",
)
def steady(video: Path, shot_path: Path, out: Path, method: Method) -> None:
    """Steady a styled VIDEO that flickers.

    VIDEO is a video or a folder of frames, styled one by one by lookdev or by any other tool. No diffusion:
    frames are put together along the shot's motion pass, or along estimated motion where there is none. Run
    the same command again to resume.
    """
    from rich.console import Console

    from pipeline.deflicker import steady_video
    from pipeline.screen import frame_progress
    from pipeline.shot import open_shot

    with frame_progress(Console(stderr=True)) as advance:
        result = steady_video(video, open_shot(shot_path), out, method=method, on_frame=advance)
    if result.skipped:
        click.echo(f"{result.video}: was done already")
        return
    pace = f", {result.seconds / result.num_made:.2f} s/frame" if result.num_made else ""
    click.echo(f"{result.video}: {result.num_frames} frames, {result.num_made} made now{pace}")
    click.echo(f"motion: {result.motion}")


@lookdev.command()
@click.option("--out", type=FolderPath, default=Path("out/demo"), show_default=True, help="Results' folder.")
def demo(out: Path) -> None:
    """Train a sample character, restyle a shot.

    A character trained before is used again. Writes a side-by-side video and a contact sheet.
    """
    from rich.console import Console

    from pipeline.screen import demo_table, frame_progress

    console = Console(stderr=True)
    result = importlib.import_module("samples.demo").run_demo(out, progress=lambda: frame_progress(console))
    Console().print(demo_table(result.score))
    click.echo(f"{result.trained.result}: {result.trained.images_per_second:.1f} images/s")
    click.echo(f"{result.video}: engine | styled | film truth")
    click.echo(f"{result.sheet}: contact sheet")


@lookdev.command()
def doctor() -> None:
    """Show versions, device, memory, disk, and what is missing."""
    from rich.console import Console

    from pipeline.doctor import examine
    from pipeline.screen import doctor_table

    findings = examine(Path.cwd())
    Console().print(doctor_table(findings))
    missing = [finding.what for finding in findings if finding.needed and not finding.ok]
    if missing:
        click.secho(f"error: missing: {', '.join(missing)}", fg="red", err=True)
        raise SystemExit(EXIT_FAILED)


lookdev.add_command(batch)
lookdev.add_command(preset)
lookdev.add_command(shot)
lookdev.add_command(lora)


def _one_line(message: object) -> str:
    """A message as one line, whatever a file's name holds."""
    return "\\n".join(str(message).splitlines())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 a part failed, 2 bad input, 130 interrupted."""
    try:
        lookdev.main(args=arguments, prog_name="lookdev", standalone_mode=False)
    except UserError as error:
        click.secho(f"error: {_one_line(error)}", fg="red", err=True)
        return EXIT_BAD_INPUT
    except OSError as error:  # a name too long, a folder that may not be entered: no room's own message fits
        named = f"{error.filename}: " if error.filename else ""
        told = f"{named}{error.strerror or error}; check the path, and who may read it"
        click.secho(f"error: {_one_line(told)}", fg="red", err=True)
        return EXIT_BAD_INPUT
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):  # click turns Ctrl-C into Abort
        click.echo("interrupted; run the same command to resume", err=True)
        return EXIT_INTERRUPTED
    except RuntimeError as error:  # after click's Abort, which is one
        if not str(error).startswith("Symlink loop"):  # pathlib's, before Python 3.13
            raise
        click.secho(f"error: {_one_line(error)}; check the links on the way there", fg="red", err=True)
        return EXIT_BAD_INPUT
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
