"""The change of each kind of module, against the formula written out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.lora_alpha import adapter_metadata, alpha_reader
from pipeline.models.lora_change import LoraModule, build_module
from pipeline.models.lora_keys import group_keys, layout_of, plain_name, split_key

Parts = dict[str, torch.Tensor]
OUT, IN, KERNEL = 8, 6, (3, 3)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def made(parts: Parts, alpha: float = 1.5) -> LoraModule:
    return build_module(parts, alpha=alpha, name="x", where="y")


def kinds() -> dict[str, tuple[Parts, torch.Tensor]]:
    """name -> parts and the change they mean at alpha 1.5, [OUT, IN] or [OUT, IN, 3, 3]."""
    down, up = random(3, IN), random(OUT, 3)
    kernel = random(3, IN, *KERNEL)
    core, point_down, point_up = random(3, 3, *KERNEL), random(3, IN, 1, 1), random(OUT, 3, 1, 1)
    a1, b1, a2, b2 = random(OUT, 3), random(3, IN), 2 * random(OUT, 3), random(3, IN) + 1
    wide = random(3, IN * 9)
    t1, t2 = random(3, 3, *KERNEL), random(3, 3, *KERNEL) - 1
    tucker = [torch.einsum("ijkl,ip,jr->prkl", t, a.T, b) for t, a, b in ((t1, a1, b1), (t2, a2, b2))]
    left, right, right_a, right_b = random(4, 2), random(2, 3), random(2, 1), random(1, 3)
    kernel_right = random(2, 3, *KERNEL)

    def blocks(second: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.cat([left[i, j] * second for j in range(2)], 1) for i in range(4)], 0)

    third = {"down": down, "up": up}
    return {
        "lora": (third, 0.5 * up @ down),
        "locon": (
            {"down": kernel, "up": point_up},
            0.5 * torch.einsum("or,rikl->oikl", point_up[:, :, 0, 0], kernel),
        ),
        "locon core": (
            {"down": point_down, "mid": core, "up": point_up},
            0.5 * torch.einsum("op,pqkl,qi->oikl", point_up[:, :, 0, 0], core, point_down[:, :, 0, 0]),
        ),
        "loha": (
            {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2},
            0.5 * (a1 @ b1) * (a2 @ b2),
        ),
        "loha kernel": (
            {"hada_w1_a": a1, "hada_w1_b": wide, "hada_w2_a": a2, "hada_w2_b": wide},
            (0.5 * (a1 @ wide) * (a2 @ wide)).reshape(OUT, IN, *KERNEL),
        ),
        "loha tucker": (
            {"hada_t1": t1, "hada_w1_a": a1.T.contiguous(), "hada_w1_b": b1}
            | {"hada_t2": t2, "hada_w2_a": a2.T.contiguous(), "hada_w2_b": b2},
            0.5 * tucker[0] * tucker[1],
        ),
        "lokr": ({"lokr_w1": left, "lokr_w2": right}, blocks(right)),  # both whole: no scale
        "lokr product": (
            {"lokr_w1": left, "lokr_w2_a": right_a, "lokr_w2_b": right_b},
            1.5 * blocks(right_a @ right_b),
        ),
        "lokr kernel": ({"lokr_w1": left, "lokr_w2": kernel_right}, blocks(kernel_right)),
    }


@pytest.mark.parametrize("kind", list(kinds()))
def test_the_change_is_the_formula(kind: str) -> None:
    parts, expected = kinds()[kind]
    module, weight = made(parts), random(*expected.shape)
    assert module.fits(tuple(expected.shape))
    torch.testing.assert_close(module.change(weight), expected, rtol=1e-4, atol=1e-5)
    up, down = module.factors()
    torch.testing.assert_close(
        (up @ down.flatten(1)).reshape(expected.shape), expected, rtol=1e-4, atol=1e-4
    )  # the same as one plain LoRA
    assert not module.fits((OUT + 1, *expected.shape[1:]))
    assert not module.fits((*expected.shape[:1], IN + 1, *expected.shape[2:]))


@pytest.mark.parametrize("axis", [0, 1], ids=["output", "input"])
@pytest.mark.parametrize("kind", list(kinds()))
def test_dora_sets_the_lengths(kind: str, axis: int) -> None:
    parts, change = kinds()[kind]
    weight = random(*change.shape)
    shape = [1] * change.ndim
    shape[axis] = change.shape[axis]
    magnitude = random(*shape).abs() + 1
    module = made(parts | {"magnitude": magnitude})
    moved = weight + module.change(weight)
    for index, part in enumerate(moved.unbind(axis)):
        before = (weight + change).select(axis, index)
        assert float(part.norm()) == pytest.approx(float(magnitude.flatten()[index]), rel=1e-4)
        torch.testing.assert_close(part / part.norm(), before / before.norm(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="depends on the weight"):
        module.factors()
    assert not made(parts | {"magnitude": torch.ones(5, *[1] * (change.ndim - 1))}).fits(tuple(change.shape))


def test_a_core_is_three_convolutions() -> None:
    parts, _ = kinds()["locon core"]
    x = random(1, IN, 7, 7)
    stages = nn.functional.conv2d(nn.functional.conv2d(x, parts["down"]), parts["mid"], padding=1)
    expected = 0.5 * nn.functional.conv2d(stages, parts["up"])
    found = nn.functional.conv2d(x, made(parts).delta(), padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_linear_lora_fits_a_pointwise_convolution_and_back() -> None:
    parts, _ = kinds()["lora"]
    weight = random(OUT, IN, 1, 1)
    assert made(parts).fits((OUT, IN, 1, 1))
    assert torch.equal(made(parts).change(weight).flatten(1), made(parts).delta())
    square = {name: tensor[..., None, None] for name, tensor in parts.items()}
    assert made(square).fits((OUT, IN))
    assert not made(parts).fits((OUT, IN // 2, 2, 1))


@pytest.mark.parametrize(
    "parts",
    [
        {"down": random(3, IN), "up": random(OUT, 2)},
        {"down": random(0, IN), "up": random(OUT, 0)},
        {"down": torch.tensor(1.0), "up": random(OUT, 2)},
        {"down": random(3, IN), "mid": random(2, 2, 3, 3), "up": random(OUT, 3)},
        {"hada_w1_a": random(OUT, 2), "hada_w1_b": random(2, IN), "hada_w2_a": random(OUT, 2)},
        {f"hada_w{i}_{h}": random(OUT + i, 2) if h == "a" else random(2, IN) for i in (1, 2) for h in "ab"},
        {"lokr_w1": random(2, 2), "lokr_w2_a": random(2, 3), "lokr_w2_b": random(2, 2)},
        {"lokr_w1": random(2, 2)},
        {"magnitude": random(4)},
    ],
)
def test_tensors_that_do_not_go_together_are_one_line(parts: Parts) -> None:
    with pytest.raises(ModelError, match=r"^y: x ") as caught:
        made(parts)
    assert "\n" not in str(caught.value)


def test_keys_of_every_layout() -> None:
    assert split_key("lora_unet_a_to_q.lora_down.weight") == ("lora_unet_a_to_q", "down", "kohya")
    assert split_key("unet.a.to_q.lora_A.default.weight") == ("unet.a.to_q", "down", "peft")
    assert split_key("unet.a.processor.to_q_lora.up.weight") == ("unet.a.processor.to_q", "up", "diffusers")
    assert split_key("text_encoder.a.q_proj.lora_linear_layer.up.weight") == (
        "text_encoder.a.q_proj",
        "up",
        "diffusers",
    )
    assert split_key("model.diffusion_model.out.2.weight") is None
    assert layout_of(["a_b.lora_up.weight", "a_b.alpha", "a_b.hada_w1_a"]) == "kohya"
    assert layout_of(["a.b.lora_A.weight", "a.b.alpha"]) == "peft"
    assert layout_of(["a.b.lora.down.weight", "a.c_lora.up.weight"]) == "diffusers"
    assert layout_of(["a.b.lora.down.weight", "a.c.lora_A.weight"]) == "mixed"
    assert layout_of(["a_b.lora_up.weight", "a.c.lora_A.weight"]) == "mixed"
    assert plain_name("base_model.model.a.attn1.processor.to_out") == "a.attn1.to_out.0"
    assert plain_name("text_encoder.a.self_attn.to_out") == "text_encoder.a.self_attn.out_proj"
    with pytest.raises(ModelError, match=r"a\.lora_B\.weight.*another spelling"):
        group_keys(["a.lora_up.weight", "a.lora_B.weight"], where="y")


def test_alpha_of_adapter_metadata_comes_back(tmp_path: Path) -> None:
    modules = {f"unet.down_blocks.{i}.to_q": (4, 2.0 if i else 3.5, False) for i in range(4)}
    modules |= {"text_encoder.text_model.encoder.layers.0.mlp.fc1": (8, 0.1, True)}
    read = alpha_reader(tmp_path / "a", {"lora_adapter_metadata": adapter_metadata(modules)})
    assert {name: read(name, rank) for name, (rank, _, _) in modules.items()} == {
        name: alpha for name, (_, alpha, _) in modules.items()
    }
    assert alpha_reader(tmp_path / "a", {})("unet.a", 4) is None


def test_alpha_of_pefts_own_config(tmp_path: Path) -> None:
    config = {"lora_alpha": 8, "alpha_pattern": {"attn2.*to_k": 2, "^a.b": 5}, "use_rslora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    read = alpha_reader(tmp_path / "adapter_model.safetensors", {})
    assert read("base_model.model.x.to_q", 4) == 16.0  # rank-stabilised: alpha / sqrt(r)
    assert read("base_model.model.x.attn2.to_k", 4) == 4.0
    assert read("base_model.model.a.b", 4) == 10.0
    for broken in ("[1", "[]", '{"alpha_pattern": {"(": 1}}', '{"alpha_pattern": [1]}'):
        (tmp_path / "adapter_config.json").write_text(broken)
        with pytest.raises(ModelError, match=r"adapter_config\.json"):
            alpha_reader(tmp_path / "adapter_model.safetensors", {})
