"""The recogniser's recipe: what a head can be, its odds, and a training that goes on where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from samples.recogniser import train
from samples.recogniser.data import SIZE, Stills, still
from samples.recogniser.heads import NOT_THERE, READ, all_heads, head_of, random_head, scores_of
from samples.stage.cast import BY_NAME, CAST, Member
from samples.stage.render import render
from samples.stage.sampling import random_scene
from training.curate.recognise import AROUND, HEAD, SIDE, cut_head, load_recogniser


def test_a_head_is_what_can_be_seen_of_it() -> None:
    bald = Member("x", hair="red", style="bald")
    assert head_of(bald) == head_of(Member("x", hair="black", style="bald"))
    assert head_of(Member("x", hair="red", style="bald", beard=True)) != head_of(
        Member("x", hair="black", style="bald", beard=True)
    )
    assert head_of(BY_NAME["iris"])[1:] == (NOT_THERE,) * 4
    assert head_of(BY_NAME["otto"]) == (0, 1, 0, 1, 1)  # short brown hair, pale, beard, glasses


def test_heads_are_drawn_by_their_odds_and_none_of_the_cast() -> None:
    heads, odds = all_heads()
    assert len(set(heads)) == len(heads) and odds.sum() == pytest.approx(1.0)
    rng, counts = np.random.default_rng(0), np.zeros(len(heads))
    said = {(*head_of(each), each.top, each.colour, each.trousers) for each in CAST}
    for _ in range(6000):
        member = random_head(rng)
        counts[heads.index(head_of(member))] += 1
        assert (*head_of(member), member.top, member.colour, member.trousers) not in said
    away = (counts - 6000 * odds) / np.sqrt(6000 * odds)
    assert np.abs(away).max() < 5.0 and np.mean(away**2) == pytest.approx(1.0, abs=0.4)


def test_each_head_has_a_score_for_each_thing_that_is_there() -> None:
    heads, _ = all_heads()
    table = scores_of(heads)
    assert table.shape == (len(heads), sum(len(words) for words in READ.values()))
    for head, row in zip(heads, table, strict=True):
        assert row.sum() == sum(choice != NOT_THERE for choice in head)
    assert len({tuple(row) for row in table}) == len(heads)


def test_a_still_is_a_frame_and_says_where_the_head_is() -> None:
    scene = random_scene(np.random.default_rng(5), member=BY_NAME["otto"], pair_odds=0.0)
    film, (x, y, reach) = still(scene, np.random.default_rng(1))
    number = int(np.random.default_rng(1).integers(scene.num_frames))
    frame = render(scene, number, size=SIZE)
    assert np.abs(film.astype(int) - frame.film).mean() < 8.0  # the same but for the grain
    ears = frame.points[0, [16, 17], :2].mean(axis=0)
    assert (x, y) == pytest.approx(tuple(ears), abs=1e-3)
    assert reach == pytest.approx(np.linalg.norm(frame.points[0, 1, :2] - ears), abs=1e-3)


def test_a_cut_is_around_the_head_and_grey_outside() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[42:58, 42:58] = 200
    cut = cut_head(picture, np.array([50.0, 50.0]), 10.0)
    assert cut.shape == (SIDE, SIDE, 6)
    assert cut[SIDE // 2, SIDE // 2].tolist() == [200] * 6
    shown = (cut[..., 0] > 100).sum() / SIDE**2, (cut[..., 3] > 100).sum() / SIDE**2
    assert shown == pytest.approx(((16 / (20 * HEAD)) ** 2, (16 / (20 * AROUND)) ** 2), abs=0.05)
    assert (cut_head(picture, np.array([-500.0, 50.0]), 10.0) == 128).all()


@pytest.fixture
def stills(monkeypatch: pytest.MonkeyPatch) -> Stills:
    """Forty heads that are told by their colour alone."""
    monkeypatch.setattr(train, "HELD_OUT", 8)
    monkeypatch.setattr(train, "SAVE_EVERY", 3)
    monkeypatch.setattr(train, "WARM_UP", 2)
    rng = np.random.default_rng(0)
    head = rng.integers(len(all_heads()[0]), size=40)
    film = np.repeat(rng.integers(0, 255, (40, 1, 1, 3)), 128, axis=1).repeat(128, axis=2).astype(np.uint8)
    return Stills(film, np.tile([64.0, 50.0, 25.0], (40, 1)), head)


def test_a_training_goes_on_where_it_was_and_its_weights_are_read_back(
    stills: Stills, tmp_path: Path
) -> None:
    whole, first, second = train.Training(7), train.Training(7), train.Training(7)
    train.train(whole, stills, tmp_path / "whole.pt", until=7)
    train.train(first, stills, tmp_path / "part.pt", until=4)
    second.load(tmp_path / "part.pt", len(stills.head))
    train.train(second, stills, tmp_path / "part.pt", until=7)
    for name, values in whole.average.state_dict().items():
        assert torch.equal(values, second.average.state_dict()[name]), name
    train.export(whole, tmp_path / "heads.safetensors")
    recogniser = load_recogniser(tmp_path / "heads.safetensors")
    heads, odds = all_heads()
    assert (recogniser.known.heads == heads).all() and recogniser.known.words == tuple(READ.values())
    np.testing.assert_allclose(recogniser.known.odds, odds, rtol=1e-6)
    cuts = [cut_head(stills.film[n], stills.place[n, :2], 25.0) for n in range(3)]
    with torch.inference_mode():
        said = whole.average.eval()(train.as_input(cuts)) @ whole.table.T
    np.testing.assert_allclose(recogniser.read(cuts), torch.softmax(said, dim=1), rtol=0.02, atol=1e-5)


def test_a_training_of_another_recipe_is_not_gone_on_with(stills: Stills, tmp_path: Path) -> None:
    begun = train.Training(7)
    begun.save(tmp_path / "training.pt", 1250)
    arguments = ["--state", str(tmp_path)]
    for steps, num in ((8, 1250), (7, 1251)):
        said = CliRunner().invoke(train.main, [*arguments, "--steps", str(steps), "--stills", str(num)])
        assert said.exit_code == 2 and "was begun with --steps 7 --stills 1250, not" in said.output
    assert not (tmp_path / "stills").exists()  # nothing was rendered for it


def test_as_many_stills_as_are_held_out_are_too_few(tmp_path: Path) -> None:
    said = CliRunner().invoke(train.main, ["--state", str(tmp_path), "--stills", "1000"])
    assert said.exit_code == 2 and "1000 is not in the range x>=1001" in said.output
    assert not list(tmp_path.iterdir())
