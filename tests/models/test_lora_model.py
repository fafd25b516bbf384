"""LoRAs in and out of a real UNet and text encoder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline.errors import ModelError
from pipeline.models import (
    LoraUse,
    Model,
    apply_loras,
    encode_text,
    inject_lora,
    load_lora_state,
    load_model,
    lora_disabled,
    lora_metadata,
    lora_state,
    read_lora,
    remove_loras,
    write_lora,
)
from pipeline.models.lora_inject import text_targets, unet_targets
from pipeline.models.names import kohya_name

# Merging sums W + s B A once; a side branch adds B (A x): float32 rounding over about 40 layers.
TOLERANCE = 1e-4
STEP = torch.tensor(500)
PROMPTS = ["a man in a room", "a woman"]


@pytest.fixture(scope="module")
def base(random_model: Path) -> Model:
    """For tests that put back what they change."""
    return load_model(random_model, controls=())


@pytest.fixture(scope="module")
def make_lora(
    random_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Model, Path]]:
    """A model with injected random LoRA weights, and the file exported from it."""

    def make(
        seed: int, *, rank: int = 4, alpha: float = 2.0, text_encoder: bool = True, conv_rank: int = 0
    ) -> tuple[Model, Path]:
        model = load_model(random_model, controls=())
        lora = inject_lora(
            model, rank=rank, alpha=alpha, text_encoder=text_encoder, seed=seed, conv_rank=conv_rank
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in (*lora.unet_parameters, *lora.text_parameters):
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
        path = tmp_path_factory.mktemp("lora") / f"lora{seed}.safetensors"
        metadata = lora_metadata(model.family, name=f"lora{seed}", rank=rank, alpha=alpha)
        write_lora(path, lora_state(model), metadata=metadata)
        return model, path

    return make


@torch.no_grad()
def predict(model: Model) -> torch.Tensor:
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    out: torch.Tensor = model.unet(x, STEP, encode_text(model, PROMPTS)).sample
    return out


def weights(model: Model) -> dict[str, torch.Tensor]:
    modules = {"unet": model.unet, "text": model.text_encoder}
    return {f"{root}.{name}": w.clone() for root, m in modules.items() for name, w in m.state_dict().items()}


def test_injection_changes_nothing_until_trained(random_model: Path, base: Model) -> None:
    model = load_model(random_model, controls=())
    state = torch.random.get_rng_state()
    lora = inject_lora(model, rank=4, alpha=4.0, text_encoder=True, seed=7)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(predict(model), predict(base))
    trainable = {id(p) for m in (model.unet, model.text_encoder) for p in m.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in (*lora.unet_parameters, *lora.text_parameters)}
    again = load_model(random_model, controls=())
    inject_lora(again, rank=4, alpha=4.0, text_encoder=True, seed=7)
    assert all(
        torch.equal(a, b) for a, b in zip(lora_state(model).values(), lora_state(again).values(), strict=True)
    )
    with pytest.raises(ValueError, match="already"):
        inject_lora(model, rank=4, alpha=4.0, text_encoder=True, seed=7)


def test_targets_are_kohyas_264_of_stable_diffusion() -> None:
    with torch.device("meta"):  # shapes only
        unet = UNet2DConditionModel(cross_attention_dim=768)
        text = CLIPTextModel(CLIPTextConfig(num_hidden_layers=12))
    names = [kohya_name(path, text=False) for path in unet_targets(unet)]
    names += [kohya_name(path, text=True) for path in text_targets(text)]
    assert (len(unet_targets(unet)), len(text_targets(text))) == (192, 72)
    assert len(set(names)) == 264
    for name in (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
        "lora_unet_up_blocks_3_attentions_2_proj_in",
        "lora_te_text_model_encoder_layers_11_self_attn_out_proj",
        "lora_te_text_model_encoder_layers_0_mlp_fc2",
    ):
        assert name in names


def test_conv_targets_are_all_of_the_unet_but_its_ends() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    ends = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")
    layers = {p for p, layer in unet.named_modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)}
    targets = unet_targets(unet, conv=True)
    assert len(targets) == len(set(targets))
    assert set(targets) == layers - set(ends)


@pytest.mark.parametrize("conv_rank", [0, 3])
def test_exported_file_gives_what_was_trained(
    base: Model, make_lora: Callable[..., tuple[Model, Path]], conv_rank: int
) -> None:
    trained, path = make_lora(1, conv_rank=conv_rank)
    kernels = [module for module in read_lora(path).modules.values() if module.shape[2:] == (3, 3)]
    assert {(pair.rank, pair.alpha) for pair in kernels} == ({(3, 1.5)} if conv_rank else set())
    plain = predict(base)
    apply_loras(base, [LoraUse(path)])
    merged = predict(base)
    remove_loras(base)
    assert (merged - plain).abs().max() > 100 * TOLERANCE  # it does something
    torch.testing.assert_close(merged, predict(trained), rtol=TOLERANCE, atol=TOLERANCE)
    with lora_disabled(trained):
        assert torch.equal(predict(trained), plain)
    assert all(p.requires_grad for n, p in trained.unet.named_parameters() if "lora_" in n)


def test_diffusers_own_loader_reads_the_file(
    random_model: Path, make_lora: Callable[..., tuple[Model, Path]]
) -> None:
    trained, path = make_lora(1)
    other = load_model(random_model, controls=())
    scheduler = DDIMScheduler.from_config(dict(other.scheduler_config) | {"steps_offset": 1})
    pipe = StableDiffusionPipeline(
        other.vae,
        other.text_encoder,
        other.tokenizer,
        other.unet,
        scheduler,
        None,
        None,
        requires_safety_checker=False,
    )
    pipe.load_lora_weights(str(path))
    torch.testing.assert_close(predict(other), predict(trained), rtol=TOLERANCE, atol=TOLERANCE)


def test_weights_by_hand_with_two_loras(base: Model, make_lora: Callable[..., tuple[Model, Path]]) -> None:
    (_, one), (_, two) = make_lora(1), make_lora(2, rank=2, alpha=4.0)
    before = weights(base)
    apply_loras(base, [LoraUse(one, 0.5, 0.25), LoraUse(two, -1.0, 2.0)])
    after = weights(base)
    remove_loras(base)
    first, second = read_lora(one).modules, read_lora(two).modules
    for key, kohya, w1, w2 in (
        ("unet.mid_block.attentions.0.proj_in.weight", "lora_unet_mid_block_attentions_0_proj_in", 0.5, -1.0),
        (
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.weight",
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_out_0",
            0.5,
            -1.0,
        ),
        (
            "text.encoder.layers.1.mlp.fc1.weight",
            "lora_te_text_model_encoder_layers_1_mlp_fc1",
            0.25,
            2.0,
        ),
    ):
        a, b = first[kohya], second[kohya]
        change = w1 * (2.0 / 4) * (a.parts["up"].squeeze() @ a.parts["down"].squeeze())
        change = change + w2 * (4.0 / 2) * (b.parts["up"].squeeze() @ b.parts["down"].squeeze())
        torch.testing.assert_close(after[key].squeeze(), before[key].squeeze() + change, rtol=1e-5, atol=1e-6)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert len(changed) == len(first)  # and nothing else


def test_removal_is_exact_and_a_second_use_replaces_the_first(
    base: Model, make_lora: Callable[..., tuple[Model, Path]]
) -> None:
    (_, one), (_, two) = make_lora(1), make_lora(2)
    before = weights(base)
    apply_loras(base, [LoraUse(two)])
    only_two = weights(base)
    apply_loras(base, [LoraUse(one, 0.7, 0.7)])
    apply_loras(base, [LoraUse(two)])
    assert all(torch.equal(a, b) for a, b in zip(weights(base).values(), only_two.values(), strict=True))
    remove_loras(base)
    remove_loras(base)
    assert all(torch.equal(a, b) for a, b in zip(weights(base).values(), before.values(), strict=True))
    apply_loras(base, [LoraUse(one, 0.0, 0.0)])
    assert all(torch.equal(a, b) for a, b in zip(weights(base).values(), before.values(), strict=True))
    remove_loras(base)


def test_state_goes_back_bit_for_bit(
    make_lora: Callable[..., tuple[Model, Path]], random_model: Path
) -> None:
    trained, _ = make_lora(1)
    state = lora_state(trained)
    other = load_model(random_model, controls=())
    inject_lora(other, rank=4, alpha=2.0, text_encoder=True, seed=0)
    load_lora_state(other, state)
    assert torch.equal(predict(other), predict(trained))
    narrow = load_model(random_model, controls=())
    inject_lora(narrow, rank=2, alpha=2.0, text_encoder=False, seed=0)
    with pytest.raises(ModelError, match="rank, alpha or text-encoder setting changed"):
        load_lora_state(narrow, state)


def test_lora_weights_stay_float32_in_a_bfloat16_model(random_model: Path) -> None:
    model = load_model(random_model, controls=(), dtype=torch.bfloat16)
    lora = inject_lora(model, rank=4, alpha=4.0, text_encoder=False, seed=0)
    assert {p.dtype for p in lora.unet_parameters} == {torch.float32}
    assert lora.text_parameters == []
    text = encode_text(model, PROMPTS)
    out = model.unet(torch.randn(2, 4, 16, 16, dtype=torch.bfloat16), STEP, text).sample
    out.float().square().mean().backward()
    assert all(p.grad is not None for p in lora.unet_parameters)


def renamed(path: Path, old: str, new: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {key.replace(old, new): tensor for key, tensor in load_file(path).items()}


def test_one_key_that_matches_nothing_refuses_the_file(
    base: Model, make_lora: Callable[..., tuple[Model, Path]], tmp_path: Path
) -> None:
    _, path = make_lora(1)
    odd, before = tmp_path / "odd.safetensors", weights(base)
    write_lora(
        odd, renamed(path, "mid_block_attentions_0_proj_in", "mid_block_attentions_7_proj_in"), metadata={}
    )
    with pytest.raises(ModelError, match=r"1 of 96 modules .*lora_unet_mid_block_attentions_7_proj_in"):
        apply_loras(base, [LoraUse(path), LoraUse(odd)])
    assert all(torch.equal(a, b) for a, b in zip(weights(base).values(), before.values(), strict=True))


def test_lora_of_another_model_is_named(
    base: Model, make_lora: Callable[..., tuple[Model, Path]], tmp_path: Path
) -> None:
    _, path = make_lora(1)
    state = renamed(path, "", "")
    other = tmp_path / "sd15.safetensors"
    write_lora(other, state, metadata={"modelspec.architecture": "stable-diffusion-v1/lora"})
    with pytest.raises(
        ModelError, match=r"sd15.safetensors: made for another model .*stable-diffusion-v1/lora"
    ):
        apply_loras(base, [LoraUse(other)])
    write_lora(other, state, metadata={"ss_base_model_version": "sdxl_base_v1-0"})
    with pytest.raises(ModelError, match="made for another model"):
        apply_loras(base, [LoraUse(other)])
    key = "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"
    write_lora(other, state | {key: torch.zeros(4, 7, 1, 1)}, metadata={})
    with pytest.raises(ModelError, match=r"shape \(192, 7, 1, 1\).*\(192, 192, 1, 1\)"):
        apply_loras(base, [LoraUse(other)])


def test_numbered_text_encoder_of_diffusers_exports_is_taken(
    base: Model, make_lora: Callable[..., tuple[Model, Path]], tmp_path: Path
) -> None:
    _, path = make_lora(1)
    numbered = tmp_path / "te1.safetensors"
    write_lora(numbered, renamed(path, "lora_te_", "lora_te1_"), metadata={})
    apply_loras(base, [LoraUse(path)])
    expected = weights(base)
    apply_loras(base, [LoraUse(numbered)])
    assert all(torch.equal(a, b) for a, b in zip(weights(base).values(), expected.values(), strict=True))
    remove_loras(base)
