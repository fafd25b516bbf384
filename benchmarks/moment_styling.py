"""Moments styled by the miniature with what a training left behind, each under its own prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.moments import Moment
from pipeline.controls import depth_map, pose_map_points
from pipeline.diffuse import ControlUse, Img2ImgSettings, img2img
from pipeline.files import file_digest, writing
from pipeline.image import UInt8Array
from pipeline.models import EmbeddingUse, LoraUse, Model, apply_loras, load_embeddings, load_model

SEED = 7
AT_ONCE = 8  # frames in one pass, as the miniature renders a shot on a CPU
SETTINGS = Img2ImgSettings(  # as presets/mini_film.toml
    prompt="",
    strength=0.5,
    steps=10,
    guidance=1.0,
    controls=(ControlUse("depth"), ControlUse("pose")),
)


@dataclass(frozen=True)
class Trained:
    """The base as something trained changes it: a LoRA, an embedding, another model; none: the base."""

    label: str
    lora: Path | None = None
    embeddings: tuple[Path, ...] = ()
    """New words, each by the name of its file."""
    model: str | Path = "mini"
    strength: float = SETTINGS.strength

    @property
    def settings(self) -> Img2ImgSettings:
        """How moments are styled with it."""
        return replace(SETTINGS, strength=self.strength)

    def load(self) -> Model:
        """The model to style with. Raises ModelError."""
        model = load_model(self.model)
        if self.lora is not None:
            apply_loras(model, [LoraUse(self.lora)])
        if self.embeddings:
            load_embeddings(model, [EmbeddingUse(path, path.stem) for path in self.embeddings])
        return model

    @cached_property
    def digest(self) -> str:
        """What tells its pictures from those of another training."""
        files = [*([] if self.lora is None else [self.lora]), *self.embeddings]
        folder = Path(self.model)
        files += sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        names = [path.stem for path in self.embeddings]
        said = " ".join([*names, *(file_digest(path) for path in files)])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def words_beside(lora: Path) -> tuple[Path, ...]:
    """The embeddings that a pivotal training wrote with its LoRA."""
    return tuple(sorted((lora.parent / "embeddings").glob("*.safetensors")))


def key_of(trained: Trained, moments: Sequence[Moment]) -> str:
    """A name for the pictures of these moments by this training."""
    said = repr([(m.name, m.scene, m.number, m.prompt) for m in moments]) + repr((trained.settings, SEED))
    return f"{trained.digest}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def styled(trained: Trained, moments: Sequence[Moment], folder: Path) -> UInt8Array:
    """The moments' engine frames restyled, uint8 [N, H, W, 3]; what an earlier run left is not made again.

    Raises ModelError and OutputError.
    """
    path = folder / f"{key_of(trained, moments)}.npz"
    if path.exists():
        with np.load(path) as stored:
            kept: UInt8Array = stored["frames"]
            return kept
    model = trained.load()
    frames = np.concatenate(
        [
            _style(model, moments[start : start + AT_ONCE], trained.settings, start)
            for start in range(0, len(moments), AT_ONCE)
        ]
    )
    partial = path.with_suffix(".partial.npz")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(partial, frames=frames)
        partial.rename(path)
    return frames


def _style(model: Model, moments: Sequence[Moment], settings: Img2ImgSettings, first: int) -> UInt8Array:
    """One pass; frame number k of all has noise of its own."""
    frames = [moment.frame for moment in moments]
    height, width = frames[0].depth.shape
    controls = {
        "depth": np.concatenate([depth_map(frame.depth[None]) for frame in frames]),
        "pose": np.stack([pose_map_points(frame.points, height, width) for frame in frames]),
    }
    result: UInt8Array = img2img(
        model,
        np.stack([frame.engine for frame in frames]),
        controls,
        settings,
        [SEED + first + number for number in range(len(frames))],
        prompts=[(moment.prompt, "") for moment in moments],
    )
    return result
