"""Who is on the images: by the stage's recogniser on its renders alone, else a ranking by a general model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import cli
from pipeline.errors import ModelError
from samples.stage.datasets import CONCEPTS
from samples.stage.spoiled import FOLDER
from training.curate.audit import Audit, Eyes, audit_dataset
from training.curate.features import USUAL_MODELS, find_features, load_features
from training.schema import read_dataset_file

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
ANDROID = SAMPLES / FOLDER


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole DINOv2 of random weights, saved as transformers saves one."""
    import torch
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7
    )
    Dinov2Model(config).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    BitImageProcessor(size={"shortest_edge": 28}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole CLIP of random weights: both halves, as OpenAI's are."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 64, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8})
    CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """The spoiled android's images without what the stage knows of them."""
    shutil.copytree(ANDROID, tmp_path / "set", ignore=shutil.ignore_patterns("joints.json"))
    return tmp_path / "set" / "dataset.toml"


def audited(path: Path, eyes: Eyes | None = None) -> Audit:
    (audit,) = audit_dataset(path, read_dataset_file(path), size=128, eyes=eyes or Eyes())
    return audit


def test_strangers_on_the_stage_are_found_and_described() -> None:
    audit = audited(ANDROID / "dataset.toml")
    assert audit.compared is not None
    assert {audit.images[n].still.path.name for n in audit.compared.strangers} == {"0004.png", "0009.png"}
    assert set(audit.compared.strangers.values()) == {"long hair, the others steel skull"}
    assert {image.still.path.name for image in audit.look_first[:2]} == {"0004.png", "0009.png"}
    assert audit.compared.by == "19 of 20 heads, by the stage's recogniser"  # one is all dark


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    """The same with joints in metres, as Blender's exporter writes them: nothing names the stage."""
    shutil.copytree(ANDROID, tmp_path / "renders")
    joints = tmp_path / "renders" / "joints.json"
    joints.write_text(joints.read_text().replace(', "rendered": "stage film"', ""))
    return tmp_path / "renders" / "dataset.toml"


@pytest.mark.parametrize("what", ["renders", "photographs"])
def test_the_recogniser_claims_nothing_outside_the_stage(what: str, request: pytest.FixtureRequest) -> None:
    """Not of photographs, and not of what another renderer made, places in metres or not."""
    audit = audited(request.getfixturevalue(what))
    assert audit.compared is not None and audit.compared.by.startswith("none: ")
    assert not audit.compared.strangers and audit.look_first == ()
    assert "outlier" not in {finding.rule for finding in audit.findings}


@pytest.mark.parametrize("name", ["dinov2", "clip"])
def test_a_general_model_ranks_and_accuses_nobody(
    name: str, photographs: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder: Path = request.getfixturevalue(name)
    features = load_features(folder)
    audit = audited(photographs, Eyes(features=lambda: features))
    assert audit.compared is not None
    assert sorted(audit.compared.ranked) == [n for n in range(20) if n != 12]  # all but the dark one
    assert not audit.compared.strangers and len(audit.look_first) == 4
    assert "whole pictures" in audit.compared.by and "nobody is judged" in audit.compared.by
    seen = features.look([image.picture for image in audit.images])
    assert seen.shape[0] == 20 and np.allclose(np.linalg.norm(seen, axis=1), 1.0)
    assert np.allclose(seen[6], seen[17], atol=0.05) and not np.allclose(seen[6], seen[3], atol=0.05)
    arguments = ["--model", str(folder), "--sheet", str(photographs.parent / "sheet.png")]
    assert cli.main(["dataset", "audit", str(photographs), *arguments]) == 2  # by its other faults
    assert "a ranking" in " ".join(capsys.readouterr().out.split())


def _other_model(name: str, folder: Path) -> Any:
    """A whole model of random weights without a class token, or that gives no tokens, and its processor."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    small = {"hidden_sizes": [8, 16], "depths": [1, 1]}
    vit = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    swin = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "patch_size": 4}
    seen = {**vit, "image_size": 32, "patch_size": 8}
    windows = t.SwinConfig(image_size=32, **swin)
    siglip = {"text_config": {**vit, "vocab_size": 64}, "vision_config": seen}
    made: dict[str, Callable[[], Any]] = {
        "resnet": lambda: t.ResNetModel(t.ResNetConfig(embedding_size=8, layer_type="basic", **small)),
        "convnext": lambda: t.ConvNextModel(t.ConvNextConfig(num_stages=2, **small)),
        "swin": lambda: t.SwinModel(windows),
        "swin without pooling": lambda: t.SwinModel(windows, add_pooling_layer=False),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(**siglip)),
        "vit without pooling": lambda: t.ViTModel(t.ViTConfig(**seen), add_pooling_layer=False),
        "segformer": lambda: t.SegformerModel(
            t.SegformerConfig(
                num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16],
                num_attention_heads=[1, 2], patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2],
            )
        ),
    }  # fmt: skip
    model = made[name]().eval()
    model.save_pretrained(folder)
    t.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return getattr(model, "vision_model", model)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet", lambda out: out.pooler_output[:, :, 0, 0]),
        ("convnext", lambda out: out.pooler_output),
        ("swin", lambda out: out.pooler_output),
        ("swin without pooling", lambda out: out.last_hidden_state.mean(dim=1)),
        ("siglip", lambda out: out.pooler_output),
        ("vit without pooling", lambda out: out.last_hidden_state[:, 0]),  # its pooling would be random
    ],
)
def test_features_are_what_each_kind_of_model_makes_of_the_whole_picture(
    name: str, wanted: Callable[[Any], Any], tmp_path: Path
) -> None:
    import torch
    from transformers import ViTImageProcessor

    network = _other_model(name, tmp_path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8))
    processor = ViTImageProcessor.from_pretrained(tmp_path)
    with torch.inference_mode():
        expected = wanted(network(**processor(images=pictures, return_tensors="pt"))).double()
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    np.testing.assert_allclose(load_features(tmp_path).look(pictures), expected, atol=1e-5)


def test_a_model_without_features_is_one_line(
    tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _other_model("segformer", tmp_path / "model")  # feature maps and nothing pooled
    assert cli.main(["dataset", "audit", str(photographs), "--model", str(tmp_path / "model")]) == 2
    assert "gives neither tokens nor pooled features" in capsys.readouterr().err


def test_broken_model_files_are_one_line(clip: Path, tmp_path: Path) -> None:
    def broken(name: str, text: bytes) -> Path:
        folder = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        shutil.copytree(clip, folder)
        (folder / name).write_bytes(text)
        return folder

    config = json.loads((clip / "config.json").read_text())
    weights = (clip / "model.safetensors").read_bytes()
    config["vision_config"]["hidden_size"] = 24
    cases = (
        broken("config.json", b"{"),
        broken("config.json", b"[]"),
        broken("config.json", b'{"model_type": "clip", "vision_config": 3}'),
        broken("config.json", b'{"model_type": "no such"}'),
        broken("config.json", json.dumps(config).encode()),
        broken("model.safetensors", weights[:900]),
        broken("model.safetensors", b""),
        broken("preprocessor_config.json", b"[]"),
        broken("preprocessor_config.json", b'{"image_processor_type": "None"}'),
    )
    for folder in cases:
        with pytest.raises(ModelError, match="is no image model that transformers reads"):
            load_features(folder)


def test_heads_are_compared_where_they_are_known(renders: Path, dinov2: Path) -> None:
    audit = audited(renders, Eyes(features=lambda: load_features(dinov2)))
    assert audit.compared is not None and audit.compared.by.startswith("19 of 20 heads, by ")


def test_what_is_no_image_model_is_one_line(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    with pytest.raises(ModelError, match="no general image model is in the hub's cache"):
        find_features()
    for name, said in ((USUAL_MODELS[0], "not in the hub's cache"), (str(tmp_path / "x"), r"no config.json")):
        with pytest.raises(ModelError, match=said):
            load_features(name)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{}")
    assert cli.main(["dataset", "audit", str(photographs), "--model", str(tmp_path / "bad")]) == 2
    assert "is no image model" in capsys.readouterr().err


@pytest.mark.parametrize("folder", [FOLDER, CONCEPTS["vaultfilm"].folder, CONCEPTS["vaulthall"].folder])
def test_a_model_that_ranks_nothing_is_not_loaded_and_that_is_said(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the stage's stills, and of styles and places."""
    asked: list[str] = []
    monkeypatch.setattr("training.curate.features.load_features", asked.append)
    arguments = [
        "dataset",
        "audit",
        str(SAMPLES / folder / "dataset.toml"),
        "--sheet",
        str(tmp_path / "s.png"),
    ]
    cli.main([*arguments, "--model", "some/model"])
    assert capsys.readouterr().err.startswith("note: --model some/model: not used; ")
    cli.main(arguments)
    assert asked == [] and "not used" not in capsys.readouterr().err


def test_the_cache_is_searched_before_it_is_said_to_hold_nothing(
    tmp_path: Path, dinov2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Joints without `world` are enough for views and not for the recogniser."""
    shutil.copytree(ANDROID, tmp_path / "flat")
    joints = tmp_path / "flat" / "joints.json"
    record = json.loads(joints.read_text())
    for figure in (figure for frame in record["frames"] for figure in frame["figures"]):
        del figure["world"]
    joints.write_text(json.dumps(record))
    monkeypatch.setattr("training.curate.features.find_features", lambda: load_features(dinov2))
    cli.main(["dataset", "audit", str(joints.parent / "dataset.toml"), "--sheet", str(tmp_path / "s.png")])
    assert "a ranking" in " ".join(capsys.readouterr().out.split())


def test_the_clean_samples_have_no_stranger() -> None:
    for name in ("iris", "otto"):
        compared = audited(SAMPLES / CONCEPTS[name].folder / "dataset.toml").compared
        assert compared is not None and compared.strangers == {} and len(compared.ranked) == 20
