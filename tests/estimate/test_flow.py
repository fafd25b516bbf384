"""Motion between pictures: DIS finds a slide, RAFT reads its file, what a cut hides is not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_shot import STEP, passes

from pipeline.errors import ModelError
from pipeline.estimate.flow import alike, dis_flow, raft_flow, ways_between
from pipeline.estimate.hidden import landing, seen_by_pictures
from pipeline.steady.visibility import round_trip


def test_dis_finds_a_slide_and_what_slid_in() -> None:
    pictures = passes(3).rgb
    ways = list(ways_between(pictures, dis_flow()))
    assert len(ways) == 2
    for onward, back in ways:
        inner = (slice(12, -12), slice(12, -12))
        np.testing.assert_allclose(
            onward.flow[inner], np.float32((STEP, 0)) + np.zeros_like(onward.flow[inner]), atol=0.25
        )
        np.testing.assert_allclose(
            back.flow[inner], np.float32((-STEP, 0)) + np.zeros_like(back.flow[inner]), atol=0.25
        )
        assert onward.seen[inner].all() and back.seen[inner].all()
        assert not onward.seen[:, -1].any() and not back.seen[:, 0].any()  # it left, it came in


def test_over_a_cut_grey_tells() -> None:
    dark, light = np.full((2, 32, 32, 3), 20, np.uint8), np.full((1, 32, 32, 3), 200, np.uint8)
    (held, _), (cut, _) = ways_between(np.concatenate([dark, light]), dis_flow())
    assert held.seen.all() and not cut.seen.any()
    assert alike(dark[0], dark[1], np.zeros((32, 32, 2), np.float32)).all()


def test_raft_reads_its_file_at_any_size(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    torch.save(raft_large(weights=None).state_dict(), tmp_path / "raft.pth")
    flow = raft_flow(tmp_path / "raft.pth", "cpu")
    here, there = passes(2, size=61).rgb
    found = flow(here, there)
    assert found.shape == (61, 61, 2) and found.dtype == np.float32 and np.isfinite(found).all()
    padded = np.pad(here, ((0, 67), (0, 67), (0, 0)), mode="edge")
    np.testing.assert_array_equal(flow(padded, padded)[:61, :61], flow(here, here))  # 128 is RAFT's least


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "cannot be loaded"), (b"<html>not found</html>", "holds no plain weights")]
)
def test_a_file_that_is_no_raft(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "raft.pth").write_bytes(content)
    with pytest.raises(ModelError, match=rf"raft\.pth: {said}.*; fetch the file again"):
        raft_flow(tmp_path / "raft.pth", "cpu")


def test_where_vectors_land() -> None:
    """Everything moves right by 2.5: nothing lands on the two left columns, half on the third."""
    flow = np.zeros((4, 8, 2), np.float32)
    flow[..., 0] = 2.5
    np.testing.assert_allclose(landing(flow)[1], [0, 0, 0.5, 1, 1, 1, 1, 1])
    flow[1] = np.nan
    np.testing.assert_allclose(landing(flow)[1], 0.0)


def test_slipping_vectors_on_a_plain_wall_hide_nothing() -> None:
    """There and back they miss by 4 px; the wall looks the same everywhere."""
    wall = np.full((32, 32, 3), 90, np.uint8)
    slip = np.zeros((32, 32, 2), np.float32)
    slip[8:24, 8:24] = 4.0
    seen = seen_by_pictures(wall, wall, slip, np.zeros_like(slip))
    assert seen.all() and not round_trip(slip, np.zeros_like(slip)).all()


def test_what_slides_under_a_post_is_hidden() -> None:
    """Texture moves right by 3 px under a post that stands: the 3 px before it are hidden, no others."""
    texture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    here, there = texture.copy(), np.roll(texture, 3, axis=1)
    onward, back = np.zeros((48, 64, 2), np.float32), np.zeros((48, 64, 2), np.float32)
    onward[..., 0], back[..., 0] = 3, -3
    for picture, flow in ((here, onward), (there, back)):
        picture[:, 30:40] = (20, 200, 20)
        flow[:, 30:40] = 0
    hidden = ~seen_by_pictures(here, there, onward, back)
    assert hidden[:, 27:30].all() and hidden[:, 61:].all() and not hidden[:, 3:26].any()
    assert not hidden[:, 31:39].any() and not hidden[:, 44:60].any()
