"""Whose a LoRA file is, from its metadata and from the shapes in its header."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ModelError
from pipeline.models.detect import family_of
from pipeline.models.families import FAMILIES
from pipeline.models.header import Header, TensorEntry
from pipeline.models.lora_family import check_lora_family, family_said

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
FLAT = "lora_unet_" + BLOCK.replace(".", "_")


def header(metadata: dict[str, str] | None = None, **tensors: tuple[int, ...]) -> Header:
    entries = {name: TensorEntry("F16", shape) for name, shape in tensors.items()}
    return Header(Path("x.safetensors"), entries, metadata or {})


def lora(*, width: int, metadata: dict[str, str] | None = None) -> Header:
    return header(metadata, **{f"{FLAT}_to_k.lora_down.weight": (4, width)})


@pytest.mark.parametrize(
    ("family", "texts"),
    {
        "mini": ("lookdev_mini", "lookdev-mini/lora"),
        "sd15": (
            "sd_v1",
            "sd_1.5",
            "sd_v1-5",
            "SD 1.5",
            "sd1",
            "sd15",
            "SD 1.4",
            "stable-diffusion-v1/lora",
            "stable-diffusion-v1-5/lora",
            "stable-diffusion-v1/lycoris",
            "runwayml/stable-diffusion-v1-5",
            "Stable Diffusion 1.5",
        ),
        "sdxl": (
            "sdxl_base_v1-0",
            "sdxl_base_v0-9",
            "sdxl_1.0",
            "SDXL 1.0",
            "sdxl",
            "stable-diffusion-xl-v1-base/lora",
            "stable-diffusion-xl-v1-base/lycoris",
            "stabilityai/stable-diffusion-xl-base-1.0",
        ),
        "sdxl_refiner": ("stable-diffusion-xl-v1-refiner/lora", "SDXL refiner"),
        "sd2": ("sd_v2", "sd_v2_v", "SD 2.1", "stable-diffusion-v2-768-v/lora", "stable-diffusion-v2-512"),
        "sd3": ("sd3_m", "stable-diffusion-3-medium/lora"),
        "flux": ("flux1", "flux-1-dev/lora"),
        None: ("pony", "Illustrious", "custom", "", "my model v1", "abcsd1", "wan2.1", "sd_v10x"),
    }.items(),
)
def test_what_files_say_of_their_base(family: str | None, texts: tuple[str, ...]) -> None:
    assert {text: family_said(text) for text in texts} == dict.fromkeys(texts, family)


def test_every_row_knows_what_it_writes_itself() -> None:
    for row in FAMILIES.values():
        assert family_said(row.lora_architecture) == family_said(row.base_model_version) == row.name


@pytest.mark.parametrize(("width", "family"), [(128, "mini"), (768, "sd15"), (1024, "sd2"), (2048, "sdxl")])
@pytest.mark.parametrize(
    "tensors",
    [
        {f"{FLAT}_to_k.lora_down.weight": (4, 0), f"{FLAT}_to_k.lora_up.weight": (320, 4)},
        {f"{FLAT}_to_v.lora_up.weight": (320, 4), f"{FLAT}_to_v.lora_down.weight": (4, 0)},
        {f"{FLAT}_to_k.lora_down.weight": (4, 0, 1, 1)},
        {f"unet.{BLOCK}.to_k.lora_A.weight": (4, 0)},
        {f"base_model.model.{BLOCK}.to_v.lora_A.default.weight": (4, 0)},
        {f"unet.{BLOCK}.to_k.lora.down.weight": (4, 0)},
        {f"unet.{BLOCK}.processor.to_v_lora.down.weight": (4, 0)},
        {f"{FLAT}_to_k.hada_w1_a": (320, 4), f"{FLAT}_to_k.hada_w1_b": (4, 0)},
        {
            f"{FLAT}_to_k.lokr_w1": (4, 2),
            f"{FLAT}_to_k.lokr_w2_a": (80, 4),
            f"{FLAT}_to_k.lokr_w2_b": (4, -2),
        },
    ],
    ids=lambda tensors: next(iter(tensors)).removeprefix(FLAT).removeprefix(BLOCK)[-24:],
)
def test_the_width_of_the_text_tells_the_family(
    tensors: dict[str, tuple[int, ...]], width: int, family: str
) -> None:
    filled = {
        name: tuple({0: width, -2: width // 2}.get(side, side) for side in shape)
        for name, shape in tensors.items()
    }
    found = header(None, **filled)
    assert family_of(found) == family
    if family in FAMILIES:
        check_lora_family(found, FAMILIES[family], where="x")
    for other in FAMILIES.keys() - {family}:
        with pytest.raises(ModelError, match=r"^x: made for another model \(by the shapes"):
            check_lora_family(found, FAMILIES[other], where="x")


def test_both_families_are_named() -> None:
    with pytest.raises(ModelError) as caught:
        check_lora_family(lora(width=2048), FAMILIES["sd15"], where="p.toml:lora[0].path: x.safetensors")
    assert str(caught.value) == (
        "p.toml:lora[0].path: x.safetensors: made for another model (by the shapes of its tensors), SDXL; "
        "model 'sd15' is Stable Diffusion 1.5: choose a LoRA of this model, or its model"
    )


def test_what_a_file_says_counts_too_and_an_unknown_word_does_not() -> None:
    """The miniature's width is nobody else's, but a file without cross-attention has only its word."""
    plain = {"lora_unet_mid_block_resnets_0_conv1.lora_down.weight": (4, 320, 3, 3)}
    for said, family in (("sd_v1", "sd15"), ("sdxl_base_v0-9", "sdxl"), ("lookdev_mini", "mini")):
        for row in FAMILIES.values():
            claims = header({"ss_base_model_version": said}, **plain)
            if row.name == family:
                check_lora_family(claims, row, where="x")
            else:
                with pytest.raises(ModelError, match=f"ss_base_model_version is '{said}'"):
                    check_lora_family(claims, row, where="x")
    for word in ("pony", "custom", ""):
        metadata = {"ss_base_model_version": word, "modelspec.architecture": word}
        check_lora_family(lora(width=2048, metadata=metadata), FAMILIES["sdxl"], where="x")
        with pytest.raises(ModelError, match="by the shapes"):
            check_lora_family(lora(width=2048, metadata=metadata), FAMILIES["sd15"], where="x")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "sdxl"),
        ("text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", "sdxl"),
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", "flux"),
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", "sd3"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", None),
    ],
)
def test_files_without_cross_attention(name: str, family: str | None) -> None:
    assert family_of(header(None, **{name: (4, 768)})) == family


def test_another_kind_of_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"^x: is a VAE; expected a LoRA"):
        check_lora_family(
            header(None, **{"encoder.conv_in.weight": (128, 3, 3, 3)}), FAMILIES["sd15"], where="x"
        )
