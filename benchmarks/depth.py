"""The depth probe with the label withheld: five stage shots, each written in every way.

    python -m benchmarks.depth [--frames 40] [--size 192]

A case is right if the probe names the kind, or says that it cannot tell; wrong if it names another. Depth
read back is compared with the truth where near, far and scale came from the joints.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.motion import scenes, stage
from benchmarks.table import Value, markdown
from pipeline.image import Float32Array
from pipeline.shot import Shot, open_shot, probe_depth, read_pass
from pipeline.shot.exr import write_channels

NEAR, FAR = 0.1, 100.0


def _device(z: Float32Array, near: float, far: float) -> Float32Array:
    return ((1 / near - 1 / z) / (1 / near - 1 / far)).astype(np.float32)


# name -> (how metres become what is stored, the kind, whether as 16-bit floats)
ENCODINGS: Mapping[str, tuple[Callable[[Float32Array], Float32Array], str, bool]] = {
    "metres": (lambda z: z, "linear", True),
    "centimetres": (lambda z: z * 100, "linear", True),
    "normalised, 0.1 to 100 m": (lambda z: _device(z, NEAR, FAR), "normalised", False),
    "reversed, 0.1 to 100 m": (lambda z: 1 - _device(z, NEAR, FAR), "reversed", False),
    "reversed, 0.3 m to infinity": (lambda z: np.float32(0.3) / z, "reversed", False),
    "linear from 0.1 to 20 m": (lambda z: (z - np.float32(0.1)) / np.float32(19.9), "unit", False),
    "reversed, 16 bits": (lambda z: 1 - _device(z, NEAR, FAR), "reversed", True),
}


def write_encoded(shot: Shot, encoding: str, root: Path) -> Shot:
    """`shot` with its depth pass written in `encoding` and nothing that says so."""
    encode, _, half = ENCODINGS[encoding]
    shutil.copytree(shot.root, root, ignore=shutil.ignore_patterns("depth"))
    for t, number in enumerate(shot.frame_numbers):
        stored = encode(read_pass(shot, "depth", t, t + 1)[0])
        write_channels(root / "depth" / f"depth.{number:04d}.exr", {"R": stored}, half=half)
    return open_shot(root)


def case(shot: Shot, encoded: Shot, kind: str) -> dict[str, Value]:
    """What the probe says, and the median relative error of the depth read back."""
    found = probe_depth(encoded)
    if found.encoding is None:
        return {"found": "-", "right": "cannot tell", "error, %": 0.0, "why": found.reason}
    truth = read_pass(shot, "depth", 0, shot.num_frames)
    back = read_pass(replace(encoded, depth=found.encoding), "depth", 0, shot.num_frames)
    error = float(np.median(np.abs(back / truth - 1)))
    right = "yes" if found.encoding.kind == kind else "NO"
    return {"found": found.encoding.kind, "right": right, "error, %": 100 * error, "why": found.reason}


@click.command()
@click.option("--frames", "num_frames", default=40, show_default=True, help="Frames of each shot.")
@click.option("--size", default=192, show_default=True, help="Pixels a side.")
def main(num_frames: int, size: int) -> None:
    """Print one row for each shot and encoding."""
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as name:
        for title, scene in scenes().items():
            shot = stage(scene, Path(name) / title, num_frames=num_frames, size=size)
            for encoding, (_, kind, _) in ENCODINGS.items():
                root = Path(name) / "encoded"
                rows.append(
                    {
                        "shot": title,
                        "encoding": encoding,
                        **case(shot, write_encoded(shot, encoding, root), kind),
                    }
                )
                shutil.rmtree(root)
    click.echo(markdown(rows))
    told = [row for row in rows if row["right"] != "cannot tell"]
    right = sum(row["right"] == "yes" for row in told)
    click.echo(f"{right} right, {len(told) - right} wrong, {len(rows) - len(told)} cannot tell")


if __name__ == "__main__":
    main()
