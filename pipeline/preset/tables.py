"""The tables of a preset: strict, frozen, every key known, each described for editors."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Fraction01 = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=-4.0, le=4.0)]
ControlWeight = Annotated[float, Field(ge=0.0, le=4.0)]
CannyThreshold = Annotated[float, Field(ge=0.0, le=10_000.0)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Guidance = Annotated[float, Field(ge=1.0, le=50.0)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Side = Annotated[int, Field(ge=16, le=8192)]
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


# Names that end so are files, never hub ids.
WEIGHTS_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")

BesidePath = Annotated[Path, BeforeValidator(_beside_the_file)]
MERGED = "merged"


def _merged_or_beside(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f'found {value!r}; expected the path of a file or "{MERGED}"')
    return value if value == MERGED else _beside_the_file(value, info)


SpeedLora = Annotated[Path | Literal["merged"], BeforeValidator(_merged_or_beside)]


class Strict(BaseModel):
    """A table of a preset: unknown keys and wrong types are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")  # as `pipeline.models.hub` has it


def _controlnet_beside_the_file(value: Any, info: ValidationInfo) -> Any:
    """An existing path as an absolute one; "org/name" of nothing on disk stays: it is a hub id."""
    path = _beside_the_file(value, info)
    if not isinstance(path, Path):
        return value
    if path.exists():
        return str(path)
    if _HUB_ID.fullmatch(value) and value[0] not in ".~" and not value.lower().endswith(WEIGHTS_SUFFIXES):
        return value
    raise ValueError(f"found no {path}; expected a .safetensors file, a folder or a hub id org/name")


ControlNetPath = Annotated[str, BeforeValidator(_controlnet_beside_the_file)]


class Steering(Strict):
    """How much one ControlNet steers a frame, on in [start, end] of the executed steps."""

    kind: str = Field(
        description='What it is drawn from: "depth", "pose", "normal", "canny", "softedge" or "lineart"; '
        "the built-in miniature has depth and pose."
    )
    weight: ControlWeight = Field(default=1.0, description="How much it steers; 0 is off.")
    start: Fraction01 = Field(default=0.0, description="On from this share of the executed steps ...")
    end: Fraction01 = Field(default=1.0, description="... to this one.")

    @model_validator(mode="after")
    def _some_steps(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be smaller than end {self.end}")
        return self


class Control(Steering):
    """One ControlNet: what it is drawn from, its file, how much it steers."""

    path: ControlNetPath | None = Field(
        default=None,
        description="A .safetensors file or a diffusers folder, relative to the preset file's folder, or a "
        "hub id; absent: the model's own.",
    )
    low: CannyThreshold | None = Field(
        default=None, description='For "canny": an edge goes on above this gradient (absent: 100) ...'
    )
    high: CannyThreshold | None = Field(
        default=None, description="... and starts above this one (absent: 200)."
    )

    @model_validator(mode="after")
    def _thresholds(self) -> Self:
        if self.kind != "canny" and (self.low is not None or self.high is not None):
            raise ValueError(f"low and high are canny's; a control of kind '{self.kind}' has none")
        return self


class Lora(Strict):
    """One LoRA file."""

    path: BesidePath = Field(description="The .safetensors file; relative to the preset file's folder.")
    weight: Weight = Field(default=1.0, description="1 is as trained, 0 off, negative the opposite.")
    text_weight: Weight | None = Field(
        default=None, description="The weight on the text encoder; absent: the same as `weight`."
    )


class Region(Strict):
    """A part of the frame under a prompt and LoRAs of its own: a figure, objects, a mask or a box."""

    name: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="What beats and messages call it; absent: the figure."
    )
    figure: Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=1, le=255)] | None = Field(
        default=None,
        description="A character's name, from the joints or shot.toml, or its number in the ids pass (value "
        "/ 256).",
    )
    ids: Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], Field(min_length=1)] | None = Field(
        default=None, description="Values of the ids pass, as they are."
    )
    mask: BesidePath | None = Field(
        default=None,
        description="A picture, white inside, or a folder with one for each frame; relative to the preset "
        "file's folder.",
    )
    box: tuple[Fraction01, Fraction01, Fraction01, Fraction01] | None = Field(
        default=None, description="[left, top, right, bottom] as shares of the frame's width and height."
    )
    prompt: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A template; absent: the frame's, with this region's [vars]."
    )
    negative: str | None = Field(default=None, description="A template; absent: the frame's.")
    vars: Variables = Field(default_factory=dict, description="Variables that differ here.")
    view_of: str | None = Field(
        default=None,
        description="Whose {view} it has, by the name in the joints; absent: its figure's, else the frame's.",
    )
    lora: tuple[Lora, ...] = Field(
        default=(),
        description="One [[region.lora]] for each LoRA that is worn here alone.",
    )
    weight: Fraction01 = Field(
        default=1.0, description="How much it counts against the rest of the frame; 0 is off, at no cost."
    )
    grow: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        default=0.02, description="How far it reaches past its outline, as a share of the frame's height."
    )
    soft: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        default=0.03, description="How wide its edge fades, as a share of the frame's height."
    )

    @property
    def title(self) -> str:
        """What beats and messages call it."""
        return str(self.figure) if self.name is None else self.name

    @model_validator(mode="after")
    def _one_area(self) -> Region:
        given = [key for key in ("figure", "ids", "mask", "box") if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"a region needs one of figure, ids, mask and box, found {found}")
        if self.name is None and self.figure is None:
            raise ValueError(f"a region by its {given[0]} needs a name, for beats and messages")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"box {list(self.box)}: expected left < right and top < bottom")
        return self


class Embedding(Strict):
    """One textual inversion; prompts use it by name."""

    path: BesidePath = Field(description="The .safetensors file; relative to the preset file's folder.")
    name: str | None = Field(
        default=None,
        description="The word that stands for it in prompts, in any case; absent: the file's name without "
        "its suffix.",
    )
    allow_pickle: bool = Field(
        default=False, description="Read a .pt or .bin file too, by torch's restricted reader."
    )

    @property
    def word(self) -> str:
        """What prompts say."""
        return self.path.stem if self.name is None else self.name

    @model_validator(mode="after")
    def _has_a_letter(self) -> Embedding:
        if not any(letter.isalpha() for letter in self.word):
            raise ValueError(f"the name '{self.word}' has no letter; set name to a word that prompts can say")
        return self


class Estimating(Strict):
    """Passes that a control or a method needs and the shot lacks."""

    missing: bool = Field(
        default=True, description="Estimate them from the pictures, with a note; false refuses the shot."
    )
    motion: Literal["dis", "raft"] = Field(
        default="dis",
        description='How motion is estimated: "dis" is OpenCV\'s; "raft" needs weights, and an accelerator '
        "to be quick.",
    )
    joints: Literal["openpose", "dwpose"] = Field(
        default="openpose", description="Which detector finds people's joints; both need weights."
    )
    lineart: Literal["passes", "fine", "coarse"] = Field(
        default="passes",
        description='How the lineart control is drawn: "passes" from depth, normal and ids where there are '
        'any, else as "fine"; "fine" and "coarse" by the detector, which needs weights.',
    )
    weights: BesidePath | None = Field(
        default=None,
        description="A folder with the detectors' files, relative to the preset file's folder; absent: "
        "$LOOKDEV_ANNOTATORS, then the caches of the hub and of torch.",
    )


class Temporal(Strict):
    """How frames are held together in time."""

    method: Literal["frame", "blend", "keys"] = Field(
        default="keys",
        description='"keys" styles few frames and carries them along the motion, and falls back where that '
        'would lose; "blend" styles each frame and leans on the previous one, carried along; "frame" styles '
        'each frame alone. "video" is reserved for motion modules and video models.',
    )
    key_every: Annotated[int, Field(ge=2, le=240)] = Field(
        default=16, description='For "keys": frames from one key to the next at most.'
    )
    own_ids: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(),
        description='For "keys": values of the ids pass that are styled in every frame (glass, fire, hair: '
        "what has no vectors of its own).",
    )
    grain: Annotated[float, Field(ge=0.0, le=64.0)] | Literal["auto"] = Field(
        default=0.0,
        description='For "keys": film grain in levels of 255, made anew for every frame; "auto": as much as '
        "the keys have, which is taken off them first.",
    )
    noise: Literal["fixed", "fresh", "carried", "mirrored"] = Field(
        default="fixed",
        description='"fixed" starts every frame from the same noise, "fresh" from its own (for "keys": every '
        'key). For "keys": "mirrored" turns the sign of every second key\'s: errors cancel in the mean; '
        '"carried" moves the first key\'s noise along with the surface.',
    )
    weight: Fraction01 = Field(
        default=0.75, description='For "blend": the share of the carried pixels where they are visible.'
    )
    until: Fraction01 = Field(
        default=0.5,
        description='For "blend": the share of the executed steps in which the carried pixels are held '
        "in the latents too.",
    )

    @field_validator("method", mode="before")
    @classmethod
    def _not_yet(cls, method: object) -> object:
        if method == "video":
            raise ValueError(
                "'video' is reserved for motion modules and video models, and there is none yet; "
                "take 'keys', 'blend' or 'frame'"
            )
        return method


class Output(Strict):
    """What is made of the frames: a video, or a sequence of pictures."""

    format: Literal["h264", "h265", "prores", "png", "exr"] = Field(
        default="h264",
        description='"h264" and "h265" in MP4, "prores" in MOV with 10 bits; "png": the frames as they are; '
        '"exr": half floats, linear light.',
    )
    crf: Annotated[int, Field(ge=0, le=51)] = Field(
        default=16, description="x264's and x265's quality: 0 lossless (H.264), 51 worst."
    )
    profile: Literal["proxy", "lt", "standard", "hq", "4444"] = Field(
        default="hq", description="ProRes' own, from the smallest files to the largest; 4:2:2, or 4:4:4."
    )
    scale: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1, description="A video's pixels are enlarged so many times; frames and sequences are not."
    )


class Views(Strict):
    """How {view} is named from the joints, frame by frame; `view` in [vars] or a beat goes before it."""

    names: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=("front view", "three-quarter view", "profile view", "back view"),
        description="From facing the camera to facing away.",
    )
    ends: tuple[Annotated[float, Field(gt=0.0, lt=180.0)], ...] = Field(
        default=(22.0, 62.0, 118.0),
        description="Degrees between face and camera at which each name but the last ends.",
    )
    margin: Annotated[float, Field(ge=0.0, le=45.0)] = Field(
        default=5.0,
        description="Degrees past a boundary before the name changes, so that it does not chatter.",
    )
    smooth: Annotated[int, Field(ge=0, le=100)] = Field(
        default=4,
        description="Frames before and after whose angles are counted too, by the median: estimated joints "
        "jump.",
    )
    figure: str = Field(
        default="", description="Whose view, by the name in the joints; absent: the first figure's."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Views:
        if len(self.names) != len(self.ends) + 1:
            raise ValueError(
                f"{len(self.names)} names need {len(self.names) - 1} ends, found {len(self.ends)}"
            )
        gaps = [after - before for before, after in itertools.pairwise(self.ends)]
        if gaps and min(gaps) <= 2 * self.margin:
            raise ValueError(
                f"ends must rise by more than twice the margin ({2 * self.margin:g} degrees), found "
                f"{', '.join(f'{end:g}' for end in self.ends)}"
            )
        return self
