"""The four sample datasets: 20 captioned film stills each of two characters, a place and a style.

Captions follow negative captioning: they say everything but the concept, and its trigger. Beside the images
`joints.json` keeps what the stage knows of each still: joints and camera, frame N for image N.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.controls import depth_map, pose_map_points
from pipeline.files import write_text
from pipeline.image import write_png
from pipeline.shot import STAGE_FILM, Figure, FrameJoints, write_joints
from samples.stage.captions import attributes, caption
from samples.stage.cast import BY_NAME, Member
from samples.stage.render import Frame, render
from samples.stage.sampling import random_scene
from samples.stage.scene import Scene

NUM_IMAGES = 20
ENGINE_LINE = 'engine = "engine"  # the engine\'s render of each still'
TRAIN = """\
[train]
steps = 300
rank = 32
alpha = 32.0
conv_rank = 32  # the miniature paints its detail where it has no attention: train its convolutions too
lr = 3e-3
engine_probability = 0.9  # of the steps train the way from the engine's render
control_probability = 0.9
"""
_VIEWS = (0.0, 0.75, -0.75, 1.5, -1.5, 3.0, 0.4, -0.4)  # yaw of the figure: every view, turn by turn
_FRAMINGS = ("closeup", "medium", "medium", "closeup", "full")


@dataclass(frozen=True)
class Concept:
    """One dataset: where it goes, what its scenes are and how it is captioned."""

    folder: str
    trigger: str
    class_word: str
    kind: str
    invariant: tuple[str, ...]
    variable: tuple[str, ...]
    scene: Callable[[np.random.Generator, int], Scene]
    subject: str | None


def varied(rng: np.random.Generator, index: int, member: Member | None = None) -> Scene:
    """Scene number `index` of a dataset: views and framings take turns, everything else is drawn."""
    framing = _FRAMINGS[index % len(_FRAMINGS)]
    odds = tuple(float(framing == f) for f in ("closeup", "medium", "full"))
    scene = random_scene(
        rng,
        member=member,
        pair_odds=0.0,
        framing_odds=(odds[0], odds[1], odds[2]),
    )
    role = scene.roles[0]
    turned = replace(role.performance, yaw=_VIEWS[index % len(_VIEWS)] + float(rng.normal(0.0, 0.08)))
    return replace(scene, roles=(replace(role, performance=turned),))


def _character(name: str) -> Callable[[np.random.Generator, int], Scene]:
    return lambda rng, index: varied(rng, index, BY_NAME[name])


CONCEPTS: Mapping[str, Concept] = {
    "iris": Concept(
        "characters/iris", "iris", "person", "character",
        ("steel skull", "translucent torso", "glowing blue core", "black trousers", "black mesh"),
        ("action", "framing", "view", "place", "light", "film look"), _character("iris"), "a person, iris",
    ),
    "otto": Concept(
        "characters/otto", "otto", "person", "character",
        ("brown hair", "brown beard", "glasses", "green vest", "pale skin", "brown trousers"),
        ("action", "framing", "view", "place", "light", "film look"), _character("otto"), "a person, otto",
    ),
    "vaulthall": Concept(
        "places/vaulthall", "VaultHall", "hall", "place",
        ("teal wall", "round door", "amber strip"),
        ("people", "action", "framing", "view", "light", "film look"),
        lambda rng, index: replace(varied(rng, index), place="VaultHall"), None,
    ),
    "vaultfilm": Concept(
        "styles/vaultfilm", "VaultFilm", "film look", "style",
        ("teal shadows", "grain", "vignette"), ("people", "action", "framing", "view", "place", "light"),
        lambda rng, index: replace(varied(rng, index), look="VaultFilm"), None,
    ),
}  # fmt: skip


def write_dataset(name: str, root: Path, *, seed: int = 4242) -> Path:
    """Render a sample dataset under `root`; returns its folder."""
    concept = CONCEPTS[name]
    return write_concept(concept, root / concept.folder, seed=seed, draw=list(CONCEPTS).index(name))


def character_of(member: Member) -> Concept:
    """A clean dataset of any member of the cast; the trigger is no word."""
    trigger = f"{member.name}zx"
    subject = f"a person, {trigger}"
    return Concept(
        f"characters/{member.name}", trigger, "person", "character", tuple(attributes(member)),
        ("action", "framing", "view", "place", "light", "film look"), _character(member.name), subject,
    )  # fmt: skip


def write_concept(concept: Concept, folder: Path, *, seed: int, draw: int = 0) -> Path:
    """Render a concept's images, captions and control pictures into `folder`, and return it.

    `dataset.toml` is written only where there is none: it is meant to be edited. The same `seed` and `draw`
    write the same bytes.
    """
    for sub in ("images", "depth", "pose", "engine"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, draw))
    joints = []
    for index in range(NUM_IMAGES):
        scene = concept.scene(rng, index)
        number = int(rng.integers(scene.num_frames))
        frame = render(scene, number, seed=seed + index)
        stem = f"{index + 1:04d}"
        write_png(folder / "images" / f"{stem}.png", frame.film)
        write_png(folder / "engine" / f"{stem}.png", frame.engine)
        write_png(folder / "depth" / f"{stem}.png", depth_map(frame.depth[None])[0])
        write_png(folder / "pose" / f"{stem}.png", pose_map_points(frame.points, *frame.depth.shape))
        write_text(folder / "images" / f"{stem}.txt", caption(scene, number, subject=concept.subject) + "\n")
        joints.append(joints_of(frame, scene, index + 1))
    write_joints(folder / "joints.json", joints)
    if not (folder / "dataset.toml").exists():
        write_text(folder / "dataset.toml", _toml(Path(concept.folder).name, concept))
    return folder


def joints_of(frame: Frame, scene: Scene, number: int) -> FrameJoints:
    """Joints and camera of a frame of the scene, as frame `number` of film stills."""
    figures = tuple(
        Figure(role.member.name, index + 1, frame.points[index], frame.world[index].astype(np.float32))
        for index, role in enumerate(scene.roles)
    )
    return FrameJoints(number, figures, camera=frame.state.camera.as_json(), rendered=STAGE_FILM)


def _toml(name: str, concept: Concept) -> str:
    def listed(words: tuple[str, ...]) -> str:
        return "[" + ", ".join(f'"{w}"' for w in words) + "]"

    return (
        f'model = "mini"\nname = "{name}"\n\n[[concept]]\n'
        f'trigger = "{concept.trigger}"\nclass = "{concept.class_word}"\nkind = "{concept.kind}"\n'
        f'images = "images"\n{ENGINE_LINE}\n'
        f"invariant = {listed(concept.invariant)}  # belongs to the concept: never captioned\n"
        f"variable = {listed(concept.variable)}  # varies: always captioned\n\n{TRAIN}"
    )
