"""LoRA module names: kohya's flat keys <-> this process' modules.

A kohya name is a prefix and the module's path with `.` replaced by `_`. Paths are canonical: no `base_layer`
of a peft wrapper, and the text encoder's always with the inner `text_model.` that transformers >= 5.6
dropped.
"""

from __future__ import annotations

UNET_PREFIX = "lora_unet_"
TEXT_PREFIX = "lora_te_"
_INNER = "text_model."


def bare_text_name(name: str) -> str:
    """A text-encoder name without `text_model.`, as transformers >= 5.6 has it."""
    return name.removeprefix(_INNER)


def kohya_name(path: str, *, text: bool) -> str:
    """The kohya module name of a module path in the UNet, or with `text` in the text encoder."""
    path = path.removesuffix(".base_layer")
    if text:
        return TEXT_PREFIX + (_INNER + bare_text_name(path)).replace(".", "_")
    return UNET_PREFIX + path.replace(".", "_")
