"""A deliberately spoiled dataset of the android, with every fault that the checks must find.

`planted.json` beside it lists the faults: the rule of docs/datasets.md that finds each, and where.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.files import write_text
from pipeline.image import write_png
from pipeline.shot import write_joints
from samples.stage.captions import attributes, caption, view_of
from samples.stage.cast import IRIS, Member
from samples.stage.datasets import NUM_IMAGES, joints_of, varied
from samples.stage.render import render
from samples.stage.scene import Scene

UInt8Array = NDArray[np.uint8]

FOLDER = "spoiled/android"
WITH_HAIR = (4, 9)  # the android in a wig: images that look like someone else
IN_CAPTIONS = (2, 9, 12)  # an invariant, what contradicts one, another invariant
BLURRED, DUPLICATE, ORIGINAL, UNDEREXPOSED, SMALL = 11, 18, 7, 13, 20
NO_TRIGGER, NO_CAPTION, NO_IMAGE = 16, 19, 21
JUNK = "high quality"  # in every caption, so the trigger absorbs it

_TOML = """\
# Spoiled on purpose: `lookdev dataset lint` and `audit` must find what planted.json lists, and nothing else.
model = "mini"
name = "{trigger}"

[[concept]]
trigger = "{trigger}"
class = "person"
kind = "character"
images = "images"
invariant = [{invariant}]
variable = ["action", "framing", "view", "place", "light", "film look"]

[train]
"""


@dataclass(frozen=True)
class Subject:
    """Who is in the images, and who is in two of them instead."""

    member: Member
    trigger: str
    """An everyday word: that is one of the faults."""
    stranger: Member
    invariant: tuple[str, ...]
    captioned: tuple[str, str, str]
    """What the captions of `IN_CAPTIONS` say and must not; the middle one contradicts an invariant."""


ANDROID = Subject(
    IRIS,
    "android",
    replace(IRIS, style="long", hair="black"),
    ("bald", "steel skull", "translucent torso", "glowing blue core", "black trousers"),
    ("steel skull", "long black hair", "glowing blue core"),
)


def spoiled_of(member: Member) -> Subject:
    """The same faults for any member: who has hair is bald in two images, who has none wears a long wig."""
    said = attributes(member)
    hairless = member.style in ("bald", "steel skull")
    stranger = replace(member, style="long", hair="black") if hairless else replace(member, style="bald")
    invariant = (*(["bald"] if member.style == "steel skull" else []), *said)
    contradiction = "long black hair" if hairless else "bald"
    return Subject(member, "android", stranger, invariant, (said[0], contradiction, said[-1]))


@dataclass(frozen=True)
class Planted:
    """One fault: the rule that must find it, and the end of the name of the place it must name."""

    rule: str
    where: str


PLANTED: tuple[Planted, ...] = (
    *(Planted("outlier", f"{number:04d}.png") for number in WITH_HAIR),
    Planted("views", "concept[1]"),
    Planted("invariant", "0002.txt"),
    Planted("invariant", "0012.txt"),
    Planted("contradiction", "0009.txt"),
    Planted("blurred", f"{BLURRED:04d}.png"),
    Planted("duplicate", f"{DUPLICATE:04d}.png"),
    Planted("luminance", f"{UNDEREXPOSED:04d}.png"),
    Planted("resolution", f"{SMALL:04d}.png"),
    Planted("no-trigger", f"{NO_TRIGGER:04d}.txt"),
    Planted("no-caption", f"{NO_CAPTION:04d}.png"),
    Planted("no-image", f"{NO_IMAGE:04d}.txt"),
    Planted("absorbed", "concept[1]"),
    Planted("common-trigger", "concept[1].trigger"),
)


def write_spoiled(folder: Path, *, seed: int = 4242, subject: Subject = ANDROID) -> Path:
    """Render a spoiled dataset into `folder` and return it. The same seed writes the same bytes."""
    rng = np.random.default_rng((seed, 99))
    joints = []
    for number in range(1, NUM_IMAGES + 1):
        scene, moment = _scene(rng, number, subject)
        frame = render(scene, moment, seed=seed + number)
        path = folder / "images" / f"{number:04d}.png"
        picture, text = frame.film, caption(scene, moment, subject=f"a person, {subject.trigger}")
        if number == ORIGINAL:
            original = picture, text, frame, scene
        if number == DUPLICATE:
            picture, text, frame, scene = original
        write_png(path, _SPOIL[number](picture) if number in _SPOIL else picture)
        if number != NO_CAPTION:
            write_text(path.with_suffix(".txt"), _spoiled_caption(text, number, subject) + "\n")
        joints.append(joints_of(frame, scene, number))
    write_text(folder / "images" / f"{NO_IMAGE:04d}.txt", f"a person, {subject.trigger}, standing\n")
    write_joints(folder / "joints.json", joints)
    invariant = ", ".join(f'"{phrase}"' for phrase in subject.invariant)
    text = _TOML.format(trigger=subject.trigger, invariant=invariant)
    write_text(folder / "dataset.toml", text)
    planted = [{"rule": fault.rule, "where": fault.where} for fault in PLANTED]
    write_text(folder / "planted.json", json.dumps(planted, indent=1) + "\n")
    return folder


def _scene(rng: np.random.Generator, number: int, subject: Subject) -> tuple[Scene, int]:
    """A scene without a profile view, and the frame of it that is taken."""
    while True:
        scene = varied(rng, number - 1, subject.member)
        moment = int(rng.integers(scene.num_frames))
        if view_of(scene, moment) != "profile view":
            break
    if number in WITH_HAIR:
        scene = scene.recast(0, subject.stranger)
    return scene, moment


def _spoiled_caption(text: str, number: int, subject: Subject) -> str:
    who, *rest = text.split(f", {subject.trigger}, ")
    said = [subject.captioned[IN_CAPTIONS.index(number)]] if number in IN_CAPTIONS else []
    trigger = [] if number == NO_TRIGGER else [subject.trigger]
    return ", ".join([who, *trigger, *said, *rest, JUNK])


def _blurred(picture: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.5), np.uint8)


def _nearly_same(picture: UInt8Array) -> UInt8Array:
    """One pixel to the side and a little brighter: the next frame of a video looks like this."""
    brighter = np.clip(np.roll(picture, 1, axis=1).astype(np.int16) + 6, 0, 255)
    return brighter.astype(np.uint8)


def _dark(picture: UInt8Array) -> UInt8Array:
    return (picture * 0.08).astype(np.uint8)


def _small(picture: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA), np.uint8)


_SPOIL: Mapping[int, Callable[[UInt8Array], UInt8Array]] = {
    BLURRED: _blurred,
    DUPLICATE: _nearly_same,
    UNDEREXPOSED: _dark,
    SMALL: _small,
}
