"""Files of textual inversions: which tensors are the vectors, and whose they are. No torch here.

A1111 writes `emb_params` (in pickles `string_to_param["*"]`), for SDXL `clip_l` and `clip_g`; diffusers
writes one tensor named by its token.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipeline.errors import ModelError
from pipeline.models.families import Family

# Zip files and the protocols of Python's pickles: what torch.save writes.
_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
# Names of the two encoders' vectors in SDXL's files: A1111's and kohya's, then diffusers' older ones.
EMBEDDINGS_KEY = "lookdev.embeddings"  # in a LoRA's metadata, JSON: word -> its file's name and sha256
SINGLE = "emb_params"
PAIR = ("clip_l", "clip_g")
_PAIRS = (PAIR, ("text_encoders_0", "text_encoders_1"))
_MADE_FOR: Mapping[tuple[int, ...], str] = {
    (768,): "Stable Diffusion 1.x",
    (1024,): "Stable Diffusion 2.x",
    (768, 1280): "SDXL",
}


def embeddings_of_lora(metadata: Mapping[str, str]) -> dict[str, str]:
    """Word -> sha256 of the embedding's file that a LoRA was trained with; none where it says none."""
    try:
        said = json.loads(metadata.get(EMBEDDINGS_KEY, "{}"))
        return {str(word): str(file["sha256"]) for word, file in said.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def check_embedding_family(path: Path, family: Family, *, allow_pickle: bool, where: str) -> None:
    """Refuse a file that `family` cannot read, by its header alone.

    A pickle's tensors are seen only when it is loaded. `where` names the file. Raises ModelError.
    """
    try:
        with path.open("rb") as file:
            if is_pickle(file.read(2)):
                refuse_pickle(where, allow_pickle=allow_pickle)
                return
        with safe_open(path, framework="np") as header:
            keys = vector_keys(header.keys(), where=where)
            widths = [header.get_slice(key).get_shape()[-1:] for key in keys]
    except OSError as error:
        raise ModelError(f"{where}: cannot be read ({error.strerror}); check the path") from None
    except SafetensorError as error:
        raise ModelError(f"{where}: is no readable safetensors file ({error}); copy it again") from None
    found = tuple(int(side) for width in widths for side in width)
    if sum(found) != family.context_width:  # the text encoders' states side by side are what the UNet reads
        raise another_model(found, str(family.context_width), family, where=where)


def vector_keys(names: Collection[str], *, where: str) -> tuple[str, ...]:
    """The keys of the vectors, one for each text encoder. Raises ModelError where it is no embedding."""
    for keys in (*_PAIRS, (SINGLE,), ("*",)):
        if set(keys) <= set(names):
            return keys
    if len(names) == 1:  # diffusers: the token itself is the key
        return tuple(names)
    some = ", ".join(sorted(map(str, names))[:3]) + (", ..." if len(names) > 3 else "")
    raise ModelError(
        f"{where}: holds {len(names)} tensors ({some or 'none'}); expected emb_params, clip_l and clip_g, or "
        "one token: is it an embedding (textual inversion)?"
    )


def is_pickle(data: bytes) -> bool:
    """Whether a file that starts like this is one of torch's pickles."""
    return data.startswith(_PICKLES)


def refuse_pickle(where: str, *, allow_pickle: bool) -> None:
    """Raise ModelError unless pickles are allowed."""
    if not allow_pickle:
        raise ModelError(
            f"{where}: is a pickle, which can run code; expected safetensors; convert it, or set "
            "allow_pickle = true if you trust its maker"
        )


def another_model(found: Sequence[int], wanted: str, family: Family, *, where: str) -> ModelError:
    """The one line for vectors of widths that the model's text encoders do not have."""
    made_for = f" (made for {_MADE_FOR[tuple(found)]})" if tuple(found) in _MADE_FOR else ""
    widths = " + ".join(map(str, found)) or "no width"
    return ModelError(
        f"{where}: vectors of width {widths}{made_for}; model '{family.name}' reads {wanted}: choose an "
        "embedding of this model, or its model"
    )
