"""SDXL's shapes: both text encoders learn, and the files have the names that other programs expect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file
from small_clip import tiny_sdxl
from small_material import CONCEPT, small_material

from pipeline.models import LoraUse, apply_loras, encode_prompts, read_lora
from training.adapters.table import build
from training.adapters.trained import Job
from training.dataset import Dataset
from training.draws import draw
from training.example import Example
from training.loop import Trainer
from training.schema import DatasetFile, TrainSettings

SETTINGS = {"rank": 2, "batch": 1, "steps": 2, "text_lr": 1e-3, "caption_dropout": 0.0}


def trained_two_steps(folder: Path, kind: str) -> tuple[Trainer, Dataset]:
    settings = TrainSettings.model_validate(SETTINGS | {"kind": kind, "vectors": 2})
    trainer = Trainer(
        build(tiny_sdxl(folder), settings, [CONCEPT]), small_material(), settings, precision="fp32"
    )
    trainer.take_step()
    trainer.take_step()
    file = DatasetFile(name="iris", concept=(CONCEPT,), train=settings)
    one = Example(Path("1.png"), np.zeros((128, 128, 3), np.uint8), "irisbot in a hall", 0, {})
    return trainer, Dataset(path=Path("d.toml"), file=file, examples=(one,), size=128, weights=(1.0,))


def test_a_lora_of_both_text_encoders_and_the_unet_is_what_was_trained(
    random_model: Path, tmp_path: Path
) -> None:
    trainer, data = trained_two_steps(random_model, "lora")
    path = trainer.trained.export(Job(tmp_path, data, base=random_model, stamp="s"))[-1]
    lora = read_lora(path)
    starts = {name.partition("_text_model")[0] for name in lora.modules if "text_model" in name}
    assert starts == {"lora_te1", "lora_te2"}
    learned = [name for name, module in lora.modules.items() if bool(module.parts["up"].any())]
    assert {name[:8] for name in learned} == {"lora_te1", "lora_te2", "lora_une"}
    assert lora.metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    merged = tiny_sdxl(random_model)
    apply_loras(merged, [LoraUse(path)])
    trained = encode_prompts(trainer.model, ["irisbot in a hall"])
    ours = encode_prompts(merged, ["irisbot in a hall"])
    # Merged once here, added twice there: float32 rounding over a few layers.
    torch.testing.assert_close(ours.tokens, trained.tokens, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(
        ours.tokens, encode_prompts(tiny_sdxl(random_model), ["irisbot in a hall"]).tokens
    )


def test_an_embedding_has_vectors_for_both_text_encoders(random_model: Path, tmp_path: Path) -> None:
    trainer, data = trained_two_steps(random_model, "embedding")
    path = trainer.trained.export(Job(tmp_path, data, base=random_model, stamp="s"))[-1]
    vectors = load_file(path)
    assert {key: tuple(value.shape) for key, value in vectors.items()} == {
        "clip_l": (2, 32),
        "clip_g": (2, 48),
    }
    fresh = build(tiny_sdxl(random_model), trainer.settings, [CONCEPT]).state()
    assert not torch.equal(vectors["clip_l"], fresh["irisbot.0"])
    assert not torch.equal(vectors["clip_g"], fresh["irisbot.1"])


# what diffusers says of a pipeline without weights that it would fetch
@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
def test_a_whole_model_opens_in_diffusers(random_model: Path, tmp_path: Path) -> None:
    trainer, data = trained_two_steps(random_model, "full")
    (folder,) = trainer.trained.export(Job(tmp_path, data, base=random_model, stamp="s"))
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    base = tiny_sdxl(random_model)
    for root in ("unet", "text_encoder", "text_encoder_2"):
        ours, learned, before = (getattr(of, root).state_dict() for of in (pipe, trainer.model, base))
        assert all(torch.equal(ours[name], learned[name]) for name in learned)
        assert any(not torch.equal(learned[name], before[name]) for name in learned)


def test_the_networks_are_told_both_texts_and_the_sizes_of_the_crop(random_model: Path) -> None:
    """Against the UNet by hand, told what a render tells it and the sizes of the crop (Podell et al. 2.2)."""
    model = tiny_sdxl(random_model)
    settings = TrainSettings.model_validate(SETTINGS | {"text_lr": 0.0, "batch": 2})
    sizes = torch.tensor([[700.0, 512.0, 12.0, 0.0, 128.0, 128.0], [128.0, 128.0, 0.0, 0.0, 128.0, 128.0]])
    data = replace(small_material(), sizes=sizes)
    trainer = Trainer(build(model, settings), data, settings, precision="fp32")
    chosen = draw(data, [0, 1], 0, settings, 1000)
    noisy = torch.stack(chosen.noise)
    captions = ["irisbot (in a hall)", "irisbot"]
    said = encode_prompts(model, [r"irisbot \(in a hall\)", "irisbot"])  # brackets of a caption are text
    with torch.no_grad():
        ours = trainer.predict(noisy, captions, chosen)
        added = {"text_embeds": said.pooled, "time_ids": sizes}
        arguments = (noisy, chosen.timesteps, said.tokens)
        expected = model.unet(*arguments, added_cond_kwargs=added).sample
        told = model.unet(*arguments, added_cond_kwargs=added | {"time_ids": sizes.flip(0)}).sample
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, told, rtol=1e-4, atol=1e-5)
