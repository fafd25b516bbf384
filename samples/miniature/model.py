"""The miniature's architecture: Stable Diffusion's parts in stock diffusers classes, made small.

Images are 128 x 128 pixels, latents 4 x 32 x 32 (a factor of 4 where SD 1.5 has 8). The noise schedule
is a cosine with zero terminal SNR and v-prediction: with SD's scaled-linear schedule small latents drown
in noise almost at once. Both ControlNets are trained jointly with the UNet from the first step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

IMAGE_SIZE = 128
LATENT_SIZE = 32
CONTEXT_TOKENS = 64
TEXT_WIDTH = 128
CONTROL_KINDS = ("depth", "pose")
NUM_TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class Parts:
    """The modules of one miniature."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    controlnets: dict[str, Any]
    scheduler: Any


def build_tokenizer(captions: Sequence[str], folder: Path, vocab_size: int = 768) -> Any:
    """Train a byte-level BPE with CLIP's end-of-word mark on captions and return it as `CLIPTokenizer`."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    bpe = Tokenizer(models.BPE(unk_token=end, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_clip_pattern(), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[start, end],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    bpe.model.save(str(folder))
    vocab_path = folder / "vocab.json"
    vocab: dict[str, int] = json.loads(vocab_path.read_text(encoding="utf-8"))
    for letter in alphabet:  # CLIP's tokenizer needs every letter alone and as the end of a word
        vocab.setdefault(letter, len(vocab))
        vocab.setdefault(letter + "</w>", len(vocab))
    vocab_path.write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    return CLIPTokenizer(
        str(vocab_path), str(folder / "merges.txt"), model_max_length=CONTEXT_TOKENS, pad_token=end
    )


def _clip_pattern() -> Any:
    from tokenizers import Regex

    return Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def cosine_betas(num_steps: int = NUM_TRAIN_TIMESTEPS, shift: float = 1.0) -> list[float]:
    """Betas of a cosine schedule, its log-SNR lowered by 2 log(shift) (Hoogeboom et al. 2023, eq. 3)."""
    log_shift = 2.0 * math.log(shift)

    def alpha_bar(u: float) -> float:
        u = min(max(u, 1e-4), 1.0 - 1e-4)
        log_snr = -2.0 * math.log(math.tan(math.pi * u / 2.0)) - log_shift
        return 1.0 / (1.0 + math.exp(-log_snr))

    bars = [alpha_bar((i + 1) / num_steps) for i in range(num_steps)]
    betas = [1.0 - bars[0]]
    betas += [min(1.0 - bars[i] / bars[i - 1], 0.999) for i in range(1, num_steps)]
    return betas


def build_scheduler() -> Any:
    """DDIM config: cosine, v-prediction, zero terminal SNR, trailing timesteps (Lin et al. 2023)."""
    return DDIMScheduler(
        num_train_timesteps=NUM_TRAIN_TIMESTEPS,
        trained_betas=cosine_betas(),
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def build_vae() -> Any:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


UNET_CHANNELS = (64, 128, 192)


def build_unet() -> Any:
    """The text also reaches every block with the time step, pooled: light and look are said of the whole
    frame, and cross-attention alone (16 x 16 and smaller) learnt them last.
    """
    return UNet2DConditionModel(
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=UNET_CHANNELS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=16,
    )


def build_controlnet() -> Any:
    """A light encoder whose residual shapes are the UNet's; control is local, so it has no attention."""
    return ControlNetModel(
        in_channels=4,
        conditioning_channels=3,
        down_block_types=("DownBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D",
        block_out_channels=UNET_CHANNELS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=16,
        conditioning_embedding_out_channels=(8, 16, 32),
    )


def awaken(net: Any, pictures: torch.Tensor) -> None:
    """Give a ControlNet a voice before joint training; `pictures` are control images [B, 3, H, W] in [0, 1].

    diffusers' embedding of the control picture is six convolutions without a norm: with their default weights
    a picture's contrast arrives a thousand times weaker, and the last one is zero, to protect a trained UNet.
    Here nothing is trained yet, so each layer is scaled to unit variance on real pictures (Mishkin and Matas
    2016), and zero convolutions get small weights.
    """
    embedding = net.controlnet_cond_embedding
    with torch.no_grad():
        x = pictures
        for conv in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
            conv.weight.copy_(torch.nn.init.orthogonal_(torch.empty(conv.weight.shape)))
            torch.nn.init.zeros_(conv.bias)
            out = conv(x)
            spread = out.std(dim=(0, 2, 3)).clamp(min=1e-3)
            conv.weight /= spread[:, None, None, None]
            conv.bias -= out.mean(dim=(0, 2, 3)) / spread
            x = torch.nn.functional.silu(conv(x))
        for conv in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            if not bool(conv.weight.any()):
                torch.nn.init.normal_(conv.weight, std=0.3 * conv.in_channels**-0.5)


def build_text_encoder(vocab_size: int, bos: int, eos: int) -> Any:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_TOKENS,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
        )
    )


def build(captions: Sequence[str], tokenizer_folder: Path, seed: int = 0) -> Parts:
    """A miniature with random weights; `captions` are what the tokenizer is trained on."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(captions, tokenizer_folder)
    return Parts(
        unet=build_unet(),
        vae=build_vae(),
        text_encoder=build_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id),
        tokenizer=tokenizer,
        controlnets={kind: build_controlnet() for kind in CONTROL_KINDS},
        scheduler=build_scheduler(),
    )


def save(parts: Parts, folder: Path) -> None:
    """Write the folder that `pipeline.models` loads: diffusers' layout plus `controlnet_<kind>`, fp16
    safetensors.
    """
    half = torch.float16
    for name in ("unet", "vae", "text_encoder"):
        _save_half(getattr(parts, name), folder / name, half)
    for kind, net in parts.controlnets.items():
        _save_half(net, folder / f"controlnet_{kind}", half)
    parts.tokenizer.save_pretrained(folder / "tokenizer")
    parts.scheduler.save_pretrained(folder / "scheduler")


def _save_half(module: Any, folder: Path, dtype: torch.dtype) -> None:
    import copy

    copy.deepcopy(module).to(dtype).save_pretrained(folder, safe_serialization=True)
    config = folder / "config.json"  # without the path of the machine it was made on
    kept = {k: v for k, v in json.loads(config.read_text(encoding="utf-8")).items() if k != "_name_or_path"}
    config.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
