"""The miniature's pictures: the same ones every time, and only what is missing is rendered again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.controls import depth_map
from samples.miniature import data
from samples.stage.captions import ENGINE_LOOK
from samples.stage.render import render
from samples.stage.sampling import random_scene

SHARD = 3


def test_pictures_are_made_once_and_are_always_the_same(tmp_path: Path) -> None:
    data.make(tmp_path, 2 * SHARD, seed=5, workers=1, shard_size=SHARD)
    first, second = sorted(tmp_path.glob("*.npz"))
    kept, made = first.stat(), second.read_bytes()
    second.unlink()  # as if it had been stopped there
    data.make(tmp_path, 2 * SHARD, seed=5, workers=1, shard_size=SHARD)
    assert first.stat().st_mtime_ns == kept.st_mtime_ns and first.stat().st_ino == kept.st_ino
    assert second.read_bytes() == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000.npz", "0001.npz"]

    images = data.load(tmp_path)
    assert len(images) == 2 * SHARD
    assert images.film.shape == images.pose.shape == (2 * SHARD, 128, 128, 3)
    rng = np.random.default_rng((5, 1))  # the second shard's own seed
    scene = random_scene(rng)
    frame = render(scene, int(rng.integers(scene.num_frames)), seed=SHARD)
    np.testing.assert_array_equal(images.film[SHARD], frame.film)
    np.testing.assert_array_equal(images.engine[SHARD], frame.engine[..., 0])
    np.testing.assert_array_equal(images.depth[SHARD], depth_map(frame.depth[None])[0, ..., 0])
    assert scene.roles[0].performance.action in images.words[SHARD].film


def test_captions_drop_words_but_never_the_look() -> None:
    words = data.Words([["bald", "red shirt"]], ["walking", "closeup", "film look"], ["walking", ENGINE_LOOK])
    rng = np.random.default_rng(0)
    film = [words.caption(rng, engine=False) for _ in range(200)]
    assert all(text.startswith("a person") and text.endswith("film look") for text in film)
    # kept at odds 0.8: 160 of 200, give or take five standard deviations of 5.7
    assert 130 < sum("bald" in text for text in film) < 190
    assert all(text.endswith(ENGINE_LOOK) for text in (words.caption(rng, engine=True) for _ in range(20)))
