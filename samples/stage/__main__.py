"""`python -m samples.stage`: render the sample shots and datasets again into samples/."""

from __future__ import annotations

from pathlib import Path

import click

from samples.stage.datasets import CONCEPTS, write_dataset
from samples.stage.shots import SAMPLE_SHOTS, write_scene
from samples.stage.spoiled import FOLDER, write_spoiled


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path(__file__).parents[1],
    help="Where samples/ is.",
)
def main(root: Path) -> None:
    """Write samples/shots, samples/characters, samples/places, samples/styles and samples/spoiled."""
    for name, scene in SAMPLE_SHOTS.items():
        click.echo(write_scene(scene, root / "shots" / name, replace=True).root)
    for name in CONCEPTS:
        click.echo(write_dataset(name, root))
    click.echo(write_spoiled(root / FOLDER))


if __name__ == "__main__":
    main()
