"""Captions of a scene: the grammar that base training, the sample datasets and the shot presets share.

    subject[, attribute]*, action, framing, view, place, light, look

"A subject" is `a person`, or a trigger in the sample datasets; two people are joined by "and".
Base training drops attributes at random, so that what a caption leaves open stays open in the model; a sample
character's captions say everything but the character (negative captioning) and its trigger.
"""

from __future__ import annotations

import bisect
import math

import numpy as np

from samples.stage.cast import Member
from samples.stage.sampling import random_scene
from samples.stage.scene import Scene, state
from samples.stage.skeleton import BONE, solve

VIEWS = ("front view", "three-quarter view", "profile view", "back view")
_VIEW_ENDS = (22.0, 62.0, 118.0)  # degrees between the face and the camera where the next view begins
FRAMING_WORDS = {"closeup": "closeup", "medium": "medium shot", "full": "full shot"}
ENGINE_LOOK = "flat grey engine look"


def view_of(scene: Scene, frame: float, role: int = 0) -> str:
    """How the camera sees the role's head: the angle between its face and the direction to the camera."""
    now = state(scene, frame, size=(64, 64))
    performance, member = scene.roles[role].performance, scene.roles[role].member
    seconds, u = frame / scene.fps, frame / max(scene.num_frames - 1, 1)
    skeleton = solve(performance.pose(seconds, u), member.scale)
    face = skeleton.axes[BONE["head"], 2]
    to_camera = now.camera.position - skeleton.origins[BONE["head"]]
    cosine = face @ to_camera / np.linalg.norm(to_camera) / np.linalg.norm(face)
    angle = math.degrees(math.acos(float(np.clip(cosine, -1, 1))))
    return VIEWS[bisect.bisect_right(_VIEW_ENDS, angle)]


def attributes(member: Member) -> list[str]:
    """What can be said of a member, one phrase each."""
    hairless = member.style in ("steel skull", "bald")
    said = [member.style if hairless else f"{member.style} {member.hair} hair"]
    if member.style != "steel skull":
        said.append(f"{member.skin} skin")
    if member.beard:
        said.append(f"{member.hair} beard")
    if member.glasses:
        said.append("glasses")
    said.append(member.top if member.top == "translucent torso" else f"{member.colour} {member.top}")
    said.append(f"{member.trousers} trousers")
    if member.glow:
        said.append(f"glowing {member.glow} core")
    return said


def surroundings(scene: Scene, frame: float, role: int = 0) -> list[str]:
    """Everything but who it is: action, framing, view, place, light, look."""
    return [
        scene.roles[role].performance.action,
        FRAMING_WORDS[scene.move.framing],
        view_of(scene, frame, role),
        f"in {scene.place}",
        f"{scene.light_colour} {scene.light_side}",
        scene.look,
    ]


def caption(
    scene: Scene,
    frame: float,
    *,
    subject: str | None = None,
    engine: bool = False,
    rng: np.random.Generator | None = None,
) -> str:
    """The caption of a frame.

    `subject` stands for the first role in place of its attributes; with `rng` attributes drop at random;
    `engine` says the engine look where the light and the film look would stand.
    """
    people = []
    for index, role in enumerate(scene.roles):
        if index == 0 and subject is not None:
            people.append(subject)
            continue
        said = attributes(role.member)
        if rng is not None:
            said = [phrase for phrase in said if rng.random() < 0.8]
        people.append(", ".join(["a person", *said]) if said else "a person")
    words = surroundings(scene, frame)
    if engine:
        words = [*words[:4], ENGINE_LOOK]
    return ", ".join([" and ".join(people), *words])


def corpus(num: int = 4000, seed: int = 0) -> list[str]:
    """Captions to train the tokenizer on; the sample triggers are in none, so they split into rare pieces."""
    rng = np.random.default_rng(seed)
    return [caption(random_scene(rng), 0.0, rng=rng, engine=i % 5 == 0) for i in range(num)]
