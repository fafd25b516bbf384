"""What a preset may say: strict, frozen, every key known, each described for editors.

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

from pipeline.preset.origin import Origin, Origins

Fraction01 = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=-4.0, le=4.0)]
ControlWeight = Annotated[float, Field(ge=0.0, le=4.0)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Guidance = Annotated[float, Field(ge=1.0, le=50.0)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Side = Annotated[int, Field(ge=16, le=8192)]
Scheduler = Literal["ddim", "euler", "dpmpp_2m"]
Variables = dict[str, str | int | float]


def _beside_the_file(value: Any, info: ValidationInfo) -> Any:
    """A path is relative to the preset's folder, given as the validation context."""
    if not isinstance(value, str) or not value:
        return value  # pydantic then says what it expected
    folder = (info.context or {}).get("folder", Path())
    try:
        return (folder / Path(value).expanduser()).resolve()
    except RuntimeError as error:  # ~name of nobody here
        raise ValueError(f"found {value!r}; {error}") from None


BesidePath = Annotated[Path, BeforeValidator(_beside_the_file)]


class Strict(BaseModel):
    """A table of a preset: unknown keys and wrong types are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


class Control(Strict):
    """One ControlNet, on in [start, end] of the executed steps."""

    kind: str = Field(description='What it is drawn from, as the model names it: "depth" or "pose".')
    weight: ControlWeight = Field(default=1.0, description="How much it steers; 0 is off.")
    start: Fraction01 = Field(default=0.0, description="On from this share of the executed steps ...")
    end: Fraction01 = Field(default=1.0, description="... to this one.")

    @model_validator(mode="after")
    def _some_steps(self) -> Control:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be smaller than end {self.end}")
        return self


class Lora(Strict):
    """One LoRA file."""

    path: BesidePath = Field(description="The .safetensors file; relative to the preset file's folder.")
    weight: Weight = Field(default=1.0, description="1 is as trained, 0 off, negative the opposite.")
    text_weight: Weight | None = Field(
        default=None, description="The weight on the text encoder; absent: the same as `weight`."
    )


class Temporal(Strict):
    """How frames are held together in time."""

    method: Literal["frame", "blend"] = Field(
        default="frame",
        description='"frame" styles each frame alone, in batches; "blend" carries the previous styled frame '
        "along the motion.",
    )
    noise: Literal["fixed", "fresh"] = Field(
        default="fixed", description='"fixed" starts every frame from the same noise, "fresh" from its own.'
    )
    weight: Fraction01 = Field(
        default=0.75, description='For "blend": the share of the carried pixels where they are visible.'
    )
    until: Fraction01 = Field(
        default=0.5,
        description='For "blend": the share of the executed steps in which the carried pixels are held '
        "in the latents too.",
    )


class Output(Strict):
    """The video that is made of the frames."""

    crf: Annotated[int, Field(ge=0, le=51)] = Field(
        default=16, description="x264's quality: 0 lossless, 51 worst."
    )
    scale: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1, description="The video's pixels are enlarged so many times; the frames are not."
    )


class Preset(Strict):
    """One look for one shot."""

    model: Annotated[str, Field(min_length=1)] = Field(
        default="mini", description="A model's name, or a model folder relative to the preset file."
    )
    prompt: Annotated[str, Field(min_length=1)] = Field(
        description="A template: {name} is replaced by that variable of [vars]."
    )
    negative: str = Field(
        default="", description="What to keep away from, a template too; read when guidance > 1."
    )
    strength: Fraction01 = Field(
        default=0.6, description="0 keeps the render, 1 forgets it; steps * strength are executed."
    )
    steps: Steps = Field(default=8, description="Length of the whole schedule.")
    guidance: Guidance = Field(
        default=2.0, description="How much the prompt is followed; 1 is no guidance, at half the time."
    )
    scheduler: Scheduler = Field(default="ddim", description="The sampler.")
    seed: Seed = Field(default=1, description="Of the starting noise.")
    size: tuple[Side, Side] | None = Field(
        default=None,
        description="[width, height] in pixels; absent: the shot's aspect at the model's own size.",
    )
    batch: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description='Frames styled together with method "frame".'
    )
    vars: Variables = Field(default_factory=dict, description="The {names} that the prompts may use.")
    control: tuple[Control, ...] = Field(default=(), description="One [[control]] for each ControlNet.")
    lora: tuple[Lora, ...] = Field(default=(), description="One [[lora]] for each LoRA file.")
    temporal: Temporal = Field(default=Temporal(), description="How frames are held together in time.")
    output: Output = Field(default=Output(), description="The video that is made of the frames.")

    _source: Path = PrivateAttr(default=Path("preset"))
    _origins: Origins = PrivateAttr(default_factory=lambda: Origins(Path("preset")))
    _files: tuple[Path, ...] = PrivateAttr(default=())

    @property
    def source(self) -> Path:
        """The file this preset was read from, for messages."""
        return self._source

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it was merged from, the base first; none for a preset made in code."""
        return self._files

    def where(self, *location: int | str) -> str:
        """`file:section.key` of where a key was written, or `--set section.key`."""
        return str(self._origins.find(location))

    def origin(self, *location: int | str) -> Origin | None:
        """Where a key was written; None for one that no file gave, which has its default."""
        return self._origins.written(location)

    def folder_of(self, *location: int | str) -> Path:
        """The folder that a relative path written there counts from."""
        return (self._origins.find(location).file or self._source).parent

    @model_validator(mode="after")
    def _each_control_once(self) -> Preset:
        kinds = [control.kind for control in self.control]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"control kind '{twice[0]}' is given twice; keep one [[control]] of each kind")
        return self
