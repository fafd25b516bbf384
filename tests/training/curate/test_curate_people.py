"""What the audit sees of people: joints by a detector, face tones, masks, whom to look at first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import cli
from pipeline.errors import ModelError
from pipeline.image import UInt8Array, read_image, write_png
from pipeline.shot import FrameJoints, open_shot, read_frames, read_joints
from samples.stage.datasets import CONCEPTS
from training.curate.audit import Eyes, audit_dataset, needs_detector
from training.curate.caption import propose_captions
from training.curate.capture import capture
from training.curate.detect import find_detector
from training.curate.faces import face_of
from training.curate.views import read_known, view_of
from training.schema import read_dataset_file

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
OTTO = SAMPLES / CONCEPTS["otto"].folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Otto's stills with captions that say no view, and without joints."""
    shutil.copytree(OTTO / "images", tmp_path / "images")
    shutil.copy(OTTO / "dataset.toml", tmp_path)
    for path in (tmp_path / "images").glob("*.txt"):
        path.write_text("a person, otto")
    return tmp_path / "dataset.toml"


def as_detected(folder: Path) -> Callable[[UInt8Array], FrameJoints]:
    """The stage's joints as a detector gives them: in the picture only, and none that is hidden."""
    known = read_known(folder / "images")
    by_picture = {
        read_image(path).tobytes(): known[int(path.stem)] for path in (folder / "images").glob("*.png")
    }

    def detect(picture: UInt8Array) -> FrameJoints:
        joints = by_picture[picture.tobytes()]
        figures = []
        for figure in joints.figures:
            points = figure.points.copy()
            points[points[:, 2] < 2] = 0.0
            figures.append(replace(figure, points=points, world=None))
        return FrameJoints(0, tuple(figures))

    return detect


def test_views_of_photographs_come_from_the_detector(photographs: Path) -> None:
    file = read_dataset_file(photographs)
    assert needs_detector(photographs, file)
    (blind,) = audit_dataset(photographs, file, size=128)
    assert blind.coverage["view"] == {"unknown": 20}
    (seeing,) = audit_dataset(photographs, file, size=128, eyes=Eyes(detect=as_detected(OTTO)))
    (exact,) = audit_dataset(OTTO / "dataset.toml", file, size=128)
    assert {image.seen.source for image in seeing.images} == {"detector"}
    pairs = zip(seeing.images, exact.images, strict=True)
    assert sum(a.seen.view == b.seen.view for a, b in pairs) >= 17  # of 20; hidden points cost a few
    assert sum(image.face is not None for image in seeing.images) >= 10


def test_captions_say_the_views_that_the_detector_sees(photographs: Path) -> None:
    for number in (1, 3, 9):
        (photographs.parent / "images" / f"{number:04d}.txt").unlink()
    file = read_dataset_file(photographs)
    for detect, known in ((None, False), (as_detected(OTTO), True)):
        said = [each.caption for each in propose_captions(photographs, file, detect=detect)]
        assert [" view" in caption for caption in said] == [known] * 3


def test_a_film_without_joints_is_spread_over_the_views_that_a_detector_sees(tmp_path: Path) -> None:
    """Otto turns round in a closeup: with his joints the choice covers more views than without."""
    shot = open_shot(SAMPLES / "shots" / "profile_turn")
    blind = replace(shot, passes={"rgb": shot.passes["rgb"]})
    exact = read_joints(shot, 0, shot.num_frames)
    at = {read_frames(shot, t, t + 1)[0].tobytes(): t for t in range(shot.num_frames)}
    asked = []

    def detect(picture: UInt8Array) -> FrameJoints:
        asked.append(at[picture.tobytes()])
        return exact[asked[-1]]

    done = capture(blind, tmp_path / "new", count=3, detect=detect)
    assert 3 <= len(asked) <= 18
    known = read_known(tmp_path / "new" / "images")
    assert sorted(known) == sorted(int(path.stem) for path in done.images)
    views = {view_of(frame.figures[0], frame.camera) for frame in known.values()}
    assert len(views) >= 2


def test_without_weights_the_audit_says_so_and_goes_on(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.delenv("LOOKDEV_ANNOTATORS", raising=False)
    with pytest.raises(ModelError, match=r"OpenPose needs body_pose_model\.pth, which is not here"):
        find_detector()
    assert cli.main(["dataset", "audit", str(photographs), "--sheet", str(tmp_path / "s.png")]) == 0
    said = capsys.readouterr()
    assert "views by the captions' words where there are no joints: OpenPose needs" in said.err
    assert not needs_detector(OTTO / "dataset.toml", read_dataset_file(OTTO / "dataset.toml"))


@pytest.mark.slow
def test_the_audit_looks_through_the_real_network(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenPose at its real size with random weights: it finds nobody, or somebody, but the audit ends."""
    import torch

    from pipeline.controls import annotator_module

    annotator_module("open_pose.util")
    network = annotator_module("open_pose.model").bodypose_model()
    torch.save(
        {name.split(".", 1)[1]: values for name, values in network.state_dict().items()},
        tmp_path / "body_pose_model.pth",
    )
    monkeypatch.setenv("LOOKDEV_ANNOTATORS", str(tmp_path))
    for path in sorted((tmp_path / "images").glob("*"))[4:]:
        path.unlink()
    assert cli.main(["dataset", "audit", str(photographs), "--sheet", str(tmp_path / "s.png")]) == 0


def test_a_face_has_the_tone_that_its_colour_has() -> None:
    """ITA of colours with known L* and b*, back through the picture."""
    for lightness, b, tone in ((75, 15, "very light"), (65, 15, "light"), (60, 15, "intermediate"),
                               (55, 18, "tan"), (45, 18, "brown"), (25, 15, "dark")):  # fmt: skip
        lab = np.full((40, 40, 3), (lightness, 10, b), np.float32)
        picture = np.rint(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).astype(np.uint8)
        face = face_of(picture, np.array([20.0, 20.0]), 20.0)
        assert face is not None and face.tone == tone
        assert face.lightness == pytest.approx(lightness, abs=1)
    assert face_of(picture, np.array([-30.0, 20.0]), 20.0) is None


def test_masks_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    text = 'name = "z"\n[[concept]]\ntrigger = "zorbik"\nclass = "cup"\nkind = "object"\nviews = []\n'
    (tmp_path / "dataset.toml").write_text(text + 'masks = "masks"\n')
    rng = np.random.default_rng(0)
    half = np.zeros((128, 128), np.uint8)
    half[:64] = 255
    masks = [half, np.zeros((128, 128)), np.full((128, 128), 255), np.zeros((64, 64)), None]
    for number, mask in enumerate(masks):
        write_png(tmp_path / "images" / f"{number}.png", rng.integers(0, 255, (128, 128, 3), np.uint8))
        (tmp_path / "images" / f"{number}.txt").write_text("zorbik")
        if mask is not None:
            write_png(tmp_path / "masks" / f"{number}.png", np.asarray(mask, np.uint8))
    path = tmp_path / "dataset.toml"
    (audit,) = audit_dataset(path, read_dataset_file(path), size=128)
    found = {Path(f.where).name: f.text for f in audit.findings if f.rule == "mask"}
    assert sorted(found) == ["1.png", "2.png", "3.png", "4.png"]
    for name, part in (
        ("1.png", "all black"),
        ("2.png", "all white"),
        ("3.png", "64x64"),
        ("4.png", "missing"),
    ):
        assert part in found[name]
    assert cli.main(["dataset", "audit", str(path), "--sheet", str(tmp_path / "s.png")]) == 2
