"""What a captioning model says of a picture, made into a caption of this concept.

The model knows nothing of the trigger and names what belongs to it ("a man with a beard"), so its words are
cut: the subject's noun and every invariant go, and what contradicts one goes with a word to the user.
Nothing is fetched: the model is a folder, or lies in the hub's cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.image import UInt8Array
from training.curate.contradict import contradictions
from training.curate.fix import mend, without
from training.curate.image_models import model_folder, reading
from training.curate.words import MODIFIERS, SMALL_WORDS, SUBJECTS
from training.schema import Concept

Describe = Callable[[UInt8Array], str]  # a picture uint8 RGB [H, W, 3] -> what the model says

USUAL_MODEL = "Salesforce/blip-image-captioning-base"
_FILES = ("*.json", "*.txt", "*.safetensors")
_MOST_TOKENS = 40
_OPENING = re.compile(
    r"^(?:there is |this is )?(?:(?:an? )?(?:photo|picture|image|close[- ]?up|portrait|shot)(?:graph)? of )?",
    re.I,
)
_LOOSE_ENDS = SMALL_WORDS | {"is", "are", "has", "wearing", "holding"}
_ADJECTIVES = frozenset().union(*MODIFIERS.values())


@dataclass(frozen=True)
class Description:
    """What is left of the model's words, and what was said of the rest."""

    text: str
    notes: tuple[str, ...] = ()


def load_captioner(name: str | Path, *, device: str = "cpu") -> Describe:
    """A captioning model (BLIP, BLIP-2, GIT ...) of transformers, from a folder or the hub's cache.

    Raises `ModelError`: not there, or not a captioning model with its processor, or no .safetensors.
    """
    folder = model_folder(name, kind="captioning", files=_FILES)
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    with reading(folder, kind="captioning"):
        processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
        network: Any = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    network = network.to(device).eval()

    def describe(picture: UInt8Array) -> str:
        inputs = processor(images=[picture], return_tensors="pt").to(device)
        with torch.inference_mode():
            tokens = network.generate(**inputs, max_new_tokens=_MOST_TOKENS, do_sample=False, num_beams=1)
        return str(processor.batch_decode(tokens, skip_special_tokens=True)[0])

    return describe


def adapt(said: str, concept: Concept) -> Description:
    """A model's words as the end of a concept's caption: without who it is, and without its invariants."""
    text = _OPENING.sub("", " ".join(said.split()).strip(" .,"))
    text = re.sub(r"\b(\w+)(?: \1\b)+", r"\1", text, flags=re.IGNORECASE)  # "the the the"
    notes = []
    for phrase, invariant in contradictions(text, concept):
        notes.append(f"the model says '{phrase}', but '{invariant}' is invariant: look at the image")
        text = without(text, phrase)
    for invariant in concept.invariant:
        text = without(text, invariant)
        noun = invariant.split()[-1]
        text = _without_noun(text, noun)
    text = _without_subject(text, concept)
    words = text.strip(" .,").split()
    while words and words[-1].strip(",").lower() in _LOOSE_ENDS:
        words.pop()
    while words and words[0].strip(",").lower() in ("and", "is", "are", "who"):
        words.pop(0)
    return Description(" ".join(words), tuple(notes))


def merged(caption: str, description: Description, concept: Concept) -> str:
    """The caption with the description behind it: the trigger in, invariants out."""
    parts = [part for part in (caption, description.text) if part]
    return mend(", ".join(parts), concept)


def _without_noun(text: str, noun: str) -> str:
    """Without "with a brown beard": the noun of an invariant with its colours and sizes."""
    adjectives = "|".join(sorted(_ADJECTIVES, key=lambda word: (-len(word), word)))
    lead = r"(?:\b(?:with|wearing|has|having|and|in)\s+)?(?:\b(?:an?|the|his|her|their)\s+)?"
    pattern = rf"{lead}(?:\b(?:{adjectives})\s+)*\b{re.escape(noun)}\b"
    return " ".join(re.sub(pattern, " ", text, flags=re.IGNORECASE).split())


def _without_subject(text: str, concept: Concept) -> str:
    """Without "a young woman" in front: the template says who it is."""
    people = "|".join(sorted({*SUBJECTS, concept.class_word.lower()}, key=lambda word: (-len(word), word)))
    adjectives = "|".join(sorted(_ADJECTIVES))
    return re.sub(rf"^(?:an?|the)?\s*(?:(?:{adjectives})\s+)*(?:{people})\b\s*", "", text, flags=re.I)
