"""Small shots and presets that the render side's tests share."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.shot import Figure, FrameJoints, FramePasses, Motion, Shot, write_shot

SIZE = 64
STEP = 3  # pixels that everything moves to the right from frame to frame


def texture(height: int, width: int) -> np.ndarray:
    """A smooth coloured pattern, uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / 5 + k) * np.cos(y / (7 + k)) for k in range(3)]
    return (127.5 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def passes(num_frames: int, *, size: int = SIZE) -> FramePasses:
    """A textured wall that slides to the right by STEP pixels a frame, with exact passes and one figure."""
    wall = texture(size, size + STEP * num_frames)
    starts = [STEP * (num_frames - t) for t in range(num_frames)]
    rgb = np.stack([wall[:, start : start + size] for start in starts])
    forward = np.zeros((num_frames, size, size, 2), np.float32)
    forward[..., 0] = STEP
    backward = -forward
    forward[-1], backward[0] = np.nan, np.nan
    visible = np.full((num_frames, size, size), 3, np.uint8)
    visible[:, :, :STEP] &= 1  # what slid in was not seen before
    return FramePasses(
        rgb=rgb,
        depth=np.full((num_frames, size, size), 3.0, np.float32),
        motion=Motion(forward=forward, backward=backward),
        ids=np.ones((num_frames, size, size), np.uint32),
        visible=visible,
        joints=tuple(_joints(t, size) for t in range(num_frames)),
    )


def _joints(t: int, size: int) -> FrameJoints:
    points = np.full((18, 3), 2.0, np.float32)
    points[:, 0] = np.linspace(0.2, 0.8, 18) * size + STEP * t / 2
    points[:, 1] = np.linspace(0.1, 0.9, 18) * size
    return FrameJoints(frame=t + 1, figures=(Figure(name="iris", id=1, points=points),))


def make_shot(root: Path, *, num_frames: int = 5, size: int = SIZE) -> Shot:
    """Write the shot folder with every pass."""
    return write_shot(root, [passes(num_frames, size=size)], fps=Fraction(24))


def make_preset(path: Path, model: Path | str = "mini", *, extra: str = "", method: str = "frame") -> Path:
    """A preset for small renders; `extra` is TOML put at its end."""
    path.write_text(
        f"""
model = "{model}"
prompt = "film look, iris"
strength = 0.6
steps = 5
size = [{SIZE}, {SIZE}]
batch = 2
[temporal]
method = "{method}"
{extra}
""",
        encoding="utf-8",
    )
    return path


CONTROLS = """
[[control]]
kind = "depth"
[[control]]
kind = "pose"
"""
