"""What several rooms' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_shot import make_model


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a miniature with random weights."""
    return make_model(tmp_path_factory.mktemp("random_model"))
