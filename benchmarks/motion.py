"""Motion vectors read back from every encoding, with the label withheld: the probe has to find it.

    python -m benchmarks.motion [--frames 40] [--size 192]
    python -m benchmarks.motion --fresh 12 --seed 7 [--bare]     # random scenes; shutters

Stage shots are written as Unity, Blender, Unreal and plain pixel buffers would hold them, always under the
channel names R G B A. A case is right if the probe names the direction and the flow read back is within
0.05 px of the truth at every point that both frames see. A shot in which nothing moves must be refused.
Vectors over a part of a frame (a shutter) or over two frames have a factor that is measured: there 12 % of
the vector's length are allowed. --bare takes the joints away: most renderers write none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import click
import numpy as np

from benchmarks.table import Value, markdown
from pipeline.image import Float32Array, UInt8Array
from pipeline.shot import (
    FramePasses,
    Motion,
    Shot,
    open_shot,
    probe_motion,
    read_motion,
    read_pass,
    write_shot,
)
from pipeline.shot.exr import write_channels
from samples.stage.render import render
from samples.stage.sampling import random_scene
from samples.stage.scene import Scene
from samples.stage.shots import SAMPLE_SHOTS, passes_of

SEED = 20_270_000  # random scenes are (SEED, index); none of them is in any training set
RANDOM_INDICES = (2, 4)
WINDOW = 8
WANTED_PIXELS = 0.05
NAMES = ("R", "G", "B", "A")

Encode = Callable[[Float32Array, Float32Array], Float32Array]


def _size(flow: Float32Array) -> Float32Array:
    return np.array([flow.shape[1], flow.shape[0]], np.float32)


def _unreal(forward: Float32Array, backward: Float32Array) -> Float32Array:
    """Common.ush, EncodeVelocityToTexture: NDC, current - previous, y up, 16-bit unsigned; 0 = not drawn."""
    velocity = -backward / (_size(backward) / 2) * np.array([1, -1], np.float32)
    stored = np.rint((velocity * 0.499 * 0.5 + 32767 / 65535) * 65535) / 65535
    return np.where(np.isfinite(backward).all(axis=2, keepdims=True), stored, 0.0).astype(np.float32)


# name -> (how flow [H, W, 2] to t+1 and t-1 becomes stored [H, W, 2 or 4], whether as 16-bit floats)
ENCODINGS: dict[str, tuple[Encode, bool]] = {
    "unity (uv, y up)": (lambda f, b: -b / _size(b) * np.array([1, -1], np.float32), True),
    "unity (uv, y down)": (lambda f, b: -b / _size(b), True),
    "blender XYZW": (lambda f, b: np.concatenate([b, -f], axis=2) * np.tile([1, -1], 2), True),
    "blender XY only": (lambda f, b: b * np.array([1, -1], np.float32), True),
    "unreal": (_unreal, False),
    "pixels, both ways": (lambda f, b: np.concatenate([f, b], axis=2), True),
    "pixels, forward only": (lambda f, b: f, True),
    "pixels, backward only": (lambda f, b: b, True),
    "uv, forward only": (lambda f, b: f / _size(f), True),
}
# The same for vectors that are not over one frame.
SHUTTERS: dict[str, tuple[Encode, bool]] = {
    "pixels / 2.46, forward": (lambda f, b: f / np.float32(2.46), True),
    "blender, half a frame": (
        lambda f, b: np.concatenate([b, -f], axis=2) * np.tile([0.5, -0.5], 2).astype(np.float32),
        True,
    ),
    "unity, 0.6 of a frame": (lambda f, b: -b / _size(b) * np.array([0.6, -0.6], np.float32), True),
    "pixels, two frames": (lambda f, b: b * np.float32(2.0), True),
}
WANTED_SHARE = 0.12  # of a vector's length, where a factor has to be measured: light shortens it


def fresh_scenes(seed: int, count: int) -> dict[str, Scene]:
    """Random scenes by `seed`, as the stage draws them."""
    return {f"{seed}_{i}": random_scene(np.random.default_rng((SEED, seed, i))) for i in range(count)}


def scenes() -> dict[str, Scene]:
    """Five shots that move: the three samples and two random scenes."""
    found = dict(SAMPLE_SHOTS)
    for index in RANDOM_INDICES:
        found[f"random_{index}"] = random_scene(np.random.default_rng((SEED, index)))
    return found


def stage(scene: Scene, root: Path, *, num_frames: int, size: int) -> Shot:
    """The first `num_frames` of a scene as a shot folder with exact motion in 32-bit floats.

    What an earlier run left at `root` is read.
    """
    if root.exists():
        return open_shot(root)
    names = tuple(role.member.name for role in scene.roles)

    def windows() -> list[FramePasses]:
        frames = [render(scene, n, size=(size, size)) for n in range(num_frames)]
        return [
            replace(passes_of(frames[s : s + WINDOW], names=names, first_number=s + 1), truth=None)
            for s in range(0, num_frames, WINDOW)
        ]

    return write_shot(root, windows(), fps=Fraction(scene.fps))


def still(root: Path, shot: Shot) -> Shot:
    """A shot of one picture of `shot` held for eight frames, with vectors of zero."""
    frame: UInt8Array = read_pass(shot, "rgb", 0, 1)
    zero = np.zeros((8, shot.height, shot.width, 2), np.float32)
    passes = FramePasses(rgb=np.repeat(frame, 8, axis=0), motion=Motion(zero, zero.copy()))
    return write_shot(root, [passes], fps=Fraction(24))


def write_encoded(shot: Shot, encoding: str, root: Path) -> Shot:
    """`shot` with its motion pass written in `encoding` and nothing that says so."""
    encode, half = (ENCODINGS | SHUTTERS)[encoding]
    shutil.copytree(shot.root, root, ignore=shutil.ignore_patterns("motion"))
    truth = read_motion(shot, 0, shot.num_frames)
    for t, number in enumerate(shot.frame_numbers):
        stored = encode(truth.forward[t], truth.backward[t])
        planes = {NAMES[k]: np.ascontiguousarray(stored[..., k]) for k in range(stored.shape[2])}
        write_channels(root / "motion" / f"motion.{number:04d}.exr", planes, half=half)
    return open_shot(root)


def case(shot: Shot, truth: Motion, visible: UInt8Array, *, share: float = 0.0) -> dict[str, Value]:
    """Probe one encoded shot; the directions that it wrote are compared with the truth off occlusions.

    The error is the largest over all pixels that the neighbour frame sees, less `share` of the true length;
    "derived" is the 99th percentile of the direction that was not written.
    """
    found = probe_motion(shot)
    if found.encoding is None:
        return {"found": "-", "px": float("inf"), "derived px": 0.0, "why": found.reason}
    read = read_motion(replace(shot, motion=found.encoding), 0, shot.num_frames)
    written, derived = [0.0], [0.0]
    for direction, bit in (("forward", 1), ("backward", 2)):
        exact = getattr(truth, direction)
        apart = np.linalg.norm(getattr(read, direction) - exact, axis=3)
        apart = np.maximum(apart - share * np.linalg.norm(exact, axis=3), 0.0)
        usable = apart[(visible & bit > 0) & np.isfinite(apart)]
        if getattr(found.encoding, direction) is not None:
            written.append(float(usable.max()))
        else:
            derived.append(float(np.quantile(usable, 0.99)))
    return {"found": found.encoding.name, "px": max(written), "derived px": max(derived), "why": found.reason}


def measure(folder: Path, *, num_frames: int, size: int) -> list[dict[str, Value]]:
    """One row a case; the last row is the shot in which nothing moves."""
    rows: list[dict[str, Value]] = []
    shot = None
    for name, scene in scenes().items():
        shot = stage(scene, folder / name, num_frames=num_frames, size=size)
        truth = read_motion(shot, 0, num_frames)
        visible: UInt8Array = read_pass(shot, "visible", 0, num_frames)
        for encoding in ENCODINGS:
            root = folder / "encoded"
            result = case(write_encoded(shot, encoding, root), truth, visible)
            right = "yes" if float(result["px"]) <= WANTED_PIXELS else "NO"
            rows.append({"shot": name, "encoding": encoding, "right": right, **result})
            shutil.rmtree(root)
    assert shot is not None
    for encoding in ENCODINGS:
        encoded = write_encoded(still(folder / f"still_{len(rows)}", shot), encoding, folder / "encoded")
        told = probe_motion(encoded)
        right = "yes" if told.encoding is None else "NO"
        why = told.reason
        rows.append(
            {"shot": "still", "encoding": encoding, "right": right, "found": "-", "px": 0.0,
             "derived px": 0.0, "why": why}
        )  # fmt: skip
        shutil.rmtree(encoded.root)
    return rows


def measure_fresh(
    folder: Path, *, seed: int, count: int, num_frames: int, size: int, bare: bool
) -> list[dict[str, Value]]:
    """One row a case of random scenes: right, "cannot tell" or WRONG."""
    rows: list[dict[str, Value]] = []
    for name, scene in fresh_scenes(seed, count).items():
        shot = stage(scene, folder / name, num_frames=num_frames, size=size)
        truth = read_motion(shot, 0, num_frames)
        visible: UInt8Array = read_pass(shot, "visible", 0, num_frames)
        for encoding in ENCODINGS | SHUTTERS:
            share = WANTED_SHARE if encoding in SHUTTERS else 0.0
            root = folder / "encoded"
            encoded = write_encoded(shot, encoding, root)
            if bare:
                (root / "joints.json").unlink()
                encoded = open_shot(root)
            result = case(encoded, truth, visible, share=share)
            shutil.rmtree(root)
            right = "yes" if float(result["px"]) <= WANTED_PIXELS else "WRONG"
            said = "cannot tell" if result["found"] == "-" else right
            rows.append({"shot": name, "encoding": encoding, "right": said, **result})
    return rows


def _of_fresh(rows: list[dict[str, Value]]) -> str:
    lines = []
    for title, names in (("over one frame", ENCODINGS), ("not over one frame", SHUTTERS)):
        said = [row["right"] for row in rows if row["encoding"] in names]
        counts = ", ".join(f"{said.count(word)} {word}" for word in ("yes", "cannot tell", "WRONG"))
        lines.append(f"{title}: of {len(said)} cases {counts}")
    return "\n".join(lines)


@click.command()
@click.option("--fresh", default=0, help="That many random scenes in place of the five.")
@click.option("--seed", default=0, show_default=True, help="Which random scenes.")
@click.option("--bare", is_flag=True, help="Random scenes without joints.")
@click.option("--frames", "num_frames", default=40, show_default=True, help="Frames of each shot, 8 to 48.")
@click.option("--size", default=192, show_default=True, help="Pixels a side.")
def main(fresh: int, seed: int, bare: bool, num_frames: int, size: int) -> None:
    """Print one row per shot and encoding, and the share that is right."""
    with tempfile.TemporaryDirectory() as folder:
        if fresh:
            sizes = {"num_frames": num_frames, "size": size}
            rows = measure_fresh(Path(folder), seed=seed, count=fresh, bare=bare, **sizes)
            click.echo(markdown(rows) + "\n" + _of_fresh(rows))
            return
        rows = measure(Path(folder), num_frames=num_frames, size=size)
    click.echo(markdown(rows))
    right = sum(row["right"] == "yes" for row in rows)
    click.echo(f"{right} of {len(rows)} right; wanted: all, within {WANTED_PIXELS} px off occlusions")


if __name__ == "__main__":
    main()
