"""What a change makes again and what it leaves, frame by frame; formats; sources that change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_shot import CONTROLS, make_preset, make_shot

from pipeline.errors import ShotError
from pipeline.image import read_image, write_png
from pipeline.journal import Journal
from pipeline.plan import make_plan
from pipeline.preset import load_preset
from pipeline.render import Machine, RenderResult, render_shot
from pipeline.shot import open_shot

NUM_FRAMES = 10
GROUP = 4  # frames of the miniature that share a forward pass on a CPU


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """A shot, a preset for each method, and both rendered; tests work on copies."""
    root = tmp_path_factory.mktemp("done")
    make_shot(root / "wall", num_frames=NUM_FRAMES)
    for method in ("frame", "blend"):
        make_preset(root / f"{method}.toml", random_model, extra=CONTROLS, method=method)
        render(root, method)
    return root


@pytest.fixture
def root(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path / "copy")  # with times of change
    return tmp_path / "copy"


def render(root: Path, method: str, *overrides: str) -> RenderResult:
    preset = load_preset(root / f"{method}.toml", overrides=overrides)
    return render_shot(open_shot(root / "wall"), preset, root / method, machine=Machine("cpu"))


def journal(root: Path, method: str, *overrides: str) -> Journal:
    preset = load_preset(root / f"{method}.toml", overrides=overrides)
    return Journal(root / method / "wall", make_plan(open_shot(root / "wall"), preset))


def frames(root: Path, method: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((root / method / "wall" / "frames").iterdir())]


def darken(root: Path, number: int) -> None:
    """Another picture in frame `number` of the source."""
    path = root / "wall" / "rgb" / f"rgb.{number:04d}.png"
    write_png(path, read_image(path) // 2)


@pytest.mark.parametrize(("method", "kept"), [("frame", 9), ("blend", 6)])
def test_a_changed_source_frame_costs_what_depends_on_it(root: Path, method: str, kept: int) -> None:
    """Alone: that frame, and its forward pass with it. Blended: it and all that follow."""
    before = frames(root, method)
    darken(root, 7)
    assert journal(root, method).kept() == kept
    assert render(root, method).num_rendered == 4
    after = frames(root, method)
    changed = [number for number in range(1, NUM_FRAMES + 1) if before[number - 1] != after[number - 1]]
    assert changed == ([7] if method == "frame" else [7, 8, 9, 10])
    shutil.rmtree(root / method)
    render(root, method)
    assert frames(root, method) == after  # as if it had never been otherwise


def test_a_beat_costs_its_own_frames(root: Path) -> None:
    """Frames 5 to 8 share a forward pass, so a beat on them changes the company of no other frame."""
    beat = 'beat=[{frames=[5,8], prompt="a woman walks"}]'
    before = frames(root, "frame")
    assert journal(root, "frame", beat).kept() == 6
    assert render(root, "frame", beat).num_rendered == 4
    same = [a == b for a, b in zip(frames(root, "frame"), before, strict=True)]
    assert same == [True] * 4 + [False] * 4 + [True] * 2


def test_what_is_not_read_costs_nothing(root: Path) -> None:
    (root / "wall" / "motion" / "motion.0003.exr").touch()
    assert render(root, "frame").skipped
    assert journal(root, "blend").kept() == 2


def test_another_seed_or_word_on_the_depth_costs_all(root: Path) -> None:
    assert journal(root, "frame", "seed=5").kept() == 0
    sidecar = root / "wall" / "shot.toml"
    sidecar.write_text(sidecar.read_text() + '\n[depth]\nkind = "linear"\nscale = 2.0\n')
    assert journal(root, "frame").kept() == 0


@pytest.mark.parametrize(
    ("output", "name", "num_files"),
    [
        ("png", "frames", NUM_FRAMES),
        ("exr", "exr", NUM_FRAMES),
        ("prores", "wall.mov", 0),
        ("h265", "wall.mp4", 0),
    ],
)
def test_another_format_makes_no_frame_again(root: Path, output: str, name: str, num_files: int) -> None:
    before = frames(root, "frame")
    setting = f"output.format={output}"
    result = render(root, "frame", setting)
    assert (result.num_rendered, result.skipped) == (0, False) and frames(root, "frame") == before
    assert result.video == root / "frame" / "wall" / name and result.video.exists()
    assert num_files == 0 or len(list(result.video.iterdir())) == num_files
    assert json.loads(result.record.read_text())["outputs"][0] == name
    assert render(root, "frame", setting).skipped
    if num_files:
        sorted(result.video.iterdir())[0].unlink()
        assert not render(root, "frame", setting).skipped  # it is made whole again


def test_frames_of_another_look_leave_no_result_behind(root: Path) -> None:
    render(root, "frame", "output.format=exr")
    assert (root / "frame" / "wall" / "wall.mp4").exists()  # of the same frames
    render(root, "frame", "output.format=prores", "seed=5")
    left = sorted(path.name for path in (root / "frame" / "wall").iterdir())
    assert left == ["exr", "frames", "plan.json", "record.json", "review.html", "wall.mov"]
    assert list((root / "frame" / "wall" / "exr").iterdir()) == []


def test_a_source_that_changes_meanwhile_is_one_line_and_nothing_is_taken_for_good(root: Path) -> None:
    shutil.rmtree(root / "frame")

    def on_frame(name: str, done: int, total: int) -> None:
        if done == GROUP:
            darken(root, 2)

    preset = load_preset(root / "frame.toml")
    with pytest.raises(ShotError, match=r"rgb\.0002\.png: changed while the shot was rendered") as caught:
        render_shot(
            open_shot(root / "wall"), preset, root / "frame", machine=Machine("cpu"), on_frame=on_frame
        )
    assert "\n" not in str(caught.value)
    assert not (root / "frame" / "wall" / "record.json").exists()
    assert not (root / "frame" / "wall" / "wall.mp4").exists()
    assert render(root, "frame").num_rendered == GROUP  # the pass with the changed frame alone
    after = frames(root, "frame")
    shutil.rmtree(root / "frame")
    render(root, "frame")
    assert frames(root, "frame") == after


def test_a_record_says_what_made_it(root: Path) -> None:
    record = json.loads((root / "frame" / "wall" / "record.json").read_text())
    assert {"load", "frames", "output"} <= record["seconds"].keys()
    assert len(record["machines"]) == 1 and record["machines"][0].startswith("cpu ")
    assert record["versions"]["ffmpeg"] not in ("", "unknown")
    assert any(name.endswith("frame.toml") for name in record["inputs"])
    assert record["settings"]["output"]["format"] == "h264"


def test_leftovers_of_a_kill_go_with_the_next_run(root: Path) -> None:
    folder = root / "frame" / "wall"
    (folder / "record.json").unlink()
    for left in (folder / "frames" / ".styled.0099.partial.png", folder / ".plan.partial.json"):
        left.write_bytes(b"half")
    render(root, "frame")
    assert [path.name for path in folder.rglob(".*")] == []
