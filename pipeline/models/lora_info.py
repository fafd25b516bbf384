"""What a LoRA file says about itself, as rows for a table."""

from __future__ import annotations

import json
from collections import Counter

from pipeline.models.embedding_layout import EMBEDDINGS_KEY, embeddings_of_lora
from pipeline.models.lora_file import LoraFile
from pipeline.models.lora_layers import UNET, family_names

_TRAINING = {
    "ss_sd_model_name": "trained on",
    "ss_base_model_version": "base version",
    "modelspec.architecture": "architecture",
    "ss_network_module": "network",
    "ss_num_train_images": "images, with repeats",
    "ss_num_epochs": "epochs",
    "ss_steps": "steps",
    "ss_learning_rate": "learning rate",
    "ss_unet_lr": "UNet learning rate",
    "ss_text_encoder_lr": "text learning rate",
    "ss_optimizer": "optimizer",
    "ss_resolution": "resolution",
    "ss_clip_skip": "clip skip",
    "ss_training_comment": "comment",
    "modelspec.date": "date",
    "modelspec.usage_hint": "usage",
    "modelspec.description": "description",
}
_SHOWN = {
    *_TRAINING,
    EMBEDDINGS_KEY,
    "modelspec.trigger_phrase",
    "ss_tag_frequency",
    "modelspec.title",
    "ss_output_name",
}
_NUM_TAGS, _WIDTH = 5, 300


def describe(lora: LoraFile, family: str) -> list[tuple[str, str]]:
    """(label, value) rows: name, base, layout, kinds, rank, alpha, trigger, concepts, training metadata.

    `family` is the one whose layers the file's names fit best.
    """
    names, modules = family_names(family), lora.modules.values()
    addresses = [names.find(name) for name in lora.modules]
    places = Counter((address or "unknown to it").partition(".")[0] for address in addresses)
    numel = sum(tensor.numel() for tensor in lora.state.values())
    rows = [
        (
            "name",
            lora.metadata.get("ss_output_name") or lora.metadata.get("modelspec.title") or lora.path.stem,
        ),
        ("base", family),
        ("layout", lora.layout),
        ("kind", _counts(Counter(_kind(module.kind, module.is_dora, module.shape) for module in modules))),
        ("modules", _counts(Counter({root.replace(UNET, "UNet"): n for root, n in places.items()}))),
        ("rank", _counts(Counter(str(module.rank) for module in modules))),
        ("alpha", _counts(Counter(f"{module.alpha:g}" for module in modules))),
        (
            "weights",
            f"{numel / 1e6:.2f} million, " + _counts(Counter(str(t.dtype)[6:] for t in lora.state.values())),
        ),
        ("trigger", lora.metadata.get("modelspec.trigger_phrase", "not said")),
        *(("embedding", f"{word} (belongs to it)") for word in embeddings_of_lora(lora.metadata)),
        *(("concept", concept) for concept in _concepts(lora.metadata.get("ss_tag_frequency"))),
    ]
    rows += [
        (label, _short(lora.metadata[key])) for key, label in _TRAINING.items() if lora.metadata.get(key)
    ]
    others = sorted(set(lora.metadata) - _SHOWN)
    return rows + ([("other metadata", ", ".join(others))] if others else [])


def _kind(kind: str, dora: bool, shape: tuple[int, ...]) -> str:
    names = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr"}
    kernel = any(side > 1 for side in shape[2:])
    name = "LoCon" if kind == "lora" and kernel else names[kind]
    return f"{name} with DoRA" if dora else name


def _counts(counter: Counter[str]) -> str:
    """ "16 (192), 8 (72)"; without numbers where there is only one."""
    if len(counter) == 1:
        return next(iter(counter)) + (f" ({counter.total()})" if not next(iter(counter)).isdigit() else "")
    return ", ".join(f"{value} ({count})" for value, count in counter.most_common())


def _concepts(text: str | None) -> list[str]:
    """A line for each dataset folder with its commonest tags, from {folder: {tag: count}}."""
    try:
        table = json.loads(text or "{}")
        return [
            f"{folder}: " + ", ".join(f"{tag} ({n})" for tag, n in Counter(tags).most_common(_NUM_TAGS))
            for folder, tags in table.items()
        ]
    except (ValueError, TypeError, AttributeError):
        return ["its ss_tag_frequency is not readable"]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."
