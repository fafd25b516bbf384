"""Alpha of PEFT and diffusers files, which hold it beside the tensors.

diffusers writes `lora_adapter_metadata` into the header: a JSON object of LoraConfig's fields, each with the
part of the model before it ("unet.lora_alpha"). peft writes adapter_config.json beside
adapter_model.safetensors.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.lora_keys import plain_name

METADATA_KEY = "lora_adapter_metadata"
CONFIG_NAME = "adapter_config.json"
AlphaReader = Callable[[str, int], float | None]


def alpha_reader(path: Path, metadata: Mapping[str, str]) -> AlphaReader:
    """A function (module name, rank) -> alpha as the file's maker meant it; None where nothing is said.

    Raises ModelError when what is written there is no readable config.
    """
    where, text = f"LoRA {path}: its {METADATA_KEY}", metadata.get(METADATA_KEY)
    beside = path.parent / CONFIG_NAME
    if text is None and path.name == "adapter_model.safetensors" and beside.is_file():
        where, text = str(beside), beside.read_text(encoding="utf-8", errors="replace")
    if text is None:
        return lambda name, rank: None
    try:
        config = json.loads(text)
        parts = _by_part(config) if isinstance(config, dict) else None
    except ValueError:
        parts = None
    if parts is None:
        raise ModelError(f"{where} is no JSON object; expected peft's LoraConfig; export the LoRA again")

    try:
        patterns = {root: _Patterns(settings.get("alpha_pattern") or {}) for root, settings in parts.items()}
    except (re.error, AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{where} has a broken alpha_pattern ({error}); export the LoRA again") from error

    def read(name: str, rank: int) -> float | None:
        bare = plain_name(name)
        root = next(
            (root for root in sorted(parts, key=len, reverse=True) if bare.startswith(f"{root}.")), ""
        )
        settings = parts.get(root, {})
        alpha = patterns[root].find(bare) if root in patterns else None
        alpha = settings.get("lora_alpha") if alpha is None else alpha
        if not isinstance(alpha, int | float) or isinstance(alpha, bool):
            return None
        return float(alpha) * (math.sqrt(rank) if settings.get("use_rslora") else 1.0)

    return read


def adapter_metadata(modules: Mapping[str, tuple[int, float, bool]]) -> str:
    """`lora_adapter_metadata` for dotted module names ("unet. ...") -> (rank, alpha, DoRA).

    Names stand without `text_model.`, since peft matches ends of paths and so finds them under every
    transformers. Numbers that all modules of a part share come first; the others are patterns.
    """
    fields: dict[str, Any] = {}
    for root in dict.fromkeys(name.partition(".")[0] for name in modules):
        own = {
            name.partition(".")[2].removeprefix("text_model."): value
            for name, value in modules.items()
            if name.partition(".")[0] == root
        }
        rank = Counter(rank for rank, _, _ in own.values()).most_common(1)[0][0]
        alpha = Counter(alpha for _, alpha, _ in own.values()).most_common(1)[0][0]
        settings = {
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {re.escape(name): r for name, (r, _, _) in own.items() if r != rank},
            "alpha_pattern": {re.escape(name): a for name, (_, a, _) in own.items() if a != alpha},
            "target_modules": list(own),
            "use_dora": any(dora for _, _, dora in own.values()),
        }
        fields |= {f"{root}.{key}": value for key, value in settings.items()}
    return json.dumps(fields, sort_keys=True)


def _by_part(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """diffusers' "unet.lora_alpha" -> {"unet": {"lora_alpha": ...}}; peft's own file under ""."""
    parts: dict[str, dict[str, Any]] = {}
    for key, value in config.items():
        root, _, field = key.rpartition(".")
        parts.setdefault(root, {})[field] = value
    return parts


class _Patterns:
    """Alphas by pattern, as peft's get_pattern_key: one matches the whole name or its end after a dot.

    Most patterns are names, which are looked up; to match hundreds of names with hundreds of expressions
    would take minutes.
    """

    def __init__(self, patterns: Mapping[str, Any]) -> None:
        self._names: dict[str, float] = {}
        self._expressions: list[tuple[re.Pattern[str], float]] = []
        for pattern, alpha in patterns.items():
            name = pattern.removeprefix("^").replace("\\.", ".").replace("\\_", "_")
            if re.fullmatch(r"[\w.]+", name):
                self._names[name] = float(alpha)
            else:
                expression = re.compile(rf"(.*\.)?({pattern.removeprefix('^')})$")
                self._expressions.append((expression, float(alpha)))

    def find(self, name: str) -> float | None:
        """The alpha of a module; None where no pattern matches."""
        words = name.split(".")
        for start in range(len(words)):
            alpha = self._names.get(".".join(words[start:]))
            if alpha is not None:
                return alpha
        return next((alpha for expression, alpha in self._expressions if expression.match(name)), None)
