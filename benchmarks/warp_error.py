"""How well a shot's vectors carry its own pictures: the warp error beside the difference without warping.

    python -m benchmarks.warp_error samples/shots/blender_walk

Both are mean squared differences of pictures in [0, 1] over the same pixels, those seen in both frames; the
mask is the shot's `visible`, else by ids and depth. The same along estimated motion, for comparison.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.table import Value, markdown
from pipeline.footage import motion_origin
from pipeline.shot import Shot, open_shot
from pipeline.steady.metrics import Step, pair_error
from pipeline.steps import each_frame, iterate_steps

WANTED = 0.25  # of the difference without warping, issue 5


def measure(shot: Shot) -> dict[str, Value]:
    """The row of one shot, along its motion pass or, without one, along estimated motion."""
    size = {"width": shot.width, "height": shot.height}
    frames = list(each_frame(shot, **size))
    warped, unwarped, seen = [], [], []
    for t, step in enumerate(iterate_steps(shot, **size)):
        still = Step(np.zeros_like(step.flow), step.seen)
        errors = [pair_error(frames[t], frames[t + 1], way) for way in (step, still)]
        if errors[0] is not None and errors[1] is not None:
            warped.append(errors[0])
            unwarped.append(errors[1])
            seen.append(float(step.seen.mean()))
    return {
        "shot": shot.name,
        "motion": motion_origin(shot),
        "steps": len(warped),
        "seen, %": 100 * float(np.mean(seen)),
        "warped, x 1e-4": 1e4 * float(np.mean(warped)),
        "unwarped, x 1e-4": 1e4 * float(np.mean(unwarped)),
        "ratio": float(np.mean(warped) / np.mean(unwarped)),
        "worst step": float(max(w / u for w, u in zip(warped, unwarped, strict=True))),
    }


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def main(paths: tuple[Path, ...]) -> None:
    """Print a row for each of PATHS by its motion pass, and one by estimated motion."""
    rows = []
    for shot in map(open_shot, paths):
        rows.append(measure(shot))
        if motion_origin(shot) == "motion pass":
            rows.append(measure(replace(shot, passes={"rgb": shot.passes["rgb"]})))
    click.echo(markdown(rows))
    click.echo(f"wanted: a ratio of at most {WANTED}")


if __name__ == "__main__":
    main()
