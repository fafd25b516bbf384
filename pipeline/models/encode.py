"""Text -> embeddings, pictures <-> latents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ModelError
from pipeline.image import to_tensor, to_uint8
from pipeline.models.chunks import Chunk, chunk_length, chunk_prompt, empty_chunk
from pipeline.models.model import Model


@dataclass(frozen=True)
class Conditioning:
    """What the UNet and the ControlNets are told by N prompts, in the model's dtype.

    `tokens` [N, L, width]: L is the text encoder's length times the chunks of the longest prompt. `pooled`
    [N, P]: the second text encoder's summary of a prompt, for families that have one (SDXL).
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None


@torch.no_grad()
def encode_prompts(
    model: Model, prompts: Sequence[str], *, clip_skip: int = 1, num_chunks: int = 1
) -> Conditioning:
    """Prompts in A1111's syntax, of any length -> what a render is conditioned on, one row per prompt.

    Prompts are cut into chunks (`chunks.py`), each encoded by itself and put one after the other; those of
    one call are filled up with empty chunks to the same number, at least `num_chunks`. Weights multiply the
    hidden states, whose mean over the chunk is then restored (A1111's original emphasis). Stable Diffusion
    1.x: the `clip_skip`-th last hidden state, then the final norm. SDXL (Podell et al. 2023): both encoders'
    hidden states side by side, without the norm, the last but one at `clip_skip` 1; pooled from the first
    chunk.
    Raises ModelError for `<lora:...>` in a prompt, a weight out of range, a clip_skip beyond the layers.
    """
    return _encode(model, prompts, clip_skip=clip_skip, num_chunks=num_chunks)


def encode_captions(model: Model, captions: Sequence[str]) -> Conditioning:
    """Plain text, as training reads it -> what a render of the same words is conditioned on, row per caption.

    Brackets are text. Gradients flow where a text encoder or the vectors of a word learn; wrap in
    `torch.no_grad()` otherwise. Raises ModelError for a caption longer than one chunk.
    """
    for caption in dict.fromkeys(captions):
        if not is_read_at_once(model, caption):
            length = chunk_length(model.text_encoder, model.tokenizer)
            raise ModelError(
                f"caption '{caption[:40]}...': longer than the {length} tokens that model "
                f"'{model.family.name}' reads at once; shorten it"
            )
    return _encode(model, [_as_text(caption) for caption in captions], clip_skip=1, num_chunks=1)


def is_read_at_once(model: Model, caption: str) -> bool:
    """Whether plain text is no longer than the text encoders read, with the vectors of learned words."""
    return count_chunks(model, _as_text(caption)) == 1


def _as_text(caption: str) -> str:
    """A prompt that says the caption, whatever brackets it has."""
    return re.sub(r"[\\()\[\]]", lambda bracket: "\\" + bracket[0], caption)


def _encode(model: Model, prompts: Sequence[str], *, clip_skip: int, num_chunks: int) -> Conditioning:
    unique = list(dict.fromkeys(prompts))
    readers = _readers(model)
    chunked = [[reader.chunks(prompt) for prompt in unique] for reader in readers]
    most = max(num_chunks, *(len(chunks) for of_reader in chunked for chunks in of_reader))
    encoded = [
        reader.encode([_filled(chunks, most, reader) for chunks in of_reader], clip_skip)
        for reader, of_reader in zip(readers, chunked, strict=True)
    ]
    row_of = {prompt: row for row, prompt in enumerate(unique)}
    rows = torch.tensor([row_of[prompt] for prompt in prompts], device=model.device)
    tokens = torch.cat([states for states, _ in encoded], dim=-1).to(model.dtype)  # [unique, L, width]
    pooled = encoded[-1][1]
    return Conditioning(
        tokens=tokens.index_select(0, rows),
        pooled=None if pooled is None else pooled.to(model.dtype).index_select(0, rows),
    )


def count_chunks(model: Model, prompt: str) -> int:
    """How many chunks a prompt takes; see `encode_prompts`."""
    return max(len(reader.chunks(prompt)) for reader in _readers(model))


@dataclass(frozen=True)
class _Reader:
    """One text encoder with its tokenizer and the words of textual inversions in its vocabulary."""

    encoder: Any
    tokenizer: Any
    words: dict[str, tuple[int, ...]]
    length: int
    skipped: int  # layers that clip_skip 1 leaves out
    normed: bool  # whether the final norm follows
    pools: bool

    def chunks(self, prompt: str) -> tuple[Chunk, ...]:
        chunks = chunk_prompt(prompt, self.tokenizer, length=self.length, words=self.words)
        heaviest = max(abs(weight) for chunk in chunks for weight in chunk.weights)
        if not heaviest <= _HEAVIEST:
            raise ModelError(
                f"prompt '{prompt[:40]}...': a part weighs {heaviest:g}; expected weights up to {_HEAVIEST}: "
                "most prompts need 0.5 to 1.5"
            )
        return chunks

    def encode(
        self, prompts: Sequence[Sequence[Chunk]], clip_skip: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """States [N, L, width] and pooled [N, P] of prompts with as many chunks each; equal ids once."""
        unique = list(dict.fromkeys(chunk.ids for chunks in prompts for chunk in chunks))
        states, pooled = self._forward(torch.tensor(unique, device=self.encoder.device), clip_skip)
        row_of = {ids: row for row, ids in enumerate(unique)}
        long = [torch.cat([_weighed(states[row_of[c.ids]], c.weights) for c in chunks]) for chunks in prompts]
        if pooled is not None:
            pooled = pooled[[row_of[chunks[0].ids] for chunks in prompts]]
        return torch.stack(long), pooled

    def _forward(self, ids: torch.Tensor, clip_skip: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """ids [n, length] -> hidden states [n, length, width] and, where it pools, [n, P]."""
        layers = self.encoder.config.num_hidden_layers
        most = layers - self.skipped
        if not 1 <= clip_skip <= most:
            raise ModelError(
                f"clip_skip is {clip_skip}; the text encoder has {layers} layers: expected 1 to {most}"
            )
        out = self.encoder(ids, output_hidden_states=True)
        if clip_skip == 1 and self.normed:
            states = out.last_hidden_state
        else:
            states = out.hidden_states[-(clip_skip + self.skipped)]
            states = self.encoder.final_layer_norm(states) if self.normed else states
        return states, self._pooled(ids, out.last_hidden_state) if self.pools else None

    def _pooled(self, ids: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """The projected state of the first end mark.

        transformers' own looks for the highest id where an old config says `eos_token_id` 2, which would be
        the vector of an embedding.
        """
        ends = (ids == self.tokenizer.eos_token_id).int().argmax(dim=1)
        rows = torch.arange(len(ids), device=ids.device)
        pooled: torch.Tensor = self.encoder.text_projection(states[rows, ends])
        return pooled


_HEAVIEST = 1000.0  # beyond this a weight is a slip; float16 overflows soon after


def _readers(model: Model) -> list[_Reader]:
    pairs = [(model.text_encoder, model.tokenizer), (model.text_encoder_2, model.tokenizer_2)]
    several = model.text_encoder_2 is not None
    return [
        _Reader(
            encoder=encoder,
            tokenizer=tokenizer,
            words={word: ids[place] for word, ids in model.embedding_ids.items()},
            length=chunk_length(encoder, tokenizer),
            skipped=1 if several else 0,
            normed=not several,
            pools=several and place == 1,
        )
        for place, (encoder, tokenizer) in enumerate(pairs)
        if encoder is not None
    ]


def _filled(chunks: Sequence[Chunk], count: int, reader: _Reader) -> tuple[Chunk, ...]:
    return (*chunks, *[empty_chunk(reader.tokenizer, length=reader.length)] * (count - len(chunks)))


def _weighed(states: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """[length, width] multiplied token by token, the mean over all of it kept."""
    if all(weight == 1.0 for weight in weights):
        return states
    before = states.float()
    after = before * torch.tensor(weights, device=states.device)[:, None]
    mean = after.mean()
    return (after * torch.where(mean == 0.0, 1.0, before.mean() / mean)).to(states.dtype)


def encode_text(model: Model, prompts: Sequence[str]) -> torch.Tensor:
    """Plain text, as training reads it -> embeddings [N, tokens, width] in the model's dtype, row per prompt.

    Equal prompts are encoded once; brackets are text. The last hidden state after the final norm, padded to
    the tokenizer's length, as Stable Diffusion 1.x reads it (Rombach et al. 2022). Gradients flow where the
    text encoder has trainable weights; wrap in `torch.no_grad()` otherwise. Raises ModelError for a prompt
    longer than the model reads.
    """
    unique = list(dict.fromkeys(prompts))
    for prompt in unique:
        count, limit = count_tokens(model, prompt), model.tokenizer.model_max_length
        if count > limit:
            raise ModelError(
                f"prompt '{prompt[:40]}...': {count} tokens, of which model '{model.family.name}' reads "
                f"{limit}; shorten it, the rest would be ignored"
            )
    batch = model.tokenizer(unique, padding="max_length", return_tensors="pt")
    states = model.text_encoder(batch.input_ids.to(model.device))[0]  # [unique, tokens, width]
    index = {prompt: row for row, prompt in enumerate(unique)}
    rows = torch.tensor([index[prompt] for prompt in prompts], device=states.device)
    out: torch.Tensor = states.index_select(0, rows).to(model.dtype)
    return out


def count_tokens(model: Model, prompt: str) -> int:
    """Tokens of `prompt` as the text encoder sees it, start and end marks included."""
    return len(model.tokenizer(prompt, verbose=False).input_ids)  # else it warns of what our error then says


@torch.no_grad()
def encode_images(model: Model, frames: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 RGB [B, H, W, 3] -> latents float32 [B, C, h, w], scaled as the UNet expects them.

    The mean of the VAE's posterior, so that the same picture always has the same latents.
    Raises ModelError when a side is not a multiple of the family's size_multiple.
    """
    multiple = model.family.size_multiple
    height, width = frames.shape[1:3]
    if height % multiple or width % multiple:
        raise ModelError(
            f"frames are {width} x {height}; model '{model.family.name}' needs multiples of {multiple}: "
            "resize them"
        )
    pixels = to_tensor(frames, device=model.device).to(model.vae.dtype)  # [B, 3, H, W]
    encoded = model.vae.encode(pixels)  # a tiny VAE has no posterior
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()  # [B, C, h, w]
    out: torch.Tensor = (latents.float() - _shift(model)) * model.vae.config.scaling_factor
    return out


@torch.no_grad()
def decode_latents(model: Model, latents: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Scaled latents [B, C, h, w] -> uint8 RGB [B, H, W, 3]. Raises ValueError when not finite."""
    raw = latents / model.vae.config.scaling_factor + _shift(model)
    return to_uint8(model.vae.decode(raw.to(model.vae.dtype)).sample)


def _shift(model: Model) -> float:
    """`shift_factor` of newer VAEs (SD 3, Flux); absent or null before."""
    return float(getattr(model.vae.config, "shift_factor", None) or 0.0)
