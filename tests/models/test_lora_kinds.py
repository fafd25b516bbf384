"""Every kind that training injects: the file exported, merged by the render side, says the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from lora_samples import narrow_model

from pipeline.errors import ModelError
from pipeline.models import (
    FAMILIES,
    LoraModules,
    LoraUse,
    Model,
    apply_loras,
    inject_lora,
    load_lora_state,
    load_model,
    lora_disabled,
    lora_metadata,
    lora_state,
    read_lora,
    write_lora,
)
from pipeline.models import lora_save as save
from pipeline.models.lora_kinds import LORA_KINDS
from pipeline.models.lora_place import model_layers

# A merged weight sums once what a side branch adds twice: float32 rounding over about 40 layers.
TOLERANCE = 1e-5
KINDS = tuple(LORA_KINDS)


def injected(model: Model, kind: str, *, conv_rank: int = 3) -> LoraModules:
    """Layers with random weights, as if trained, in the UNet and all text encoders."""
    lora = inject_lora(model, kind=kind, rank=4, alpha=2.0, text_encoder=True, seed=0, conv_rank=conv_rank)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in (*lora.unet_parameters, *lora.text_parameters):
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return lora


def said(model: Model) -> list[torch.Tensor]:
    """The UNet's output and each text encoder's."""
    generator = torch.Generator().manual_seed(2)
    width = model.unet.config.cross_attention_dim
    context = torch.randn(1, 7, width, generator=generator)
    latents = torch.randn(1, 4, 16, 16, generator=generator)
    extra = {}
    if model.text_encoder_2 is not None:
        pooled = model.unet.config.projection_class_embeddings_input_dim
        pooled -= 6 * model.unet.config.addition_time_embed_dim
        extra["added_cond_kwargs"] = {
            "text_embeds": torch.randn(1, pooled, generator=generator),
            "time_ids": torch.ones(1, 6),
        }
    encoders = [encoder for encoder in (model.text_encoder, model.text_encoder_2) if encoder is not None]
    ids = torch.arange(9)[None]
    with torch.no_grad():
        return [
            model.unet(latents, 500, context, **extra).sample,
            *(encoder(ids, output_hidden_states=True).hidden_states[-1] for encoder in encoders),
        ]


@pytest.mark.parametrize("layout", ["kohya", "peft"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_of_a_kind_says_what_the_trained_layers_say(
    random_model: Path, tmp_path: Path, kind: str, layout: str
) -> None:
    if (kind, layout) not in save.READERS:
        pytest.skip("no such file")
    trained, fresh = load_model(random_model, controls=()), load_model(random_model, controls=())
    base = said(fresh)
    injected(trained, kind)
    with lora_disabled(trained):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(said(trained), base, strict=True))
    path = tmp_path / "x.safetensors"
    metadata = lora_metadata(fresh.family, name="x", rank=4, alpha=2.0)
    state, metadata = save.trained_file(trained, path, metadata, kind=kind, layout=layout)
    write_lora(path, state, metadata=metadata)
    assert read_lora(path).layout == layout
    apply_loras(fresh, [LoraUse(path)])
    for ours, theirs, before in zip(said(trained), said(fresh), base, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=TOLERANCE)
        assert float((ours - before).abs().max()) > 100 * TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_kind_changes_no_bit_and_its_state_comes_back_whole(
    random_model: Path, kind: str
) -> None:
    fresh, model = load_model(random_model, controls=()), load_model(random_model, controls=())
    inject_lora(model, kind=kind, rank=4, alpha=2.0, text_encoder=True, seed=0, conv_rank=3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(said(model), said(fresh), strict=True))
    injected(fresh, kind)
    state = lora_state(fresh)
    load_lora_state(model, state)
    again = lora_state(model)
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(said(model), said(fresh), strict=True))


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_training_mode_leaves_no_layer_out_by_chance(
    random_model: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(random_model, controls=())
    injected(model, kind)
    expected = said(model)[0]
    model.unet.train()  # as gradient checkpointing has it
    plain = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *size, **more: plain(*size, **more) * 0.0)
    assert torch.equal(said(model)[0], expected)


def narrow_sdxl() -> Model:
    """SDXL's topology with few channels and both text encoders; no VAE, no tokenizer."""
    parts = narrow_model("sdxl")
    return Model(
        family=replace(FAMILIES["sdxl"], context_width=40),
        unet=parts.unet.eval().requires_grad_(False),
        text_encoder=parts.text_encoder.eval().requires_grad_(False),
        text_encoder_2=parts.text_encoder_2.eval().requires_grad_(False),
        vae=None,
        tokenizer=None,
        controlnets={},
        scheduler_config={},
    )


@pytest.mark.parametrize(("kind", "layout"), [("dora", "kohya"), ("lokr", "kohya"), ("lora", "peft")])
def test_sdxl_has_both_text_encoders_and_every_program_reads_the_file(
    kind: str, layout: str, tmp_path: Path
) -> None:
    trained, fresh = narrow_sdxl(), narrow_sdxl()
    assert isinstance(trained.unet, UNet2DConditionModel)
    base = said(fresh)
    injected(trained, kind)
    path = tmp_path / "x.safetensors"
    state, metadata = save.trained_file(trained, path, {}, kind=kind, layout=layout)
    starts = {key.partition("text_model")[0] for key in state if "text_model" in key}
    if layout == "kohya":
        block = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
        assert starts == {"lora_te1_", "lora_te2_"} and any(key.startswith(block) for key in state)
    else:
        block = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q."
        assert starts == {"text_encoder.", "text_encoder_2."} and any(key.startswith(block) for key in state)
    write_lora(path, state, metadata=metadata)
    apply_loras(fresh, [LoraUse(path)])
    for ours, theirs, before in zip(said(trained), said(fresh), base, strict=True):
        # narrow layers and 10 blocks a transformer: the outputs' rounding grows with their size
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(ours, before, atol=1e-3)


def test_a_file_that_a_program_would_half_load_is_not_written(random_model: Path, tmp_path: Path) -> None:
    """As when transformers renames its layers: the text encoder's names lack their inner part."""
    model = load_model(random_model, controls=())
    injected(model, "lora")
    state = {
        key.replace("lora_te_text_model_", "lora_te_"): value for key, value in lora_state(model).items()
    }
    file = save._file(tmp_path / "x.safetensors", state, {})
    names = model_layers(model)[1]
    with pytest.raises(ModelError, match=r"kohya would leave out 36 of \d+ keys, first lora_te_encoder"):
        save.check_read_whole(file, "mini", names, ("lookdev", "kohya"))
    save.check_read_whole(file, "mini", names, ("lookdev",))  # our own loader knows them
