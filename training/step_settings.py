"""The keys of `[train]` that say how a step is taken; `training.schema` has those of what is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Optimizer = Literal["adamw", "adamw8bit", "prodigy", "schedulefree"]
LearningRateShape = Literal["cosine", "linear", "constant"]
Pick = Literal["last", "validation", "likeness"]

MAX_STEPS = 1_000_000  # what each step shows is drawn up before the first: some seconds and 0.3 GB
VALIDATIONS = 10  # in a run, unless `validate_every` says otherwise


class StrictModel(BaseModel):
    """Unknown keys, wrong types and infinities are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=False, allow_inf_nan=False
    )


class StepSettings(StrictModel):
    """How a step is taken, judged and kept."""

    steps: int = Field(default=250, ge=1, le=MAX_STEPS)
    batch: int = Field(default=8, ge=1, le=1024)
    """Images that go through the network together."""
    accumulate: int = Field(default=1, ge=1, le=1024)
    """Batches whose gradients make one step: a step sees batch x accumulate images."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    optimizer: Optimizer = "adamw"
    schedule: LearningRateShape | None = None
    """Of the learning rate after the warm-up; absent: cosine, constant for the schedule-free optimizer."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises."""
    text_stop: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps after which the text encoder learns no more (`text_lr` is its rate)."""
    noise_offset: float = Field(default=0.0, ge=0, le=1)
    """Noise of this size that all pixels of a channel share: lets pictures become darker or lighter."""
    mask_outside: float = Field(default=0.1, ge=0, le=1)
    """What a pixel outside the mask weighs, against 1 inside; for concepts with `masks`."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of the weights' moving average, which then is the result; 0: none."""
    gradient_checkpointing: bool = False
    """Compute activations a second time instead of keeping them: less memory, about a third more time."""
    precision: Precision = "auto"
    size: int | None = Field(default=None, ge=64, le=4096)
    """Side in pixels that images are cut to, as area with buckets; absent: the model's own."""
    buckets: bool = True
    """Keep each image's aspect, in steps of 64 pixels, where the model allows; false: centred squares."""
    validation: float = Field(default=0.0, ge=0)
    """Images of each concept held out and judged: their number, or below 1 their share."""
    validate_every: int = Field(default=0, ge=0)
    """Judge the held-out images every so many steps; 0: ten times in the run."""
    pick: Pick = "last"
    """Which weights are the result: the last ones, those with the lowest validation loss, or those with which
    the held-out images are rendered most like what they are (`training.rendered`).
    """
    checkpoint_every: int = Field(default=100, ge=1)
    keep_every: int = Field(default=0, ge=0)
    """Keep the LoRA of every so many steps as a file of its own; 0: the result only."""
    sample_every: int = Field(default=0, ge=0)
    """Sample images every so many steps; 0: at the end only."""
    samples: tuple[str, ...] = Field(default=(), strict=False)
    """Prompts of the sample images; none: captions of the dataset."""
    tensorboard: bool = False
    """Write loss, learning rate, validation and samples for TensorBoard as well."""

    @model_validator(mode="after")
    def _fits_together(self) -> StepSettings:
        if self.optimizer == "schedulefree" and self.schedule not in (None, "constant"):
            raise ValueError(
                f"schedule '{self.schedule}' with the schedule-free optimizer, which needs none; take it out"
            )
        if self.pick != "last" and self.validation == 0:
            raise ValueError(f"pick = '{self.pick}' without held-out images; add validation = 1 or more")
        if self.validation >= 1 and self.validation != int(self.validation):
            raise ValueError(
                f"validation = {self.validation:g}; expected a whole number of images, or a share below 1"
            )
        return self

    @property
    def lr_shape(self) -> LearningRateShape:
        """The shape of the learning rate, worked out."""
        return self.schedule or ("constant" if self.optimizer == "schedulefree" else "cosine")

    @property
    def step_images(self) -> int:
        """Images that one step sees."""
        return self.batch * self.accumulate

    @property
    def text_steps(self) -> int:
        """Steps that the text encoder learns in."""
        return max(1, round(self.text_stop * self.steps))

    def validates_at(self, step: int) -> bool:
        """Whether the held-out images are judged after `step` steps: always after the last."""
        if self.validation == 0 or step < 1:
            return False
        every = self.validate_every or max(1, round(self.steps / VALIDATIONS))
        return step == self.steps or step % every == 0
