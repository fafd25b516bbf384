"""Each kind of training: it learns, it resumes exactly, the base stays what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from small_material import CONCEPT, small_material

from pipeline.models import encode_captions, load_model
from training import checkpoint
from training.adapters.table import KINDS, build
from training.draws import draw
from training.loop import Trainer
from training.schema import TrainSettings


def new_trainer(folder: Path, kind: str, **settings: object) -> Trainer:
    wanted = {"rank": 2, "batch": 1, "steps": 3, "text_lr": 1e-3, "kind": kind} | settings
    train = TrainSettings.model_validate(wanted)
    trained = build(load_model(folder, controls=()), train, [CONCEPT])
    return Trainer(trained, small_material(), train, precision="fp32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_cut_off_and_resumed_ends_with_the_bits_of_an_uninterrupted_one(
    random_model: Path, tmp_path: Path, kind: str
) -> None:
    whole = new_trainer(random_model, kind, prior_weight=0.5)
    start = whole.trained.state()
    whole.take_step()
    checkpoint.save(tmp_path / "c.pt", whole, digest="d", seconds=0.0)
    whole.take_step()
    whole.take_step()
    saved = checkpoint.read(tmp_path / "c.pt")
    assert saved is not None
    resumed = new_trainer(random_model, kind, prior_weight=0.5)
    checkpoint.restore(resumed, saved)
    resumed.take_step()
    resumed.take_step()
    ours, theirs = whole.trained.state(), resumed.trained.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert any(not torch.equal(ours[key], start[key]) for key in ours)


@pytest.mark.parametrize("kind", ["lora", "embedding", "pivotal", "full"])
def test_disabled_it_says_what_the_base_says_and_afterwards_what_it_said_before(
    random_model: Path, kind: str
) -> None:
    """Text encoders too: prior preservation holds the class to this."""
    trainer = new_trainer(random_model, kind, batch=2)
    base = load_model(random_model, controls=())
    base.unet.to(memory_format=torch.channels_last)
    trainer.take_step()
    chosen = draw(trainer.material, [0, 1], 0, trainer.settings, 1000)
    noisy, captions = torch.stack(chosen.noise), list(trainer.material.captions)
    with torch.no_grad():
        before = trainer.predict(noisy, captions, chosen, fresh=True)
        with trainer.trained.disabled():
            inside = trainer.predict(noisy, captions, chosen, fresh=True)
        after = trainer.predict(noisy, captions, chosen, fresh=True)
        said = encode_captions(base, captions).tokens
        wanted = base.unet(noisy, chosen.timesteps, encoder_hidden_states=said, return_dict=False)[0]
    # A whole model is lent copies of its weights, which may lie otherwise and so round elsewhere; layers of
    # a LoRA multiply by another library than the base does.
    torch.testing.assert_close(inside, wanted, rtol=0.0, atol=0.0 if kind == "embedding" else 1e-5)
    assert torch.equal(before, after) and not torch.equal(before, inside)


def test_a_word_starts_as_its_init_text_or_else_as_its_class(random_model: Path) -> None:
    told = CONCEPT.model_copy(update={"trigger": "told", "init_text": "steel skull"})
    for kind in ("embedding", "pivotal"):
        model = load_model(random_model, controls=())
        table = model.text_encoder.get_input_embeddings().weight.detach()
        train = TrainSettings.model_validate({"kind": kind, "vectors": 2})
        state = build(model, train, [CONCEPT, told]).state()
        for text, trigger in ((CONCEPT.class_word, CONCEPT.trigger), ("steel skull", "told")):
            ids = model.tokenizer(text, add_special_tokens=False).input_ids
            wanted = table[[ids[0], ids[len(ids) // 2]]]
            found = next(value for key, value in state.items() if key.endswith(f"{trigger}.0"))
            assert torch.equal(found, wanted)


def test_a_layout_that_cannot_hold_a_kind_is_told() -> None:
    with pytest.raises(
        ValidationError, match="layout 'peft' cannot hold kind 'loha', only lora, dora and pivotal"
    ):
        TrainSettings(kind="loha", layout="peft")
