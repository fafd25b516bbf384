"""A small shot with every pass, whose values are known."""

from __future__ import annotations

import numpy as np

from pipeline.shot import Figure, FrameJoints, FramePasses, Motion

T, H, W = 6, 24, 40


def make_passes(num_frames: int = T, *, seed: int = 0) -> FramePasses:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:H, :W].astype(np.float32)
    depth = np.stack([np.where(y < 5, np.inf, 2.0 + x / 7 + t * 0.01) for t in range(num_frames)])
    forward = rng.normal(0, 3, (num_frames, H, W, 2)).astype(np.float32)
    backward = rng.normal(0, 3, (num_frames, H, W, 2)).astype(np.float32)
    forward[-1], backward[0] = np.nan, np.nan
    normal = rng.normal(0, 1, (num_frames, H, W, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return FramePasses(
        rgb=rng.integers(0, 256, (num_frames, H, W, 3), dtype=np.uint8),
        depth=depth.astype(np.float32),
        normal=normal,
        motion=Motion(forward=forward, backward=backward),
        ids=rng.integers(0, 65536, (num_frames, H, W), dtype=np.uint32),
        visible=rng.integers(0, 4, (num_frames, H, W), dtype=np.uint8),
        truth=rng.integers(0, 256, (num_frames, H, W, 3), dtype=np.uint8),
        joints=tuple(make_joints(7 + t, rng) for t in range(num_frames)),
    )


def make_joints(frame: int, rng: np.random.Generator) -> FrameJoints:
    points = rng.uniform(0, W, (18, 3)).astype(np.float32)
    points[:, 2] = rng.integers(0, 3, 18)
    world = rng.normal(0, 1, (18, 3)).astype(np.float32)
    figure = Figure(name="iris", id=1, points=points, world=world)
    return FrameJoints(frame=frame, figures=(figure,), camera={"focal": 50.0})
