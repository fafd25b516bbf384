"""The diffusers column of `lookdev lora verify`, against diffusers itself loading the same file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from lora_samples import addresses, kohya_layers, make_pairs, narrow, narrow_model, parts_of, write_pairs
from safetensors.torch import load_file, save_file

from pipeline.models import lora_convert
from pipeline.models.lora_apply import LoraUse, apply_loras
from pipeline.models.lora_convert import convert
from pipeline.models.lora_file import read_lora, write_lora
from pipeline.models.lora_layers import build, layer_names, layers_of
from pipeline.models.lora_verify import verify

# diffusers and peft warn of what they leave out, which is what is counted here
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")

State = dict[str, torch.Tensor]
FAMILIES = ("sd15", "sdxl")


def load_with_diffusers(path: Path, family: str) -> SimpleNamespace:
    """A narrow model that diffusers' own pipeline has loaded the file into."""
    model = narrow_model(family)
    if family == "sd15":
        pipe = StableDiffusionPipeline(
            None, model.text_encoder, None, model.unet, None, None, None, requires_safety_checker=False
        )
    else:
        pipe = StableDiffusionXLPipeline(
            None, model.text_encoder, model.text_encoder_2, None, None, model.unet, None
        )
    pipe.load_lora_weights(str(path))
    return model


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().float().contiguous().numpy().tobytes()).hexdigest()


def landed(path: Path, family: str) -> set[str]:
    """The keys of which the numbers are in the model afterwards. All tensors of a file differ."""
    model = load_with_diffusers(path, family)
    there = {
        digest(tensor)
        for part in parts_of(model).values()
        for name, tensor in part.state_dict().items()
        if "lora_" in name and not tensor.is_meta
    }
    return {key for key, tensor in load_file(path).items() if digest(tensor) in there}


def with_text(state: State, *, text: bool) -> State:
    return {key: tensor for key, tensor in state.items() if text or key.startswith(("unet.", "lora_unet_"))}


def early_unet(kohya: State, peft: State, early: State) -> State:
    """The commonest mixture: diffusers' own renaming of q, k, v, out alone."""
    unet: State = convert_state_dict_to_diffusers(with_text(peft, text=False))
    return unet


def mixed_with_text(kohya: State, peft: State, early: State) -> State:
    state: State = convert_state_dict_to_diffusers(peft)
    return state


def two_layouts(kohya: State, peft: State, early: State) -> State:
    down = {key: tensor for key, tensor in peft.items() if "down_blocks" in key}
    return down | {key: tensor for key, tensor in early.items() if "down_blocks" not in key}


def kohya_and_peft(kohya: State, peft: State, early: State) -> State:
    text = {key: tensor for key, tensor in peft.items() if key.startswith("text_encoder")}
    return with_text(kohya, text=False) | text


def renamed(kohya: State, peft: State, early: State) -> State:
    return {key.replace("mid_block.attentions.0.proj_in", "mid.proj_in"): t for key, t in peft.items()}


def wrapped(kohya: State, peft: State, early: State) -> State:
    return {f"base_model.model.{k.removeprefix('unet.')}": t for k, t in with_text(peft, text=False).items()}


def dora(kohya: State, peft: State, early: State) -> State:
    scales = {
        key.replace("lora_up.weight", "dora_scale"): torch.rand(tensor.shape[0], *[1] * (tensor.ndim - 1))
        for key, tensor in kohya.items()
        if key.endswith("lora_up.weight")
    }
    return kohya | scales


FILES: dict[str, Callable[[State, State, State], State]] = {
    "kohya": lambda kohya, peft, early: kohya,
    "peft": lambda kohya, peft, early: peft,
    "diffusers": lambda kohya, peft, early: early,
    "text alone": lambda kohya, peft, early: {k: t for k, t in peft.items() if k.startswith("text")},
    **{make.__name__: make for make in (early_unet, mixed_with_text, two_layouts, kohya_and_peft)},
    **{make.__name__: make for make in (renamed, wrapped, dora)},
}


@pytest.fixture(scope="module", params=FAMILIES)
def states(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, tuple[State, State, State]]:
    """The same LoRA of UNet and text encoders in kohya's, PEFT's and diffusers' early layout."""
    family, folder = request.param, tmp_path_factory.mktemp("states")
    pairs = make_pairs(
        kohya_layers((layer for layer, _ in addresses(narrow_model(family)).values()), text=True)
    )
    kohya, peft, early = (
        load_file(write_pairs(layout, family, pairs, folder / layout))
        for layout in ("kohya", "peft", "diffusers")
    )
    return family, (kohya, peft, early)


def prediction(path: Path, family: str) -> tuple[set[str], str]:
    """The keys (alpha aside) that `verify` says diffusers takes, and its refusal."""
    lora = read_lora(path)
    reading = verify(lora, family)[-1]
    assert reading.program == "diffusers"
    taken = set(lora.state) - set(reading.unmatched)
    return {key for key in taken if not key.endswith(".alpha")}, reading.refusal


@pytest.mark.parametrize("name", list(FILES))
def test_what_diffusers_really_takes(
    states: tuple[str, tuple[State, State, State]], name: str, tmp_path: Path
) -> None:
    family, layouts = states
    state, path = FILES[name](*layouts), tmp_path / "a.safetensors"
    save_file(state, path)
    taken, refusal = prediction(path, family)
    assert refusal == ""
    found = {key for key in landed(path, family) if not key.endswith(".alpha")}
    assert found == taken
    whole = {key for key in state if not key.endswith(".alpha")}
    partly = {"early_unet", "mixed_with_text", "two_layouts", "kohya_and_peft", "renamed", "wrapped", "dora"}
    assert (taken < whole) == (name in partly)


def target(*wanted: str) -> dict[str, str]:
    roots = ("unet", "text_encoder", "text_encoder_2")
    fields = {f"{r}.{k}": v for r in roots for k, v in (("r", 2), ("target_modules", list(wanted)))}
    return {"lora_adapter_metadata": json.dumps(fields)}


@pytest.mark.parametrize("bare", [False, True])
def test_metadata_choose_the_text_encoders_layers(
    states: tuple[str, tuple[State, State, State]], bare: bool, tmp_path: Path
) -> None:
    family, (_, peft, _) = states
    state = {key.replace(".text_model", "") if bare else key: tensor for key, tensor in peft.items()}
    save_file(state, tmp_path / "a.safetensors", target("to_q", "q_proj"))
    taken, refusal = prediction(tmp_path / "a.safetensors", family)
    assert refusal == "" and landed(tmp_path / "a.safetensors", family) == taken < set(state)


def test_what_diffusers_refuses(states: tuple[str, tuple[State, State, State]], tmp_path: Path) -> None:
    family, (kohya, peft, _) = states
    unet = with_text(peft, text=False)
    module = "unet.mid_block.attentions.0.proj_in"
    bad: dict[str, tuple[State, dict[str, str] | None, int]] = {
        "alpha tensors": (unet | {f"{module}.alpha": torch.tensor(1.0)}, None, 3),
        "two alphas": (kohya, target("to_q"), len(kohya)),
        "metadata without layers": (unet, {"lora_adapter_metadata": '{"unet.r": 2}'}, len(unet)),
        "loha": (kohya | {"lora_unet_x.hada_w1_a": torch.ones(4, 2)}, None, 1),
    }
    if family == "sdxl":  # its second text encoder keeps the `text_model.` that the first one lost
        text = {key: tensor for key, tensor in peft.items() if key.startswith("text")}
        without = {key.replace(".text_model", ""): tensor for key, tensor in text.items()}
        bad["names of the other transformers"] = (without, None, 2 * 32 * 6)
    for name, (state, metadata, num_blamed) in bad.items():
        path = tmp_path / "a.safetensors"
        if name == "loha":
            state |= {f"lora_unet_x.hada_{part}": torch.ones(4, 2) for part in ("w2_a",)}
            state |= {f"lora_unet_x.hada_{part}": torch.ones(2, 4) for part in ("w1_b", "w2_b")}
            num_blamed = 4
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, metadata)
        with pytest.raises((ValueError, KeyError, IndexError)):
            load_with_diffusers(path, family)
        reading = verify(read_lora(path), family)[-1]
        assert reading.refusal, name
        assert len(reading.unmatched) == num_blamed, name


@pytest.mark.parametrize("layout", ["kohya", "peft", "diffusers"])
def test_what_we_convert_means_the_same_to_diffusers(
    states: tuple[str, tuple[State, State, State]],
    layout: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alpha included: its own fused weights are those that we merge."""
    family, (kohya, _, _) = states
    spec = narrow(family)
    names = layer_names(spec, [layer for layer, _ in layers_of(build(spec))])
    monkeypatch.setattr(lora_convert, "family_names", lambda _: names)
    source, path = tmp_path / "source.safetensors", tmp_path / "a.safetensors"
    if layout == "kohya":  # diffusers loses alphas that differ from layer to layer in attention
        kohya = {k: torch.tensor(1.5) if k.endswith(".alpha") else t for k, t in kohya.items()}
    save_file(kohya, source)
    if layout == "kohya":
        path = source
    else:
        state, metadata = convert(read_lora(source), layout, family)
        write_lora(path, state, metadata=metadata)
    theirs, ours = load_with_diffusers(path, family), narrow_model(family)
    apply_loras(ours, [LoraUse(source)])
    for root, part in parts_of(theirs).items():
        wanted = dict(parts_of(ours)[root].named_parameters())
        for name, layer in part.named_modules():
            if hasattr(layer, "merge") and hasattr(layer, "base_layer"):
                layer.merge()
                found, expected = layer.base_layer.weight, wanted[f"{name}.weight"]
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
