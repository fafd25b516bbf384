"""What several sub-commands share: exit codes, and the options of what a render computes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FolderPath = click.Path(path_type=Path)
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a render computes on, and what may be done to get a model's files together."""
    options = (
        click.option("--device", help="As torch names it; default: the accelerator where there is one."),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
            default="auto",
            show_default=True,
            help="auto: fp16 on an accelerator, fp32 on a CPU.",
        ),
        click.option("--compile", "compiled", is_flag=True, help="Compile the model first (minutes)."),
        click.option("--offline", is_flag=True, help="Fetch nothing from the Hugging Face hub."),
        click.option(
            "--allow-partial", is_flag=True, help="Leave out what of a LoRA the model has no place for."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def shot_options(command: Callable[..., None]) -> Callable[..., None]:
    """What to do about frames that a shot lacks, or that are damaged."""
    options = (
        click.option(
            "--fill-gaps",
            is_flag=True,
            help="A missing frame is the one before it; frames at a variable rate are held until the next.",
        ),
        click.option(
            "--skip-bad",
            is_flag=True,
            help="Look through every file first; the frame before stands in for a damaged or missing one.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def on_machine(*, device: str | None, precision: str, compiled: bool, **others: Any) -> dict[str, Any]:
    """`model_options` as `render_shot` takes them."""
    from pipeline.render import Machine

    return {"machine": Machine(device, precision, compiled), **others}  # type: ignore[arg-type]
