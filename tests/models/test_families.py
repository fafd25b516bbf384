import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ModelError
from pipeline.models import FAMILIES, find_model


def test_a_name_finds_the_built_in_folder() -> None:
    family, folder = find_model("mini")
    assert family is FAMILIES["mini"]
    assert folder.parts[-3:] == ("pipeline", "models", "mini")


def test_a_folder_is_recognised_by_its_unet(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": 128}))
    assert find_model(tmp_path) == (FAMILIES["mini"], tmp_path)


def test_a_wrong_name_suggests_the_close_one() -> None:
    with pytest.raises(ModelError, match=r"model 'mimi' is not there; .*did you mean 'mini'\?"):
        find_model("mimi")


@pytest.mark.parametrize("config", [None, "{", "[]", '{"cross_attention_dim": 1024}'])
def test_a_folder_of_no_family_is_one_line(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "unet").mkdir()
        (tmp_path / "unet" / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"unet/config\.json") as caught:
        find_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_table_needs_no_torch() -> None:
    code = (
        "import sys, pipeline.models, pipeline.diffuse; pipeline.models.find_model('mini');"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
