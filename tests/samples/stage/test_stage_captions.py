"""Captions and random scenes: negative captioning, views at known angles, everything that occurs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from samples.stage.actions import ACTIONS, Performance
from samples.stage.cameras import FRAMINGS, Move
from samples.stage.captions import ENGINE_LOOK, FRAMING_WORDS, VIEWS, attributes, caption, view_of
from samples.stage.cast import BY_NAME
from samples.stage.datasets import CONCEPTS
from samples.stage.render import render
from samples.stage.sampling import random_scene
from samples.stage.scene import Role, Scene
from samples.stage.sets import BASE_LOOKS, BASE_SETS, LIGHT_COLOURS, LIGHT_SIDES, LOOKS, SETS


def plain(name: str = "iris", yaw: float = 0.0, azimuth: float = 0.0) -> Scene:
    role = Role(BY_NAME[name], Performance("standing", yaw=yaw, amount=0.0))
    return Scene("a red room", (role,), Move("medium", azimuth, elevation=0.0))


@pytest.mark.parametrize(
    ("degrees", "view"),
    [(0, 0), (15, 0), (-15, 0), (45, 1), (-45, 1), (90, 2), (-90, 2), (150, 3), (180, 3), (-150, 3)],
)
def test_view_is_the_angle_between_face_and_camera(degrees: float, view: int) -> None:
    """The camera stands at azimuth 0, so the yaw is the angle; turning the camera along undoes it."""
    yaw = math.radians(degrees)
    assert view_of(plain(yaw=yaw), 0) == VIEWS[view]
    assert view_of(plain(yaw=yaw, azimuth=yaw), 0) == VIEWS[0]


@pytest.mark.parametrize("name", ["iris", "otto"])
def test_a_sample_characters_captions_never_name_the_character(name: str) -> None:
    concept = CONCEPTS[name]
    rng = np.random.default_rng(3)
    for index in range(20):
        scene = concept.scene(rng, index)
        text = caption(scene, 5, subject=concept.subject)
        assert text.startswith(f"a person, {name}, ")
        for phrase in (*attributes(BY_NAME[name]), *concept.invariant):
            assert phrase not in text
        # everything else is said
        assert scene.place in text and scene.look in text and FRAMING_WORDS[scene.move.framing] in text
        assert scene.light_colour in text and any(view in text for view in VIEWS)


def test_place_and_style_are_named_by_their_triggers_alone() -> None:
    rng = np.random.default_rng(3)
    hall, style = CONCEPTS["vaulthall"], CONCEPTS["vaultfilm"]
    for index in range(10):
        for concept in (hall, style):
            text = caption(concept.scene(rng, index), 5, subject=concept.subject)
            assert concept.trigger in text
            assert not any(word in text for word in concept.invariant)


def test_captions_say_what_is_there() -> None:
    scene = replace(plain("ada"), light_colour="warm light", light_side="from above")
    assert caption(scene, 0) == (
        "a person, bun black hair, dark skin, glasses, white shirt, red trousers, standing, medium shot, "
        "front view, in a red room, warm light from above, film look"
    )
    assert caption(scene, 0, engine=True).endswith(f"in a red room, {ENGINE_LOOK}")
    assert caption(scene, 0, subject="a person, zed").startswith("a person, zed, standing")
    two = replace(scene, roles=(*scene.roles, *plain("unit7").roles))
    assert " and a person, steel skull, orange shirt" in caption(two, 0)
    kept = [caption(scene, 0, rng=np.random.default_rng(seed)) for seed in range(20)]
    assert len(set(kept)) > 5  # attributes drop at random


def test_everything_occurs_in_random_scenes() -> None:
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng) for _ in range(400)]
    assert len(BASE_SETS) >= 5
    assert {s.place for s in scenes} == set(BASE_SETS) == set(SETS) - {"VaultHall"}
    assert {s.look for s in scenes} == set(BASE_LOOKS) == set(LOOKS) - {"VaultFilm"}
    assert {s.move.kind for s in scenes} == {"static", "dolly", "orbit"}
    assert {s.move.framing for s in scenes} == set(FRAMINGS) == {"closeup", "medium", "full"}
    assert {s.roles[0].performance.action for s in scenes} == set(ACTIONS)
    assert {(s.light_colour, s.light_side) for s in scenes} == {
        (c, d) for c in LIGHT_COLOURS for d in LIGHT_SIDES
    }
    assert {view_of(s, 20) for s in scenes[:150]} == set(VIEWS)
    assert {len(s.roles) for s in scenes} == {1, 2}


def test_recasting_keeps_the_frame() -> None:
    """Another member in the role: same camera, same joints, same set; that is what forced choice rests on."""
    scene = random_scene(np.random.default_rng(4), member=BY_NAME["iris"])
    one = render(scene, 9, size=(64, 64))
    other = render(scene.recast(0, BY_NAME["otto"]), 9, size=(64, 64))
    np.testing.assert_array_equal(one.world, other.world)
    assert one.state.camera.as_json() == other.state.camera.as_json()
    set_in_both = (one.ids < 256) & (other.ids < 256)
    np.testing.assert_array_equal(one.depth[set_in_both], other.depth[set_in_both])
    assert (one.film != other.film).any()


def test_looks_differ_as_they_are_described() -> None:
    """The engine is grey; the film has the light's colour; noir has none."""
    scene = replace(plain("mara"), light_colour="red light")
    frame = render(scene, 0, size=(64, 64))
    assert (frame.engine == frame.engine[..., :1]).all()
    red, _, blue = frame.film.reshape(-1, 3).mean(0)
    assert red > 1.5 * blue
    noir = render(replace(scene, look="noir film look"), 0, size=(64, 64)).film.astype(int)
    assert np.ptp(noir, axis=-1).max() <= 1
    cold = render(replace(scene, light_colour="cold blue light"), 0, size=(64, 64))
    np.testing.assert_array_equal(cold.engine, frame.engine)  # the engine knows no light
    assert cold.film[..., 2].mean() > frame.film[..., 2].mean()
