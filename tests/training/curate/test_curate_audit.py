"""The audit's measures against pictures and poses whose truth is known."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import cli
from pipeline.image import read_image, write_png
from pipeline.shot import Figure
from samples.stage.captions import FRAMING_WORDS
from samples.stage.datasets import CONCEPTS
from training.curate.audit import audit_dataset
from training.curate.measure import BLURRED_BELOW, SAME_ABOVE, measure, same_picture
from training.curate.views import framing_of, joints_of, look, read_known, view_of
from training.schema import read_dataset_file

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
TOML = """
name = "zorb"
[[concept]]
trigger = "zorbik"
class = "woman"
kind = "character"
"""


def turned(degrees: float, *, world: bool) -> Figure:
    """A head at the origin that looks at a camera on +z, turned towards the picture's right."""
    yaw = math.radians(degrees)
    side = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
    ahead = np.array([math.sin(yaw), 0.0, math.cos(yaw)])
    joints = np.zeros((18, 3))
    joints[0], joints[16], joints[17] = 1.38 * ahead, -side, side  # nose, right and left ear, half heads
    joints[14], joints[15] = 1.1 * ahead - 0.43 * side, 1.1 * ahead + 0.43 * side  # eyes
    points = np.concatenate(
        [100 + 20 * joints[:, :1], 100 - 20 * joints[:, 1:2], np.full((18, 1), 2)], axis=1
    )
    return Figure("zorbik", 1, points.astype(np.float32), joints.astype(np.float32) if world else None)


@pytest.mark.parametrize("world", [True, False])
@pytest.mark.parametrize(
    ("degrees", "view"),
    [(0, "front"), (20, "front"), (-20, "front"), (45, "three-quarter"), (-45, "three-quarter"),
     (90, "profile right"), (-90, "profile left"), (75, "profile right"), (-110, "profile left"),
     (150, "back"), (180, "back"), (-150, "back")],
)  # fmt: skip
def test_views_at_known_angles(degrees: float, view: str, world: bool) -> None:
    camera = {"position": [0.0, 0.0, 10.0], "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}
    assert view_of(turned(degrees, world=world), camera) == view


def test_views_as_a_detector_sees_them() -> None:
    """Without the far ear in profile, without a face from behind, without the head: no guess."""
    for degrees, hidden, view in (
        (90, (17, 15), "profile right"),
        (-90, (16, 14), "profile left"),
        (180, (0, 14, 15), "back"),
        (0, (0, 14, 15, 16, 17), None),
    ):
        figure = turned(degrees, world=False)
        points = figure.points.copy()
        points[list(hidden), 2] = 0.0
        points[2:, 2] *= [j >= 14 for j in range(2, 18)]  # of the body only the neck
        assert view_of(Figure("zorbik", 1, points), {}) == view, degrees


def test_a_head_that_was_not_detected_has_no_view() -> None:
    assert view_of(Figure("x", 1, np.zeros((18, 3), np.float32)), {}) is None


@pytest.mark.parametrize(("inside", "framing"), [((0, 1), "closeup"), ((0, 8), "medium"), ((8, 13), "full")])
def test_framing_is_what_of_the_body_is_in_the_picture(inside: tuple[int, ...], framing: str) -> None:
    points = np.zeros((18, 3), np.float32)
    points[list(inside), 2] = 1
    assert framing_of(Figure("x", 1, points)) == framing


@pytest.mark.parametrize("name", CONCEPTS)
def test_joints_agree_with_what_the_stage_says_of_its_own_stills(name: str) -> None:
    images = SAMPLES / CONCEPTS[name].folder / "images"
    known = read_known(images)
    for path in images.glob("*.txt"):
        caption = path.read_text()
        seen = look(path.stem, caption, known, trigger=name)
        assert seen.source == "joints" and seen.view is not None and seen.framing is not None
        assert f"{seen.view.split()[0]} view" in caption
        assert FRAMING_WORDS[seen.framing] in caption


def test_without_joints_the_captions_words_count_and_nothing_is_guessed() -> None:
    seen = look("1", "zorbik, full body, from behind", {}, trigger="zorbik")
    assert (seen.view, seen.framing, seen.source) == ("back", "full", "caption")
    seen = look("1", "zorbik, left profile", {}, trigger="zorbik")
    assert (seen.view, seen.source) == ("profile left", "caption")
    assert look("1", "zorbik in a hall", {}, trigger="zorbik").source == "unknown"


@pytest.fixture
def picture() -> np.ndarray:
    """Blocks of random colour with a little noise, 256x256."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(40, 220, (16, 16, 3)).repeat(16, axis=0).repeat(16, axis=1)
    return np.clip(blocks + rng.normal(0, 3, blocks.shape), 0, 255).astype(np.uint8)


def test_sharpness_falls_with_blur(picture: np.ndarray) -> None:
    blurred = [measure(cv2.GaussianBlur(picture, (0, 0), sigma)).sharpness for sigma in (1, 3, 6)]
    sharp = measure(picture).sharpness
    assert sharp > blurred[0] > blurred[1] > blurred[2]
    assert blurred[2] < BLURRED_BELOW


def test_the_same_picture_is_known_again(picture: np.ndarray) -> None:
    original = measure(picture)
    shifted = np.clip(np.roll(picture, 1, axis=1).astype(int) + 10, 0, 255).astype(np.uint8)
    smaller = cv2.resize(picture, (192, 192), interpolation=cv2.INTER_AREA)
    assert same_picture(original, measure(shifted)) > SAME_ABOVE
    assert same_picture(original, measure(smaller)) > SAME_ABOVE
    assert same_picture(original, measure(np.ascontiguousarray(picture[::-1]))) < 0.5


@pytest.mark.parametrize(
    ("rgb", "light"),
    [((20, 20, 20), "dark neutral"), ((120, 120, 120), "mid neutral"), ((220, 220, 220), "bright neutral"),
     ((200, 140, 60), "bright warm"), ((60, 90, 160), "mid cool"), ((140, 30, 40), "mid red"),
     ((60, 140, 80), "mid green")],
)  # fmt: skip
def test_light_has_a_level_and_a_tint(rgb: tuple[int, int, int], light: str) -> None:
    assert measure(np.full((32, 32, 3), rgb, np.uint8)).light == light


@pytest.fixture
def dataset(tmp_path: Path, picture: np.ndarray) -> Path:
    """Two different images whose captions say no view."""
    (tmp_path / "images").mkdir()
    (tmp_path / "dataset.toml").write_text(TOML)
    for number in (1, 2):
        write_png(tmp_path / "images" / f"{number}.png", np.roll(picture, 64 * number, axis=0))
        (tmp_path / "images" / f"{number}.txt").write_text("zorbik")
    return tmp_path


def test_an_unreadable_image_is_a_finding_and_the_rest_is_audited(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, path = dataset / "images" / "2.png", dataset / "dataset.toml"
    broken.write_bytes(broken.read_bytes()[:100])
    (audit,) = audit_dataset(path, read_dataset_file(path), size=128)
    assert len(audit.images) == 1
    assert [(each.rule, each.where) for each in audit.findings] == [("unreadable", str(broken))]
    assert cli.main(["dataset", "audit", str(path), "--sheet", str(dataset / "s.png")]) == 2
    assert "drop or look at: 2.png: unreadable" in capsys.readouterr().out
    (dataset / "joints.json").write_text("{")
    assert cli.main(["dataset", "audit", str(path)]) == 2
    assert "joints.json" in capsys.readouterr().err


def test_views_that_are_not_known_are_not_reported_as_missing(dataset: Path) -> None:
    path = dataset / "dataset.toml"
    (audit,) = audit_dataset(path, read_dataset_file(path), size=128)
    assert audit.coverage["view"] == {"unknown": 2}
    assert audit.findings == ()
    for number in (1, 2):
        (dataset / "images" / f"{number}.txt").write_text("zorbik, front view")
    (audit,) = audit_dataset(path, read_dataset_file(path), size=128)
    assert [finding.rule for finding in audit.findings] == ["views"]


def test_a_place_needs_no_views_and_a_small_image_is_told(dataset: Path) -> None:
    path = dataset / "dataset.toml"
    path.write_text(TOML.replace("character", "place"))
    (audit,) = audit_dataset(path, read_dataset_file(path), size=512)
    assert [finding.rule for finding in audit.findings] == ["resolution", "resolution"]


def test_joints_follow_a_picture_that_was_made_smaller() -> None:
    image = SAMPLES / CONCEPTS["iris"].folder / "images" / "0001.png"
    known = read_known(image.parent)
    whole, half, same = (
        look("0001", "", joints, trigger="iris")
        for joints in (known, joints_of(image, known, (64, 64)), joints_of(image, known, (128, 128)))
    )
    assert whole.figure is not None and half.figure is not None and same.figure is not None
    np.testing.assert_allclose(half.figure.points[:, :2] + 0.5, (whole.figure.points[:, :2] + 0.5) / 2)
    assert (same.figure.points == whole.figure.points).all()
    assert (half.view, half.framing) == (whole.view, whole.framing)


def test_joints_of_an_uncut_picture_are_not_read_in_a_cut_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "iris"
    shutil.copytree(SAMPLES / CONCEPTS["iris"].folder, old)
    for name in ("engine", "depth", "pose"):
        shutil.rmtree(old / name)
    toml = old / "dataset.toml"
    toml.write_text("\n".join(line for line in toml.read_text().split("\n") if "engine" not in line))
    cut = old / "images" / "0003.png"
    write_png(cut, np.ascontiguousarray(read_image(cut)[:, 20:]))
    (audit,) = audit_dataset(toml, read_dataset_file(toml), size=100)
    (finding,) = (each for each in audit.findings if each.rule == "joints")
    assert finding.where == str(cut) and finding.level == "error"
    assert "108x128 pixels, another shape than its joints' picture (128x128, " in finding.text
    assert {image.seen.source for image in audit.images if image.still.path != cut} == {"joints"}
    for command in (["prepare", "--out", str(tmp_path / "new")], ["caption", "--plain"]):
        (old / "images" / "0003.txt").unlink(missing_ok=command[0] == "caption")
        if command[0] == "prepare":
            (old / "images" / "0003.txt").write_text("a person, iris")
        assert cli.main(["dataset", command[0], str(toml), *command[1:]]) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(said) == 1 and "another shape than its joints' picture" in said[0]


def test_an_image_of_which_training_sees_little_is_told(dataset: Path) -> None:
    """A strip five times as wide as high: a square keeps a fifth; half is no fault yet."""
    path = dataset / "dataset.toml"
    rng = np.random.default_rng(0)
    for name, width in (("strip", 200), ("wide", 80)):
        picture = rng.integers(0, 255, (40, width, 3)).astype(np.uint8)
        write_png(dataset / "images" / f"{name}.png", picture)
        (dataset / "images" / f"{name}.txt").write_text("zorbik")
    for step, expected in ((0, ["strip.png"]), (4, [])):  # with aspect buckets all of it is seen
        (audit,) = audit_dataset(path, read_dataset_file(path), size=40, bucket_step=step)
        found = [each for each in audit.findings if each.rule == "cropped"]
        assert [Path(each.where).name for each in found] == expected
        assert all("200x40: training sees the middle 20% of it" in each.text for each in found)
