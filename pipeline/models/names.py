"""LoRA module names: kohya's flat keys <-> this process' modules.

A kohya name is a prefix and the module's path with `.` replaced by `_`. Paths are canonical: no `base_layer`
of a peft wrapper, and the text encoder's always with the inner `text_model.` that transformers >= 5.6
dropped.
"""

from __future__ import annotations

from torch import nn

UNET_PREFIX = "lora_unet_"
TEXT_PREFIX = "lora_te_"
_INNER = "text_model."
_PEFT_PARTS = ("lora_A", "lora_B", "lora_dropout", "lora_embedding_A", "lora_embedding_B")


def bare_text_name(name: str) -> str:
    """A text-encoder name without `text_model.`, as transformers >= 5.6 has it."""
    return name.removeprefix(_INNER)


def kohya_name(path: str, *, text: bool) -> str:
    """The kohya module name of a module path in the UNet, or with `text` in the text encoder."""
    path = path.removesuffix(".base_layer")
    if text:
        return TEXT_PREFIX + (_INNER + bare_text_name(path)).replace(".", "_")
    return UNET_PREFIX + path.replace(".", "_")


def lora_targets(unet: nn.Module, text_encoder: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """Every layer a LoRA may change, by kohya name: where it is and the layer, Linear or Conv2d.

    Where is "unet.<path>" or "text_encoder.<path>". A peft wrapper stands under its original name,
    with the layer that it wraps.
    """
    found: dict[str, tuple[str, nn.Module]] = {}
    for root, module, text in (("unet", unet, False), ("text_encoder", text_encoder, True)):
        for path, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and not _is_peft(path, layer):
                found[kohya_name(path, text=text)] = (f"{root}.{path}", layer)
    return found


def _is_peft(path: str, layer: nn.Module) -> bool:
    return hasattr(layer, "base_layer") or any(part in _PEFT_PARTS for part in path.split("."))
