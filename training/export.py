"""The trained LoRA as files that other tools read: kohya safetensors and A1111's sidecar."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.files import file_digest, known_digest, whole_file
from pipeline.models import Family, Model, lora_metadata, write_lora
from pipeline.models.embedding_layout import EMBEDDINGS_KEY
from pipeline.models.lora_kinds import LORA_KINDS
from pipeline.models.lora_save import trained_file
from training.adapters.trained import Job
from training.captions import tag_frequency
from training.dataset import Dataset
from training.example import Example

STAMP_KEY = "lookdev.training"


def write(path: Path, model: Model, job: Job, *, kind: str, embeddings: Sequence[Path] = ()) -> None:
    """Write the injected LoRA to `path` and its sidecar beside it, both or neither.

    The job's stamp says in the metadata which training it is of, and `lookdev.embeddings` which files of
    `embeddings` belong to it: word -> file's name and sha256. The same weights, dataset and
    stamp give the same bytes. Raises `OutputError`, and `ModelError` for a file that would half-load.
    """
    dataset = job.dataset
    header = metadata(model, job, kind=kind) | {STAMP_KEY: job.stamp}
    if embeddings:
        belong = {each.stem: {"file": each.name, "sha256": file_digest(each)} for each in embeddings}
        header[EMBEDDINGS_KEY] = json.dumps(belong, ensure_ascii=False, sort_keys=True)
    state, header = trained_file(model, path, header, kind=kind, layout=dataset.file.train.layout)
    notes = json.dumps(sidecar(dataset, model.family, embeddings), indent=2, ensure_ascii=False) + "\n"
    # The sidecar has its room on the disk before the LoRA is written, and its name only after it.
    with whole_file(path.with_suffix(".json")) as unfinished:
        unfinished.write_text(notes, encoding="utf-8")
        write_lora(path, state, metadata=header)


def metadata(model: Model, job: Job, *, kind: str) -> dict[str, str]:
    """The header of the file: what a LoRA browser shows, and what kohya's tools expect.

    Images and captions are those that were trained on. No times, so that the same training gives the same
    bytes.
    """
    dataset = job.dataset
    train, concepts = dataset.file.train, dataset.file.concept
    shown = [example for example in dataset.split()[0].examples if not example.is_mirrored]
    captions = [
        [example.caption for example in shown if example.concept == index] for index in range(len(concepts))
    ]
    # kohya names a dataset folder "<repeats>_<trigger> <class>"
    folders = [f"{c.repeats}_{c.trigger} {c.class_word}" for c in concepts]
    extra = {
        "ss_dataset_dirs": json.dumps(
            {
                folder: {"n_repeats": concept.repeats, "img_count": len(texts)}
                for folder, concept, texts in zip(folders, concepts, captions, strict=True)
            },
            ensure_ascii=False,
        ),
        **_counts(
            job, [concept.repeats * len(texts) for concept, texts in zip(concepts, captions, strict=True)]
        ),
        **_places(job, model, shown),
        "ss_learning_rate": str(train.lr),
        "ss_unet_lr": str(train.lr),
        "ss_text_encoder_lr": str(train.text_lr),
        "ss_gradient_accumulation_steps": str(train.accumulate),
        "ss_gradient_checkpointing": str(train.gradient_checkpointing),
        "ss_optimizer": train.optimizer,
        "ss_lr_scheduler": train.lr_shape,
        "ss_lr_warmup_steps": str(round(train.warmup * train.steps)),
        "ss_max_grad_norm": str(train.max_grad_norm),
        "ss_noise_offset": str(train.noise_offset),
        "ss_seed": str(train.seed),
        "ss_caption_dropout_rate": str(train.caption_dropout),
        "ss_prior_loss_weight": str(train.prior_weight),
        "ss_flip_aug": str(any(concept.mirror for concept in concepts)),
        "ss_shuffle_caption": "False",
        "ss_cache_latents": "True",
        "ss_min_snr_gamma": str(train.min_snr_gamma),
        "ss_clip_skip": "None",
        "modelspec.usage_hint": _usage(dataset),
    }
    spec = LORA_KINDS[kind]
    args = dict(spec.args)
    if train.conv_rank > 0:
        conv_alpha = train.alpha / train.rank * train.conv_rank
        args |= {"conv_dim": str(train.conv_rank), "conv_alpha": str(conv_alpha)}
    extra |= {"ss_network_module": spec.module, "ss_network_args": json.dumps(args)}
    return lora_metadata(
        model.family,
        name=job.name,
        rank=train.rank,
        alpha=train.alpha,
        trigger=", ".join(concept.trigger for concept in concepts),
        tag_frequency=dict(zip(folders, map(tag_frequency, captions), strict=True)),
        extra=extra,
    )


def _counts(job: Job, images: Sequence[int]) -> dict[str, str]:
    """Steps and epochs as kohya counts them: an epoch shows each image as often as its folder repeats it.

    `images` is each concept's number, repeats included.
    """
    train, total = job.dataset.file.train, sum(images)
    return {
        "ss_steps": str(job.steps),
        "ss_max_train_steps": str(train.steps),
        "ss_epoch": str(math.ceil(job.steps * train.step_images / total)),
        "ss_num_epochs": str(math.ceil(train.steps * train.step_images / total)),
        "ss_num_train_images": str(total),
        "ss_num_reg_images": str(len(job.dataset.priors)),
        "ss_num_batches_per_epoch": str(math.ceil(total / train.batch)),
        "ss_batch_size_per_device": str(train.batch),
        "ss_total_batch_size": str(train.batch),
    }


def _places(job: Job, model: Model, shown: Sequence[Example]) -> dict[str, str]:
    """Base model, sizes and buckets, as kohya names them (sides as width, height)."""
    dataset, side = job.dataset, job.dataset.size
    sizes = Counter((e.image.shape[1], e.image.shape[0]) for e in shown)
    buckets = {
        str(number): {"resolution": list(size), "count": count}
        for number, (size, count) in enumerate(sorted(sizes.items()))
    }
    kind = model.scheduler_config.get("prediction_type", "epsilon")
    # by which model sites and A1111 know a checkpoint; a folder has no such digest
    checkpoint = {"ss_new_sd_model_hash": known_digest(job.base)} if job.base.is_file() else {}
    return checkpoint | {
        "ss_sd_model_name": job.base.name,
        "ss_resolution": f"({side}, {side})",
        "ss_enable_bucket": str(dataset.file.train.buckets),
        "ss_bucket_no_upscale": "True",
        "ss_bucket_info": json.dumps({"buckets": buckets}),
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.prediction_type": "v" if kind == "v_prediction" else "epsilon",
    }


def embedding_metadata(model: Model, job: Job, word: str) -> dict[str, str]:
    """The header of an embedding's file."""
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": model.family.lora_architecture.removesuffix("/lora") + "/textual-inversion",
        "modelspec.implementation": "diffusers",
        "modelspec.title": word,
        "modelspec.trigger_phrase": word,
        "modelspec.usage_hint": f"Put the word '{word}' into the prompt.",
        STAMP_KEY: job.stamp,
    }


def model_metadata(model: Model, job: Job) -> dict[str, str]:
    """The header of a whole model's one file."""
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": model.family.lora_architecture.removesuffix("/lora"),
        "modelspec.implementation": "diffusers",
        "modelspec.title": job.name,
        "modelspec.trigger_phrase": ", ".join(concept.trigger for concept in job.dataset.file.concept),
        "modelspec.usage_hint": _usage(job.dataset),
        STAMP_KEY: job.stamp,
    }


def model_note(job: Job) -> dict[str, Any]:
    """What a model's folder says of itself."""
    return {
        "name": job.name,
        "triggers": [concept.trigger for concept in job.dataset.file.concept],
        "usage": _usage(job.dataset),
        "training": job.stamp,
    }


def sidecar(dataset: Dataset, family: Family, embeddings: Sequence[Path] = ()) -> dict[str, str | float]:
    """A1111's `<name>.json`, read by its LoRA browser."""
    needs = f", needs the embeddings {', '.join(each.name for each in embeddings)}" if embeddings else ""
    return {
        "activation text": ", ".join(c.trigger for c in dataset.file.concept),
        "preferred weight": 1.0,
        "negative text": "",
        "sd version": family.a1111_version,
        "description": _usage(dataset),
        "notes": f"lookdev, {len(dataset.examples)} images, {dataset.file.train.steps} steps{needs}",
    }


def _usage(dataset: Dataset) -> str:
    concepts = "; ".join(f"'{c.trigger}' is a {c.kind} ({c.class_word})" for c in dataset.file.concept)
    return f"Put the trigger into the prompt: {concepts}."
