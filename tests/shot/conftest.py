"""A small shot with every pass on disk."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from full_shot import make_passes

from pipeline.shot import write_shot


@pytest.fixture
def shot_root(tmp_path: Path) -> Path:
    """A shot folder of frames 7-12 with every pass."""
    root = tmp_path / "walk"
    write_shot(root, [make_passes()], fps=Fraction(24000, 1001), characters=("iris",), first_number=7)
    return root
