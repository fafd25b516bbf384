"""`dataset capture` on a film made of stage shots: cuts, a dissolve, a fade and blur where we put them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import cli
from pipeline.image import read_image
from pipeline.output import encode_video
from pipeline.shot import open_shot, read_pass
from training.curate import film as film_module
from training.curate.film import find_candidates, is_mixture
from training.curate.measure import SAME_ABOVE, measure, same_picture
from training.curate.spread import choose_spread
from training.curate.views import read_known

SHOTS = Path(__file__).resolve().parents[3] / "samples" / "shots"
DISSOLVE = 16  # frames


def frames_of(name: str) -> np.ndarray:
    shot = open_shot(SHOTS / name)
    return read_pass(shot, "truth", 0, shot.num_frames)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, range]]:
    """corridor | profile, dissolving into two_shot, its end blurred and then faded to black."""
    a, b, c = frames_of("corridor_walk"), frames_of("profile_turn"), frames_of("two_shot")
    c = np.concatenate([c, c[::-1]])  # to and fro
    mix = np.linspace(0, 1, DISSOLVE + 2)[1:-1, None, None, None]
    mixed = b[-DISSOLVE:] * (1 - mix) + c[:DISSOLVE] * mix
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 3.0) for frame in c[-20:-10]])
    fade = c[-10:] * np.linspace(1, 0, 10)[:, None, None, None]
    parts = [a, b[:-DISSOLVE], mixed, c[DISSOLVE:-20], blurred, fade]
    starts = np.cumsum([0, *map(len, parts)])
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    whole = np.concatenate([np.rint(part).astype(np.uint8) for part in parts])
    encode_video([whole], path, fps=Fraction(24))
    names = ("a", "b", "dissolve", "c", "blurred", "fade")
    return path, {name: range(starts[i], starts[i + 1]) for i, name in enumerate(names)}


def test_frames_are_sharp_whole_different_and_from_every_shot(
    film: tuple[Path, dict[str, range]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, parts = film
    out = tmp_path / "new"
    assert cli.main(["dataset", "capture", str(path), "--out", str(out), "--count", "8"]) == 0
    said = capsys.readouterr().out
    assert "blurred" in said and "in a dissolve" in said and "beside a cut" in said
    images = sorted((out / "images").glob("*.png"))
    numbers = [int(image.stem) for image in images]
    assert len(numbers) == 8
    for name in ("dissolve", "blurred"):
        assert not set(numbers) & set(parts[name]), name
    assert not set(numbers) & set(parts["fade"][2:])  # its first frames are hardly darker
    assert not set(numbers) & {parts["b"].start - 1, parts["b"].start}
    for name in ("a", "b", "c"):
        assert set(numbers) & set(parts[name]), name
    measured = [measure(read_image(image)) for image in images]
    assert max(same_picture(x, y) for i, x in enumerate(measured) for y in measured[:i]) <= SAME_ABOVE
    assert (out / "sheet.png").is_file()
    records = json.loads((out / "capture.json").read_text())["images"]
    assert [record["frame"] for record in records] == numbers
    assert records[0]["seconds"] == pytest.approx(numbers[0] / 24, abs=1e-3)
    (shown,) = read_pass(open_shot(path), "rgb", numbers[3], numbers[3] + 1)
    np.testing.assert_array_equal(read_image(images[3]), shown)
    # the skeleton is a dataset file: only captions are missing
    assert cli.main(["dataset", "lint", str(out / "dataset.toml")]) == 2
    said = capsys.readouterr().out
    assert said.count("no caption") == 8 and "8 errors" in said


def test_the_same_film_gives_the_same_files(film: tuple[Path, dict[str, range]], tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        out = tmp_path / name / "set"
        assert cli.main(["dataset", "capture", str(film[0]), "--out", str(out), "--count", "5"]) == 0
        files = (path for path in out.rglob("*") if path.is_file())
        contents.append({str(path.relative_to(out)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


def test_a_shots_joints_come_along_and_views_are_spread(tmp_path: Path) -> None:
    out = tmp_path / "otto"
    arguments = ["dataset", "capture", str(SHOTS / "profile_turn"), "--out", str(out), "--count", "6"]
    assert cli.main(arguments) == 0
    known = read_known(out / "images")
    assert sorted(known) == sorted(int(path.stem) for path in (out / "images").glob("*.png"))
    assert cli.main(["dataset", "capture", str(SHOTS / "profile_turn"), "--out", str(out)]) == 2


def test_memory_is_bounded_by_few_candidates(
    film: tuple[Path, dict[str, range]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long film keeps the sharpest frame of each stretch, here of 10 frames."""
    shot = open_shot(film[0])
    every = find_candidates(shot)
    monkeypatch.setattr(film_module, "MOST_CANDIDATES", -(-shot.num_frames // 10))
    few = find_candidates(shot)
    assert len(few.candidates) <= -(-shot.num_frames // 10) < len(every.candidates)
    for each in few.candidates:
        rivals = [x for x in every.candidates if x.index // 10 == each.index // 10]
        assert each.measures.sharpness == max(x.measures.sharpness for x in rivals)


def test_choosing_prefers_what_is_far_and_never_a_copy(film: tuple[Path, dict[str, range]]) -> None:
    candidates = find_candidates(open_shot(film[0])).candidates
    chosen = choose_spread(candidates, 3)
    shots = [next(n for n, part in film[1].items() if each.index in part) for each in chosen]
    assert sorted(shots) == ["a", "b", "c"]  # three sets: one of each first
    assert choose_spread(candidates, 3) == chosen
    assert len(choose_spread([candidates[0]] * 5, 3)) == 1
    assert choose_spread([], 3) == []


def test_a_mixture_is_told_from_a_frame_between_two() -> None:
    rng = np.random.default_rng(0)

    def picture() -> np.ndarray:
        return cv2.resize(rng.uniform(0, 255, (12, 12, 3)), (96, 96), interpolation=cv2.INTER_NEAREST)

    def seen(values: np.ndarray) -> film_module.Glance:
        return film_module.glance(np.clip(np.rint(values), 0, 255).astype(np.uint8))

    before, after, other = picture(), picture(), picture()
    for share in (0.15, 0.5, 0.85):
        mixed = before + share * (after - before) + rng.normal(0, 2, before.shape)
        assert is_mixture(seen(mixed), seen(before), seen(after))
        assert is_mixture(seen(share * before), seen(before), seen(np.zeros_like(before)))  # a fade to black
    assert not is_mixture(seen(before), seen(before), seen(after))  # at a cut
    assert not is_mixture(seen(other), seen(before), seen(after))
    brighter = before * 1.1
    assert not is_mixture(seen((before + brighter) / 2), seen(before), seen(brighter))


@pytest.mark.parametrize("name", ["corridor_walk", "profile_turn", "two_shot"])
def test_movement_is_no_mixture(name: str) -> None:
    """A walk under a moving camera, a head that turns round in a closeup, two who talk."""
    assert "in a dissolve" not in find_candidates(open_shot(SHOTS / name)).passed_over


def test_a_film_without_a_usable_frame_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "black.mp4"
    encode_video([np.zeros((12, 64, 64, 3), np.uint8)], path, fps=Fraction(24))
    assert cli.main(["dataset", "capture", str(path), "--out", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    note, error = said.splitlines()
    assert note.startswith("note: not spread over views") and error.startswith("error: ")
    assert "none of 12 frames can be used: 12 dark or blown out" in error
    assert not (tmp_path / "new").exists()
    assert cli.main(["dataset", "capture", str(tmp_path / "no.mp4")]) == 2
