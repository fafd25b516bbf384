"""Before any weights are read: what prompts may not say, and the files of the words they use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pipeline.errors import ModelError, PresetError
from pipeline.files import known_digest
from pipeline.models.chunks import word_pattern
from pipeline.models.embedding_layout import check_embedding_family
from pipeline.models.families import Family
from pipeline.models.prompt_syntax import refuse_extra_networks
from pipeline.plan.values import PlannedEmbedding, PlannedLora
from pipeline.preset import Look, Preset, texts_of


def check_prompts(preset: Preset) -> None:
    """Raise PresetError for `<lora:...>` and the like in a prompt or a variable."""
    for text, where in texts_of(preset):
        try:
            refuse_extra_networks(text)
        except ModelError as error:
            raise PresetError(f"{where}: {error}") from None


def plan_embeddings(preset: Preset, family: Family) -> tuple[PlannedEmbedding, ...]:
    """Each textual inversion with its digest. Raises PresetError (no file), ModelError (another family's)."""
    planned = []
    for index, embedding in enumerate(preset.embedding):
        where = preset.where("embedding", index, "path")
        if not embedding.path.is_file():
            raise PresetError(f"{where}: found no file {embedding.path}; mend the path")
        check_embedding_family(
            embedding.path, family, allow_pickle=embedding.allow_pickle, where=f"{where}: {embedding.path}"
        )
        planned.append(
            PlannedEmbedding(
                embedding.path, known_digest(embedding.path), embedding.word, embedding.allow_pickle
            )
        )
    return tuple(planned)


def unsaid_embeddings(
    preset: Preset, embeddings: Sequence[PlannedEmbedding], looks: Iterable[Look]
) -> tuple[str, ...]:
    """A line for each textual inversion that no prompt that is read says."""
    texts = {
        text
        for look in looks
        for part in look.parts
        for text, _ in (*part.prompt, *(part.negative if look.guidance > 1 else ()))
    }
    return tuple(
        f"{preset.where('embedding', index, 'path')}: no prompt says '{embedding.name}'"
        for index, embedding in enumerate(embeddings)
        if not any(re.search(word_pattern(embedding.name), text, re.IGNORECASE) for text in texts)
    )


def missing_embeddings(
    preset: Preset, loras: Sequence[PlannedLora], embeddings: Sequence[PlannedEmbedding]
) -> tuple[str, ...]:
    """A line for each word that a LoRA was trained with and that the preset does not load from that file."""
    loaded = {embedding.name.lower(): embedding.sha256 for embedding in embeddings}
    notes = []
    for (location, _), lora in zip(preset.all_loras(), loras, strict=True):
        where = preset.where(*location, "path")
        for word, digest in lora.embeddings.items():
            if word.lower() not in loaded:
                notes.append(f"{where}: was trained with the embedding '{word}'; add it as [[embedding]]")
            elif loaded[word.lower()] != digest:
                notes.append(f"{where}: was trained with another file of the embedding '{word}'")
    return tuple(notes)
