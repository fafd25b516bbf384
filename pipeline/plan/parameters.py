"""What made a frame, as A1111's web UI writes it into pictures (modules/processing.py, `create_infotext`).

    <prompt> <lora:iris:0.8>
    Negative prompt: <negative>
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model hash: 6ce0161689, Model: v1, ...

Other tools read it back. It says what decided the pixels, so the negative prompt stands there only where
guidance reads it; the same frame of the same plan always has the same text.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.files import known_digest
from pipeline.models.families import FAMILIES
from pipeline.plan.controls import controlnet_files
from pipeline.plan.digest import model_place, weights_at
from pipeline.plan.frame_digests import sha256_of
from pipeline.plan.values import Plan
from pipeline.preset import WEB_NAMES, Look, Mix

MODEL_HASH, CONTROL_HASH, LORA_HASH = 10, 8, 12  # places of a sha256 that A1111 shows
_SAMPLER = {name: web for web, name in WEB_NAMES.items()}


def parameters(plan: Plan, index: int) -> str:
    """The text of the frame with this index (0-based). Raises ModelError for weights that are gone."""
    look = plan.looks[index]
    lines = [" ".join([_said(look.prompt), *_lora_tags(plan, look)])]
    if look.guidance != 1.0 and any(text for text, _ in look.negative):
        lines.append(f"Negative prompt: {_said(look.negative)}")
    fields = (f"{name}: {_quoted(value)}" for name, value in _fields(plan, look, plan.seeds[index]))
    return "\n".join([*lines, ", ".join(fields)])


def _fields(plan: Plan, look: Look, seed: int) -> Iterator[tuple[str, str]]:
    yield "Steps", str(look.steps)
    yield "Sampler", _SAMPLER[look.scheduler]
    yield "CFG scale", f"{look.guidance:g}"
    yield "Seed", str(seed)
    yield "Size", f"{plan.width}x{plan.height}"
    yield "Model hash", _weights_hash(model_place(plan))[:MODEL_HASH]
    yield "Model", plan.model if plan.model in FAMILIES else Path(plan.model).stem
    if plan.vae is not None:
        yield "VAE hash", _weights_hash(plan.vae)[:MODEL_HASH]
        yield "VAE", plan.vae.name
    yield "Denoising strength", f"{look.strength:g}"
    if plan.clip_skip != 1:
        yield "Clip skip", str(plan.clip_skip)
    if len(look.prompt) > 1:
        yield "Prompt mix", " + ".join(f"{weight:.3g} x {text}" for text, weight in look.prompt)
    yield from _control_fields(plan, look)
    if plan.loras:
        hashes = (f"{lora.path.stem}: {lora.web_hash[:LORA_HASH]}" for lora in plan.loras)
        yield "Lora hashes", ", ".join(hashes)
    if plan.embeddings:
        yield "TI hashes", ", ".join(f"{each.name}: {each.sha256[:LORA_HASH]}" for each in plan.embeddings)
    yield "Version", f"lookdev {importlib.metadata.version('lookdev')}"


def _control_fields(plan: Plan, look: Look) -> Iterator[tuple[str, str]]:
    for number, (control, use) in enumerate(zip(plan.controls, look.controls, strict=True)):
        files = controlnet_files(control)
        if files is not None:
            name = f"{files.weights.stem} [{_weights_hash(files.weights)[:CONTROL_HASH]}]"
        else:
            name = control.path or f"{Path(plan.model).stem}'s own"
        said = (
            f"Module: {control.kind}, Model: {name}, Weight: {use.weight:g}, "
            f"Guidance Start: {use.start:g}, Guidance End: {use.end:g}"
        )
        yield f"ControlNet {number}", said


def _lora_tags(plan: Plan, look: Look) -> Iterator[str]:
    """<lora:name:weight>, or <lora:name:text encoder's:unet's> where they differ."""
    for lora, (unet, text) in zip(plan.loras, look.loras, strict=True):
        weights = f"{unet:g}" if unet == text else f"{text:g}:{unet:g}"
        yield f"<lora:{lora.path.stem}:{weights}>"


def _said(mix: Mix) -> str:
    """The text that weighs most; a mix is spelled out among the fields."""
    return max(mix, key=lambda part: part[1])[0]


def _quoted(value: str) -> str:
    """As A1111 quotes: a value that holds what separates fields becomes a JSON string."""
    return json.dumps(value, ensure_ascii=False) if {",", ":", "\n"} & set(value) else value


def _weights_hash(place: Path) -> str:
    """A file's sha256; a folder's is that of its files' sha256 in order."""
    try:
        digests = [known_digest(file) for file in weights_at(place)]
    except OSError as error:
        raise ModelError(
            f"{error.filename or place}: cannot be read ({error.strerror}); keep weights in place"
        ) from None
    return digests[0] if len(digests) == 1 else sha256_of(digests)
