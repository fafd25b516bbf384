"""Motion between pictures: DIS finds a slide, RAFT reads its file, what a cut hides is not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_shot import STEP, passes

from pipeline.errors import ModelError
from pipeline.estimate.flow import alike, dis_flow, raft_flow, ways_between


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
