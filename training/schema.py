"""The dataset file: TOML read into strict models, so a mistyped key is an error and never a silent default.

model = "mini"
name = "iris"

[[concept]]
trigger = "irisbot"
class = "woman"
kind = "character"
invariant = ["steel skull"]        # what the trigger stands for: captions must not say it
variable = ["room", "light"]       # what captions do say

[train]
steps = 250

All keys: docs/datasets.md.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipeline.errors import DatasetError
from training.captions import names
from training.schema_faults import one_line
from training.step_settings import StepSettings, StrictModel

ConceptKind = Literal["character", "place", "style", "object"]
View = Literal["front", "three-quarter", "profile left", "profile right", "back"]
"""How a subject is seen; "profile left" looks towards the picture's left edge."""
Kind = Literal["lora", "dora", "loha", "lokr", "embedding", "pivotal", "full"]
"""What is trained: docs/training.md."""
Layout = Literal["kohya", "peft"]
SaveDtype = Literal["fp32", "fp16", "bf16"]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # the name becomes a file name and A1111's alias
MAX_REPEATS = 1000  # people's kohya folders of few images say 100 and more
WORD_PATTERN = r"(?=.*[^\W\d_])\w[\w .-]*"  # what a prompt can say and a file be called


ALL_VIEWS: tuple[View, ...] = get_args(View)


def _spoken(text: str) -> str:
    """Words as captions say them: some, and no white space but single spaces between."""
    plain = " ".join(text.split())
    if not plain:
        raise ValueError("is blank; write the words, or take it out")
    if plain != text:
        raise ValueError(f"{text!r} has white space too much; write '{plain}'")
    return text


Words = Annotated[str, AfterValidator(_spoken)]


class Concept(StrictModel):
    """One thing to learn: a folder of images, each with its caption beside it."""

    trigger: Words
    class_word: Words = Field(alias="class")
    kind: ConceptKind
    init_text: Words | None = None
    """The concept in words the base knows: what `embedding` and `pivotal` start from. Absent: its class."""
    images: str = Field(default="images", min_length=1)
    """Folder, relative to the dataset file. Control folders (`depth`, `pose`) stand beside it."""
    engine: str | None = Field(default=None, min_length=1)
    """Folder, relative to the dataset file: the engine's render of each image, `<stem>.png` of the same size.

    `train.engine_probability` of the steps then train the way from that render to the image. Absent: none do.
    """
    masks: str | None = Field(default=None, min_length=1)
    """Folder, relative to the dataset file: `<stem>.png` of the same size, white where the subject is."""
    prior_images: str | None = Field(default=None, min_length=1)
    """Folder, relative to the dataset file: images of the class without the concept, captions optional.

    With `train.prior_weight` the model keeps saying of them what they are. Absent: it keeps the base's own
    prediction.
    """
    repeats: int = Field(default=1, ge=1, le=MAX_REPEATS)
    """How often an epoch shows each image. Left out everywhere: worked out from `weight` and the counts."""
    weight: float | None = Field(default=None, gt=0, le=100)
    """Share of all exposures against the other concepts', whatever the number of images; 1 if absent."""
    mirror: bool = False
    """Whether each image is shown mirrored half of the time, left and right exchanged in its caption.

    For what has no side of its own: most styles, many places. A character with a scar or a parting has one.
    """
    controls: tuple[str, ...] | None = Field(default=None, strict=False)
    """Control kinds to train with; absent: every one whose folder stands beside the images."""
    views: tuple[View, ...] | None = Field(default=None, strict=False)
    """Views that the images must cover; absent: all for a character or object, none for a place or style."""
    invariant: tuple[Words, ...] = Field(default=(), strict=False)
    """What belongs to the concept: the trigger carries it, so no caption says it."""
    variable: tuple[Words, ...] = Field(default=(), strict=False)
    """What changes from image to image: captions say it."""
    exceptions: tuple[Words, ...] = Field(default=(), strict=False)
    """Phrases that captions may say although they contradict an invariant: such images are meant."""

    @property
    def wanted_views(self) -> tuple[View, ...]:
        """The views that the images must cover."""
        if self.views is not None:
            return self.views
        return ALL_VIEWS if self.kind in ("character", "object") else ()


Share = Annotated[float, Field(gt=0, le=1)]
_IN_PEFT = ("lora", "dora", "pivotal")


class TrainSettings(StepSettings):
    """How to train: what, and with `StepSettings` how.

    The defaults suit about 20 images on the miniature; `training.resolve` has those of other models.
    """

    kind: Kind = "lora"
    layout: Layout = "kohya"
    """How the LoRA's file names its tensors: kohya's, which all programs read, or PEFT's."""
    vectors: int = Field(default=4, ge=1, le=64)
    """Vectors of each new word, for `embedding` and `pivotal`."""
    embedding_lr: float = Field(default=5e-3, gt=0, le=1.0)
    """Learning rate of new words' vectors."""
    save_dtype: SaveDtype = "fp32"
    """What `full` rounds its weights to when it writes them."""
    single_file: bool = False
    """Whether `full` also writes one file in the original layout, for A1111 and ComfyUI."""
    rank: int = Field(default=16, ge=1, le=256)
    alpha: float = Field(default=16.0, gt=0)
    conv_rank: int = Field(default=0, ge=0, le=256)
    """Rank for the UNet's convolutions, alpha in the same ratio (LoCon's conv_dim); 0: attention only."""
    lr: float = Field(default=1e-3, gt=0, le=1.0)
    """Left out: the family's own, by kind (`training.resolve`); the default here is the miniature's."""
    text_lr: float = Field(default=0.0, ge=0, le=1.0)
    caption_dropout: float = Field(default=0.05, ge=0, le=1)
    """Share of captions cut down to the trigger alone."""
    control_probability: float = Field(default=0.7, ge=0, le=1)
    """Chance that one control joins one example, drawn for each kind by itself."""
    engine_probability: float = Field(default=0.5, ge=0, le=1)
    """Chance that an example of a concept with `engine` trains the way img2img takes from that render."""
    engine_strength: tuple[Share, Share] | None = Field(default=None, strict=False)
    """Least and greatest strength at which that way starts; absent: any from 0.25 on."""
    prior_weight: float = Field(default=0.0, ge=0)
    min_snr_gamma: float = Field(default=5.0, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _rate_of_kind(cls, given: Any) -> Any:
        """Prodigy finds its rate, and lr multiplies it."""
        if isinstance(given, dict) and given.get("optimizer") == "prodigy":
            return {"lr": 1.0} | given
        return given

    @model_validator(mode="after")
    def _one_rate_for_prodigy(self) -> TrainSettings:
        if self.optimizer == "prodigy" and self.text_lr not in (0.0, self.lr):
            raise ValueError(
                f"text_lr = {self.text_lr:g} with lr = {self.lr:g}: prodigy takes one rate for all that "
                "learns; text_lr must be lr or 0"
            )
        if self.optimizer == "prodigy" and self.kind in ("embedding", "pivotal"):
            raise ValueError(f"prodigy takes one rate for all that learns; kind '{self.kind}' needs adamw")
        return self

    @model_validator(mode="after")
    def _strengths_in_order(self) -> TrainSettings:
        if self.engine_strength is not None and self.engine_strength[0] > self.engine_strength[1]:
            low, high = self.engine_strength
            raise ValueError(f"engine_strength = [{low:g}, {high:g}]: expected the least first")
        return self

    @model_validator(mode="after")
    def _layout_holds_kind(self) -> TrainSettings:
        if self.layout == "peft" and self.kind not in _IN_PEFT:
            raise ValueError(
                f"layout 'peft' cannot hold kind '{self.kind}', only lora, dora and pivotal; drop layout"
            )
        return self


class DatasetFile(StrictModel):
    """A whole dataset file."""

    model: str = "mini"
    name: str = Field(pattern=NAME_PATTERN)
    concept: tuple[Concept, ...] = Field(min_length=1, strict=False)
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _triggers_name_files(self) -> DatasetFile:
        for concept in self.concept if self.train.kind in ("embedding", "pivotal") else ():
            if not re.fullmatch(WORD_PATTERN, concept.trigger):
                raise ValueError(
                    f"kind '{self.train.kind}' names a file by the trigger '{concept.trigger}'; "
                    "expected letters, digits, spaces, '-', '_' or '.', with a letter among them"
                )
        return self

    @model_validator(mode="after")
    def _class_images_are_used(self) -> DatasetFile:
        given = [each.trigger for each in self.concept if each.prior_images is not None]
        if given and self.train.prior_weight == 0:
            raise ValueError(
                f"'{given[0]}' has prior_images, which train.prior_weight = 0 leaves unused; "
                "set it (1.0 is usual), or drop prior_images"
            )
        return self

    @model_validator(mode="after")
    def _held_out_can_be_rendered(self) -> DatasetFile:
        missing = [each.trigger for each in self.concept if each.engine is None]
        if self.train.pick == "likeness" and missing:
            raise ValueError(
                f"train.pick = 'likeness' needs engine renders of the held-out images and '{missing[0]}' has "
                "none; add engine = \"<folder>\" to it, or take pick = 'validation', which needs none"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_weigh(self) -> DatasetFile:
        weighed = [each.trigger for each in self.concept if each.weight is not None]
        repeated = [each.trigger for each in self.concept if "repeats" in each.model_fields_set]
        if weighed and repeated:
            raise ValueError(
                f"'{weighed[0]}' has a weight and '{repeated[0]}' has repeats; "
                "use weight alone (repeats are worked out from it) or repeats alone"
            )
        triggers = [each.trigger.lower() for each in self.concept]
        for trigger in triggers:
            if triggers.count(trigger) > 1:
                raise ValueError(f"two concepts share the trigger '{trigger}'; give each its own")
        return self

    @property
    def is_balanced(self) -> bool:
        """Whether exposure follows the weights; false where the file counts repeats itself."""
        return not any("repeats" in each.model_fields_set for each in self.concept)

    @property
    def shared_triggers(self) -> list[tuple[int, int]]:
        """Pairs (i, j) of concepts where trigger i says trigger j as whole words: its captions call both.

        None where each trigger is a word of its own to the text encoder.
        """
        if self.train.kind in ("embedding", "pivotal"):
            return []
        triggers = [concept.trigger for concept in self.concept]
        count = range(len(triggers))
        return [(i, j) for i in count for j in count if i != j and names(triggers[i], triggers[j])]


def read_dataset_file(path: Path) -> DatasetFile:
    """Read and check a dataset file.

    Raises `DatasetError`: missing or unreadable file, broken TOML, unknown key, wrong type or range; the line
    names `file:section.key`, sections of `[[concept]]` counted from 1.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark in front
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such dataset file; give the path of a dataset.toml") from None
    except IsADirectoryError:
        raise DatasetError(f"{path}: is a folder; give the path of the dataset.toml in it") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: cannot be read as UTF-8 text ({error}); expected a TOML file") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DatasetError(f"{path}: not valid TOML: {error}; correct that line") from None
    try:
        return DatasetFile.model_validate(table)
    except ValidationError as error:
        raise DatasetError(one_line(path, error, DatasetFile)) from None
