"""What a plan refuses and notes of prompts and textual inversions, before anything heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_shot import make_preset, make_shot

from pipeline.errors import ModelError, PresetError, UserError
from pipeline.files import file_digest
from pipeline.plan import Plan, check_preset, make_plan
from pipeline.preset import load_preset
from pipeline.shot import Shot

EMBEDDING = '[[embedding]]\npath = "BadHands.safetensors"'


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=2)


def planned(shot: Shot, folder: Path, extra: str = "", *overrides: str) -> Plan:
    return make_plan(shot, load_preset(make_preset(folder / "preset.toml", extra=extra), overrides=overrides))


def write_embedding(path: Path, width: int = 128, *, value: float = 0.0) -> None:
    save_file({"emb_params": np.full((2, width), value, np.float32)}, path)


def test_embeddings_and_clip_skip_are_planned_and_decide_pixels(shot: Shot, tmp_path: Path) -> None:
    path = tmp_path / "BadHands.safetensors"
    write_embedding(path)
    plan = planned(shot, tmp_path, EMBEDDING)
    (embedding,) = plan.embeddings
    assert (embedding.path, embedding.name, plan.clip_skip) == (path, "BadHands", 1)
    digests = {
        plan.frames_digest,
        planned(shot, tmp_path).frames_digest,
        planned(shot, tmp_path, EMBEDDING, "clip_skip=2").frames_digest,
        planned(shot, tmp_path, EMBEDDING, "embedding.0.name=hands").frames_digest,
    }
    assert planned(shot, tmp_path, EMBEDDING, "embedding.0.allow_pickle=true").frames_digest in digests
    write_embedding(path, value=1.0)
    assert len({*digests, planned(shot, tmp_path, EMBEDDING).frames_digest}) == 5
    changed = planned(shot, tmp_path, EMBEDDING).frames_digest
    path.rename(tmp_path / "other.safetensors")  # where it lies does not decide
    moved = 'embedding=[{path="other.safetensors", name="BadHands"}]'
    assert planned(shot, tmp_path, "", moved).frames_digest == changed


def test_a_lora_that_was_trained_with_an_embedding_asks_for_it(shot: Shot, tmp_path: Path) -> None:
    write_embedding(tmp_path / "BadHands.safetensors")
    name = "lora_unet_mid_block_attentions_0_proj_in"
    state = {
        f"{name}.lora_down.weight": np.zeros((1, 192), np.float32),
        f"{name}.lora_up.weight": np.zeros((192, 1), np.float32),
    }
    digest = file_digest(tmp_path / "BadHands.safetensors")
    belongs = {"badhands": {"file": "BadHands.safetensors", "sha256": digest}}
    lora = '[[lora]]\npath = "hands.safetensors"\n'
    where = f"{tmp_path / 'preset.toml'}:lora[0].path: was trained with"

    def notes(metadata: str, extra: str) -> tuple[str, ...]:
        save_file(state, tmp_path / "hands.safetensors", {"lookdev.embeddings": metadata})
        return planned(shot, tmp_path, lora + extra, "negative=badhands", "guidance=2").notes

    said = json.dumps(belongs)
    assert notes(said, "") == (f"{where} the embedding 'badhands'; add it as [[embedding]]",)
    assert notes(said, EMBEDDING) == ()
    other = json.dumps({"badhands": {"file": "x", "sha256": "0"}})
    assert notes(other, EMBEDDING) == (f"{where} another file of the embedding 'badhands'",)
    for damaged in ("[", "[1]", '{"a": 1}'):
        assert notes(damaged, "") == ()


def test_an_embedding_that_no_prompt_says_is_noted(shot: Shot, tmp_path: Path) -> None:
    write_embedding(tmp_path / "BadHands.safetensors")
    note = f"{tmp_path / 'preset.toml'}:embedding[0].path: no prompt says 'BadHands'"
    assert planned(shot, tmp_path, EMBEDDING).notes == (note,)
    assert planned(shot, tmp_path, EMBEDDING, "negative=(badhands:1.2)", "guidance=1").notes == (note,)
    assert planned(shot, tmp_path, EMBEDDING, "negative=(badhands:1.2)").notes == ()
    preset = load_preset(tmp_path / "preset.toml")
    assert check_preset(preset) == (note,)


@pytest.mark.parametrize(
    ("width", "override", "kind", "message"),
    [
        (None, "seed=1", PresetError, "preset.toml:embedding[0].path: found no file "),
        (
            768,
            "seed=1",
            ModelError,
            "vectors of width 768 (made for Stable Diffusion 1.x); model 'mini' reads 128",
        ),
    ],
)
def test_files_that_cannot_serve(
    shot: Shot, tmp_path: Path, width: int | None, override: str, kind: type[UserError], message: str
) -> None:
    if width is not None:
        write_embedding(tmp_path / "BadHands.safetensors", width)
    for refused in (
        lambda: planned(shot, tmp_path, EMBEDDING, override),
        lambda: check_preset(load_preset(make_preset(tmp_path / "preset.toml", extra=EMBEDDING))),
    ):
        with pytest.raises(kind) as caught:
            refused()
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_are_refused_unless_allowed(shot: Shot, tmp_path: Path) -> None:
    (tmp_path / "hands.pt").write_bytes(b"PK\x03\x04 a zip")
    extra = '[[embedding]]\npath = "hands.pt"\n'
    with pytest.raises(
        ModelError, match=r"embedding\[0\].path: .*hands.pt: is a pickle, .*allow_pickle = true"
    ):
        planned(shot, tmp_path, extra)
    assert planned(shot, tmp_path, extra + "allow_pickle = true").embeddings[0].allow_pickle


@pytest.mark.parametrize(
    ("extra", "override", "where"),
    [
        ("", "prompt=iris <lora:iris:0.8>", "--set prompt"),
        ("", "negative=<hypernet:x:1>", "--set negative"),
        ('[vars]\nwho = "<lora:iris:1>"', "prompt={who}", "preset.toml:vars.who"),
        ('[[beat]]\nframes = [1, 1]\nprompt = "<lora:iris:1>"', "seed=1", "preset.toml:beat[0].prompt"),
        (
            '[[beat]]\nframes = [1, 1]\nvars = { who = "<lora:iris:1>" }\n[vars]\nwho = "a"',
            "prompt={who}",
            "preset.toml:beat[0].vars.who",
        ),
    ],
)
def test_extra_networks_in_prompts_are_refused_where_they_stand(
    shot: Shot, tmp_path: Path, extra: str, override: str, where: str
) -> None:
    with pytest.raises(PresetError) as caught:
        planned(shot, tmp_path, extra, override)
    assert f"{where}: prompt has <" in str(caught.value) and "\n" not in str(caught.value)
