"""Renders of held-out shots through the product's own path, one folder for each way of rendering."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.image import UInt8Array, read_png
from pipeline.preset import Control, Lora, Preset, Temporal
from pipeline.render import render_shot
from pipeline.shot import Shot


@dataclass(frozen=True)
class Variant:
    """One way of rendering. `lora` None = without; `controls` = depth and pose, or none."""

    lora: Path | None
    strength: float = 0.7
    controls: bool = True
    method: Literal["frame", "blend"] = "frame"
    noise: Literal["fixed", "fresh"] = "fixed"

    @property
    def folder(self) -> str:
        """A folder name that tells the variants apart."""
        lora = self.lora.stem if self.lora else "none"
        controls = "controlled" if self.controls else "free"
        return f"{lora}-{self.strength:g}-{controls}-{self.method}-{self.noise}"


@dataclass(frozen=True)
class Renderer:
    """What all renders of one benchmark share."""

    out: Path
    model: str = "mini"
    steps: int = 10
    guidance: float = 2.0
    seed: int = 7
    until: float = 0.0  # share of the steps in which blending holds known latents, as in the sample presets

    def frames(self, shot: Shot, prompt: str, variant: Variant) -> UInt8Array:
        """The styled frames, uint8 RGB [T, H, W, 3]; what is there from an earlier run is not made again.

        Raises UserError as `lookdev render` would.
        """
        preset = Preset(
            model=self.model,
            prompt=prompt,
            negative="flat grey engine look",
            strength=variant.strength,
            steps=self.steps,
            guidance=self.guidance,
            seed=self.seed,
            size=(shot.width, shot.height),
            control=(Control(kind="depth"), Control(kind="pose")) if variant.controls else (),
            lora=_loras(variant.lora),
            temporal=Temporal(method=variant.method, noise=variant.noise, until=self.until),
        )
        result = render_shot(shot, preset, self.out / variant.folder)
        files = sorted((result.video.parent / "frames").glob("styled.*.png"))
        return np.stack([read_png(path) for path in files])


def _loras(path: Path | None) -> tuple[Lora, ...]:
    return () if path is None else (Lora.model_validate({"path": str(path.resolve())}),)
