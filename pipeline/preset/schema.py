"""What a preset file may say: strict, frozen, every key known.

Values are taken as written (strict types: `steps = "8"` is an error) and checked against the ranges here.
What depends on the shot or on the model (control kinds, sizes, passes that exist) is checked in
`pipeline.plan`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

Fraction01 = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=-4.0, le=4.0)]


def _beside_the_file(value: Any, info: ValidationInfo) -> Any:
    """A path in a preset is relative to the preset's folder, given as the validation context."""
    if not isinstance(value, str) or not value:
        return value  # pydantic then says what it expected
    folder = (info.context or {}).get("folder", Path())
    try:
        return (folder / Path(value).expanduser()).resolve()
    except RuntimeError as error:  # ~name of nobody here
        raise ValueError(f"found {value!r}; {error}") from None


BesidePath = Annotated[Path, BeforeValidator(_beside_the_file)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


class Control(_Strict):
    """One ControlNet: `kind` as the family names it ("depth", "pose"), on in [start, end] of the steps."""

    kind: str
    weight: Annotated[float, Field(ge=0.0, le=4.0)] = 1.0
    start: Fraction01 = 0.0
    end: Fraction01 = 1.0

    @model_validator(mode="after")
    def _some_steps(self) -> Control:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be smaller than end {self.end}")
        return self


class Lora(_Strict):
    """One LoRA file; `text_weight` is the weight on the text encoder, the same as `weight` when absent."""

    path: BesidePath
    weight: Weight = 1.0
    text_weight: Weight | None = None


class Temporal(_Strict):
    """How frames are held together in time.

    method: "frame" styles each frame alone, in batches; "blend" carries the previous styled frame along the
    motion.
    noise: "fixed" starts every frame from the same noise, "fresh" from its own (seed + frame index).
    weight, until: for "blend". The share of the carried pixels in the result where they are visible, and the
    share of the executed steps during which they are also held in the latents.
    """

    method: Literal["frame", "blend"] = "frame"
    noise: Literal["fixed", "fresh"] = "fixed"
    weight: Fraction01 = 0.75
    until: Fraction01 = 0.5


class Output(_Strict):
    """`crf` is x264's quality: 0 lossless, 51 worst. `scale` enlarges the video's pixels, not the frames."""

    crf: Annotated[int, Field(ge=0, le=51)] = 16
    scale: Annotated[int, Field(ge=1, le=16)] = 1


class Preset(_Strict):
    """One look for one shot. `size` is (width, height); absent: the shot's aspect at the model's size."""

    model: Annotated[str, Field(min_length=1)] = "mini"
    prompt: Annotated[str, Field(min_length=1)]
    negative: str = ""
    strength: Fraction01 = 0.6
    steps: Annotated[int, Field(ge=1, le=1000)] = 8
    guidance: Annotated[float, Field(ge=1.0, le=50.0)] = 2.0
    scheduler: Literal["ddim", "euler", "dpmpp_2m"] = "ddim"
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 1
    size: tuple[Annotated[int, Field(ge=16, le=8192)], Annotated[int, Field(ge=16, le=8192)]] | None = None
    batch: Annotated[int, Field(ge=1, le=256)] = 8
    vars: dict[str, str | int | float] = Field(default_factory=dict)
    control: tuple[Control, ...] = ()
    lora: tuple[Lora, ...] = ()
    temporal: Temporal = Temporal()
    output: Output = Output()

    _source: Path = PrivateAttr(default=Path("preset"))

    @property
    def source(self) -> Path:
        """The file this preset was read from, for messages."""
        return self._source

    @model_validator(mode="after")
    def _each_control_once(self) -> Preset:
        kinds = [control.kind for control in self.control]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"control kind '{twice[0]}' is given twice; keep one [[control]] of each kind")
        return self
