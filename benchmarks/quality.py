"""Quality on held-out stage shots: the tables of likeness, picture, structure and steadiness.

    python -m benchmarks.quality --lora iris=out/loras/iris/iris.safetensors --lora otto=...

Shots, renders and truths are kept under --out, so a second run only measures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.figures import Case, Row, likeness, picture, steadiness, structure
from benchmarks.held_out import held_out, stage
from benchmarks.renders import Renderer, Variant
from benchmarks.table import markdown
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.models.lora_file import read_lora
from pipeline.output import write_contact_sheet

STRENGTHS = (0.4, 0.6, 0.8)
FULL_STRENGTH = 0.8  # of figure 3, where structure is most at risk

FIGURES: Mapping[str, Callable[[Sequence[Case], Renderer, float], list[Row]]] = {
    "likeness": lambda cases, renderer, strength: likeness(cases, renderer, strength=strength),
    "picture": lambda cases, renderer, _: picture(cases, renderer, strengths=STRENGTHS),
    "structure": lambda cases, renderer, _: structure(cases, renderer, strength=FULL_STRENGTH),
    "steadiness": lambda cases, renderer, strength: steadiness(cases, renderer, strength=strength),
}


def _named_lora(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    pairs = [value.partition("=") for value in values]
    wrong = [value for value, (_, sign, path) in zip(values, pairs, strict=True) if not sign or not path]
    if wrong:
        raise click.BadParameter(
            f"{wrong[0]!r}; expected MEMBER=FILE, as in iris=out/loras/iris/iris.safetensors"
        )
    return {hero: Path(path) for hero, _, path in pairs}


@click.command(help=__doc__)
@click.option(
    "--lora", "loras", multiple=True, required=True, callback=_named_lora, help="MEMBER=FILE, repeatable"
)
@click.option("--figure", "figures", multiple=True, type=click.Choice(list(FIGURES)), help="all if absent")
@click.option(
    "--shots", type=click.IntRange(min=1), default=2, show_default=True, help="held-out shots for each member"
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="frames of each shot, at most 48",
)
@click.option("--strength", default=0.5, show_default=True, help="of figures likeness and steadiness")
@click.option("--model", default="mini", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--guidance", default=1.0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/quality"), show_default=True)
def main(
    loras: Mapping[str, Path],
    figures: tuple[str, ...],
    shots: int,
    frames: int,
    strength: float,
    model: str,
    steps: int,
    guidance: float,
    out: Path,
) -> None:
    renderer = Renderer(out / "renders", model, steps, guidance)
    try:
        cases = make_cases(loras, num_shots=shots, num_frames=frames, folder=out / "shots")
        results: dict[str, list[Row]] = {}
        for name in figures or FIGURES:
            results[name] = FIGURES[name](cases, renderer, strength)
            click.echo(f"\n### {name}\n\n{markdown(results[name])}")
        write_sheet(cases, renderer, out / "sheet.png", strength=strength)
        write_text(out / "quality.json", json.dumps(results, indent=1) + "\n")
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    click.echo(f"\n{out / 'sheet.png'}, {out / 'quality.json'}")


def make_cases(loras: Mapping[str, Path], *, num_shots: int, num_frames: int, folder: Path) -> list[Case]:
    """Held-out shots of every hero; the prompt asks for the LoRA's own trigger phrase."""
    cases = []
    for hero, lora in loras.items():
        trigger = read_lora(lora).metadata.get("modelspec.trigger_phrase", hero)
        for shot in held_out(hero, num_shots=num_shots, num_frames=num_frames):
            prompt = shot.prompt(f"a person, {trigger}")  # as the captions of the sample datasets
            cases.append(Case(shot, stage(shot, folder), prompt, lora))
    return cases


def write_sheet(cases: Sequence[Case], renderer: Renderer, path: Path, *, strength: float) -> None:
    """The middle frame of every shot: engine | without LoRA | with LoRA | film truth."""
    rows = []
    for case in cases:
        middle = case.shot.num_frames // 2
        without = renderer.frames(case.truth.shot, case.prompt, Variant(None, strength))
        styled = renderer.frames(case.truth.shot, case.prompt, Variant(case.lora, strength))
        rows.append([frames[middle] for frames in (case.engine, without, styled, case.film)])
    names = [case.shot.name for case in cases]
    write_contact_sheet(
        path, rows, ["engine", "without LoRA", "with LoRA", "film truth"], row_captions=names, height=256
    )


if __name__ == "__main__":
    main()
