"""How good the miniature is while it trains: restyle held-out engine frames and compare with the film
truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.controls import depth_map, pose_map_points
from pipeline.diffuse import ControlUse, Img2ImgSettings, img2img
from pipeline.models import FAMILIES, Model
from pipeline.steady.picture import psnr
from samples.miniature.model import Parts
from samples.stage.captions import caption
from samples.stage.cast import CAST, is_held_out
from samples.stage.render import Frame, render
from samples.stage.sampling import random_scene
from samples.stage.scene import Scene
from training.likeness import forced_choice

UInt8Array = NDArray[np.uint8]
NUM_SCENES = 20
HELD_OUT_SEED = 987654321


@dataclass(frozen=True)
class Case:
    """A held-out frame, the film truth of every member in the role, and who plays it."""

    who: str
    prompt: str
    frame: Frame
    truths: dict[str, UInt8Array]


@dataclass(frozen=True)
class Score:
    """Mean PSNR to the truth in dB, of the styled and of the engine frames; share of right forced choices."""

    styled: float
    engine: float
    right: float
    sheet: UInt8Array  # engine | styled | truth


@cache
def cases() -> list[Case]:
    """Fixed scenes with members whose looks base training may say in words; rendered once."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    members = [m for m in CAST if not is_held_out(m)]
    out = []
    for index in range(NUM_SCENES):
        member = members[index % len(members)]
        scene = random_scene(rng, member=member, pair_odds=0.0, framing_odds=(0.35, 0.55, 0.10))
        number = int(rng.integers(scene.num_frames))
        out.append(Case(member.name, caption(scene, number), render(scene, number), truths_of(scene, number)))
    return out


def truths_of(scene: Scene, number: int, role: int = 0) -> dict[str, UInt8Array]:
    """The film truth of a frame with each member of the cast in the role."""
    return {m.name: render(scene.recast(role, m), number).film for m in CAST}


def as_model(parts: Parts) -> Model:
    """The parts as the pipeline's model."""
    return Model(
        family=FAMILIES["mini"],
        unet=parts.unet,
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        controlnets=parts.controlnets,
        scheduler_config=dict(parts.scheduler.config),
    )


def score(model: Model, *, strength: float = 0.7, steps: int = 10, guidance: float = 2.0) -> Score:
    """Restyle every case and judge it."""
    styled_frames, rows, right, styled_db, engine_db = [], [], 0, [], []
    for index, case in enumerate(cases()):
        settings = Img2ImgSettings(
            prompt=case.prompt, strength=strength, steps=steps, guidance=guidance,
            controls=(ControlUse("depth"), ControlUse("pose")),
        )  # fmt: skip
        controls: dict[str, Any] = {
            "depth": depth_map(case.frame.depth[None]),
            "pose": pose_map_points(case.frame.points, *case.frame.depth.shape)[None],
        }
        styled = img2img(model, case.frame.engine[None], controls, settings, [index])[0]
        styled_frames.append(styled)
        mask = (case.frame.ids >> 8) == 1
        if mask.sum() >= 64:
            right += forced_choice(styled, case.truths, mask=mask, parts=case.frame.ids)[0] == case.who
        styled_db.append(psnr(styled, case.frame.film))
        engine_db.append(psnr(case.frame.engine, case.frame.film))
        rows.append(np.concatenate([case.frame.engine, styled, case.frame.film], axis=1))
    columns = [np.concatenate(rows[i::4], axis=0) for i in range(min(4, len(rows)))]
    return Score(
        float(np.mean(styled_db)),
        float(np.mean(engine_db)),
        right / NUM_SCENES,
        np.concatenate(columns, axis=1),
    )
