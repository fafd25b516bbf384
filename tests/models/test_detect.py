"""What a file is, by names and shapes as the published tools write them."""

from pathlib import Path

import pytest
from header_files import write_header

from pipeline.models.detect import KIND_TITLES, context_width, family_of, family_title, is_union, kind_of
from pipeline.models.header import Header, read_header

Shapes = dict[str, tuple[int, ...]]

TO_K = "transformer_blocks.0.attn2.to_k"
SD15_UNET: Shapes = {
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    f"model.diffusion_model.input_blocks.1.1.{TO_K}.weight": (320, 768),
}
SDXL_UNET: Shapes = {f"model.diffusion_model.input_blocks.4.1.{TO_K}.weight": (640, 2048)}
VAE: Shapes = {"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)}
CLIP: Shapes = {"cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}
CLIP_G: Shapes = {"conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight": (5120, 1280)}
CONTROL: Shapes = {
    "input_hint_block.0.weight": (16, 3, 3, 3),
    "zero_convs.0.0.weight": (320, 320, 1, 1),
    f"input_blocks.1.1.{TO_K}.weight": (320, 768),
}
PREFIXED = {f"control_model.{name}": shape for name, shape in CONTROL.items()}
DIFFUSERS_CONTROL: Shapes = {
    "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
    "controlnet_down_blocks.0.weight": (320, 320, 1, 1),
    f"down_blocks.1.attentions.0.{TO_K}.weight": (640, 2048),
}
LORA_MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"

FILES: dict[str, tuple[Shapes, str, str | None]] = {
    "SD 1.5 checkpoint": (SD15_UNET | VAE | CLIP, "checkpoint", "sd15"),
    "without a VAE": (SD15_UNET | CLIP, "checkpoint", "sd15"),
    "SDXL checkpoint": (SDXL_UNET | VAE | CLIP_G, "checkpoint", "sdxl"),
    "SD 2.x checkpoint": (
        {f"model.diffusion_model.input_blocks.1.1.{TO_K}.weight": (320, 1024)} | VAE,
        "checkpoint",
        "sd2",
    ),
    "UNet alone": (SDXL_UNET, "unet", "sdxl"),
    "diffusers UNet": (
        {
            "up_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3),
            f"mid_block.attentions.0.{TO_K}.weight": (8, 768),
        },
        "unet",
        "sd15",
    ),
    "Flux": ({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "unet", "flux"),
    "SD 3": (
        {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (9, 3)} | VAE,
        "checkpoint",
        "sd3",
    ),
    "VAE in a checkpoint's names": (VAE, "vae", None),
    "bare VAE": (
        {"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3)},
        "vae",
        None,
    ),
    "TAESD": ({"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}, "tiny_vae", None),
    "diffusers TAESD": ({"decoder.layers.0.weight": (64, 4, 3, 3)}, "tiny_vae", None),
    "text encoder": ({"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}, "text_encoder", None),
    "original ControlNet": (PREFIXED, "controlnet", "sd15"),
    "without its prefix": (CONTROL, "controlnet", "sd15"),
    "with its base model": (PREFIXED | SD15_UNET | VAE | CLIP, "controlnet", "sd15"),
    "diffusers ControlNet": (DIFFUSERS_CONTROL, "controlnet", "sdxl"),
    "SD 2.1 ControlNet": (CONTROL | {f"input_blocks.1.1.{TO_K}.weight": (320, 1024)}, "controlnet", "sd2"),
    "difference": (PREFIXED | {"difference": (0,)}, "controlnet_difference", "sd15"),
    "LLLite": (
        {
            "lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.conditioning1.0.weight": (
                16,
                3,
                4,
                4,
            )
        },
        "controlnet_lllite",
        None,
    ),
    "Control-LoRA": (
        {
            "lora_controlnet": (0,),
            "input_blocks.1.0.in_layers.2.up": (320, 128),
            "input_hint_block.0.weight": (1,),
        },
        "control_lora",
        None,
    ),
    "T2I-Adapter": ({"body.0.block1.weight": (320, 320, 3, 3)}, "t2i_adapter", None),
    "light T2I-Adapter": ({"body.0.body.0.block1.weight": (64, 64, 3, 3)}, "t2i_adapter", None),
    "diffusers T2I-Adapter": (
        {"adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3)},
        "t2i_adapter",
        None,
    ),
    "IP-Adapter": (
        {"ip_adapter.1.to_k_ip.weight": (320, 768), "image_proj.proj.weight": (3072, 1024)},
        "ip_adapter",
        None,
    ),
    "kohya LoRA": ({f"{LORA_MODULE}.lora_down.weight": (16, 768)}, "lora", "sd15"),
    "kohya SDXL LoRA": (
        {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (16, 2048)},
        "lora",
        "sdxl",
    ),
    "PEFT LoRA": ({f"unet.down_blocks.0.attentions.0.{TO_K}.lora_A.weight": (16, 768)}, "lora", "sd15"),
    "old diffusers LoRA": (
        {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight": (4, 1024)},
        "lora",
        "sd2",
    ),
    "LoHa": ({f"{LORA_MODULE}.hada_w1_b": (4, 2048)}, "lora", "sdxl"),
    "LoKr": ({f"{LORA_MODULE}.lokr_w1": (8, 8), f"{LORA_MODULE}.lokr_w2_b": (4, 96)}, "lora", "sd15"),
    "text LoRA": ({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 768)}, "lora", None),
    "SDXL text LoRA": (
        {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 1280)},
        "lora",
        "sdxl",
    ),
    "A1111 embedding": ({"emb_params": (4, 768)}, "embedding", "sd15"),
    "SDXL embedding": ({"clip_l": (4, 768), "clip_g": (4, 1280)}, "embedding", "sdxl"),
    "SD 2.x embedding": ({"emb_params": (4, 1024)}, "embedding", "sd2"),
    "diffusers embedding": ({"<cat-toy>": (768,)}, "embedding", "sd15"),
    "nothing": ({}, "unknown", None),
    "something else": ({"layers.0.weight": (3, 3), "layers.1.weight": (3, 3)}, "unknown", None),
}


def header(tmp_path: Path, shapes: Shapes) -> Header:
    return read_header(write_header(tmp_path / "a.safetensors", shapes))


@pytest.mark.parametrize("name", FILES)
def test_kind_and_family(tmp_path: Path, name: str) -> None:
    shapes, kind, family = FILES[name]
    found = header(tmp_path, shapes)
    assert (kind_of(found), family_of(found)) == (kind, family)
    assert KIND_TITLES[kind_of(found)]


def test_titles() -> None:
    assert family_title("sdxl") == "SDXL" and family_title("sd2") == "SD 2.x"


def test_width_of_a_kronecker_product(tmp_path: Path) -> None:
    factors: Shapes = {f"{LORA_MODULE}.lokr_w1_b": (4, 16), f"{LORA_MODULE}.lokr_w2": (40, 128)}
    assert context_width(header(tmp_path, factors)) == 2048


def test_union(tmp_path: Path) -> None:
    assert not is_union(header(tmp_path, DIFFUSERS_CONTROL))
    union = DIFFUSERS_CONTROL | {"control_add_embedding.linear_1.weight": (1280, 1536)}
    assert is_union(header(tmp_path, union)) and kind_of(header(tmp_path, union)) == "controlnet"
