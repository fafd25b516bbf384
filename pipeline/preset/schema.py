"""What a preset may say, and what its beats may change.

Values are taken as written (strict types: `steps = "8"` is an error) and checked against the ranges here.
What depends on the shot or on the model (control kinds, sizes, passes that exist) is checked in
`pipeline.plan`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, model_validator

from pipeline.preset.origin import Location, Origin, Origins
from pipeline.preset.sampling import Scheduler, Spacing, SpeedName
from pipeline.preset.tables import (
    BesidePath,
    Control,
    ControlWeight,
    Embedding,
    Estimating,
    Fraction01,
    Guidance,
    Lora,
    Output,
    Region,
    Seed,
    Side,
    SpeedLora,
    Steps,
    Strict,
    Temporal,
    Variables,
    Views,
    Weight,
)

__all__ = ["Beat", "BeatControl", "BeatLora", "BeatRegion", "BeatTemporal", "Preset"]


class BeatControl(Strict):
    """What a beat changes of a control."""

    weight: ControlWeight | None = Field(default=None, description="How much it steers.")
    start: Fraction01 | None = Field(default=None, description="On from this share of the executed steps ...")
    end: Fraction01 | None = Field(default=None, description="... to this one.")


class BeatLora(Strict):
    """What a beat changes of a LoRA."""

    weight: Weight | None = Field(
        default=None, description="1 is as trained; the text encoder's too where that has none of its own."
    )
    text_weight: Weight | None = Field(default=None, description="The weight on the text encoder.")


class BeatRegion(Strict):
    """What a beat changes of a region."""

    prompt: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="A template.")
    negative: str | None = Field(default=None, description="A template; read when guidance > 1.")
    vars: Variables = Field(default_factory=dict, description="Variables that differ here.")
    weight: Fraction01 | None = Field(
        default=None, description="How much it counts against the rest of the frame."
    )
    lora: dict[str, BeatLora] = Field(
        default_factory=dict, description="By the file's name without its suffix, as for the frame's."
    )


class BeatTemporal(Strict):
    """What a beat changes of the blending."""

    weight: Fraction01 | None = Field(default=None, description="The share of the carried pixels.")
    until: Fraction01 | None = Field(
        default=None, description="The share of the executed steps in which they are held in the latents."
    )


class Beat(Strict):
    """A range of frames with settings of its own; a later beat lies over an earlier one."""

    frames: tuple[int, int] | None = Field(
        default=None, description="[first, last] frame numbers as on disk, both included."
    )
    seconds: tuple[float, float] | None = Field(
        default=None, description="[from, to) seconds from the start of the shot, in place of `frames`."
    )
    ease: Annotated[float, Field(ge=0.0, le=100_000.0)] = Field(
        default=0.0,
        description="Length of the transition before and after the range, in frames (or seconds with "
        "`seconds`): numbers are eased, prompts mixed.",
    )
    prompt: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="A template.")
    negative: str | None = Field(default=None, description="A template; read when guidance > 1.")
    vars: Variables = Field(default_factory=dict, description="Variables that differ from [vars].")
    strength: Fraction01 | None = Field(default=None, description="0 keeps the render, 1 forgets it.")
    steps: Steps | None = Field(default=None, description="Length of the whole schedule.")
    guidance: Guidance | None = Field(default=None, description="How much the prompt is followed.")
    scheduler: Scheduler | None = Field(default=None, description="The sampler; it switches half-way.")
    seed: Seed | None = Field(default=None, description="Of the starting noise; it switches half-way.")
    control: dict[str, BeatControl] = Field(
        default_factory=dict, description="By kind, as in control.depth.weight = 0.5."
    )
    lora: dict[str, BeatLora] = Field(
        default_factory=dict,
        description="By the file's name without its suffix, as in lora.iris.weight = 0.5.",
    )
    region: dict[str, BeatRegion] = Field(
        default_factory=dict, description="By its name, as in region.iris.weight = 0.5."
    )
    temporal: BeatTemporal = Field(default=BeatTemporal(), description="What changes of the blending.")

    @model_validator(mode="after")
    def _one_range(self) -> Beat:
        if (self.frames is None) == (self.seconds is None):
            raise ValueError("a beat needs either frames = [first, last] or seconds = [from, to]")
        if self.frames is not None and self.frames[0] > self.frames[1]:
            raise ValueError(f"frames {list(self.frames)}: the first is after the last")
        if self.seconds is not None and not 0.0 <= self.seconds[0] < self.seconds[1]:
            raise ValueError(f"seconds {list(self.seconds)}: expected 0 <= from < to")
        if not self.model_fields_set - {"frames", "seconds", "ease"}:
            raise ValueError("the beat changes nothing; give it a setting or take it out")
        return self


class Preset(Strict):
    """One look for one shot."""

    model: Annotated[str, Field(min_length=1)] = Field(
        default="mini",
        description="A built-in model's name; a checkpoint or model folder, relative to the preset file; "
        "or a hub id (org/name).",
    )
    vae: BesidePath | None = Field(
        default=None,
        description="A VAE in place of the model's own: a file or folder, relative to the preset file; a "
        "TAESD-shaped one is fast and rough.",
    )
    allow_pickle: bool = Field(
        default=False,
        description="Also read a model or VAE from a pickle (.ckpt, .pt, .bin), of it only plain weights.",
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
    clip_skip: Annotated[int, Field(ge=1, le=12)] = Field(
        default=1,
        description="At which layer from its end the text encoder is read; 1 is the usual one, some "
        "checkpoints want 2.",
    )
    scheduler: Scheduler = Field(
        default="ddim", description="The sampler, by its own name or as web UIs write it."
    )
    spacing: Spacing | None = Field(
        default=None,
        description="How the schedule's timesteps are spread; absent: as the model's own scheduler says.",
    )
    speed: SpeedName = Field(
        default="quality",
        description='Few-step sampling: "lcm", "hyper" and "turbo" set the scheduler, its spacing, guidance '
        'and steps where no key does, and add the LoRA that it needs; "quality" changes nothing.',
    )
    speed_lora: SpeedLora | None = Field(
        default=None,
        description="The speed's LoRA: a file relative to the preset file's folder, or \"merged\" where the "
        "checkpoint has it in; absent: from the Hugging Face hub.",
    )
    seed: Seed = Field(default=1, description="Of the starting noise.")
    size: tuple[Side, Side] | None = Field(
        default=None,
        description="[width, height] in pixels; absent: the shot's aspect at the model's own size.",
    )
    batch: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8,
        description='Frames styled together with method "frame" on an accelerator; a CPU has its own number.',
    )
    vars: Variables = Field(default_factory=dict, description="The {names} that the prompts may use.")
    control: tuple[Control, ...] = Field(default=(), description="One [[control]] for each ControlNet.")
    lora: tuple[Lora, ...] = Field(default=(), description="One [[lora]] for each LoRA file.")
    embedding: tuple[Embedding, ...] = Field(
        default=(), description="One [[embedding]] for each textual inversion."
    )
    region: tuple[Region, ...] = Field(
        default=(), description="One [[region]] for each part of the frame with a prompt of its own."
    )
    estimate: Estimating = Field(
        default=Estimating(), description="What becomes of passes that the shot lacks."
    )
    views: Views = Field(default=Views(), description="How {view} is named from the joints.")
    beat: tuple[Beat, ...] = Field(
        default=(), description="One [[beat]] for each range of frames with settings of its own."
    )
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

    def all_loras(self) -> tuple[tuple[Location, Lora], ...]:
        """Every LoRA and where it stands, in the order of looks' weights: the frame's, then each region's."""
        places: list[tuple[Location, Lora]] = [(("lora", i), lora) for i, lora in enumerate(self.lora)]
        for index, region in enumerate(self.region):
            places += [(("region", index, "lora", i), lora) for i, lora in enumerate(region.lora)]
        return tuple(places)

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

    @model_validator(mode="after")
    def _each_embedding_once(self) -> Preset:
        words = [" ".join(embedding.word.lower().split()) for embedding in self.embedding]
        twice = sorted({word for word in words if words.count(word) > 1})
        if twice:
            raise ValueError(f"two embeddings are named '{twice[0]}'; give one of them another name")
        return self

    @model_validator(mode="after")
    def _each_region_once(self) -> Preset:
        titles = [region.title for region in self.region]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"two regions are called '{twice[0]}'; give one of them another name")
        return self
