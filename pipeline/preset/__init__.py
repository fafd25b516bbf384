"""Per-shot presets: a TOML file read into a strict schema."""

from pipeline.preset.prompt import fill
from pipeline.preset.read import DEFAULT_PRESET, PICTURES_PRESET, find_preset, load_preset
from pipeline.preset.schema import Control, Lora, Output, Preset, Temporal

__all__ = [
    "DEFAULT_PRESET",
    "PICTURES_PRESET",
    "Control",
    "Lora",
    "Output",
    "Preset",
    "Temporal",
    "fill",
    "find_preset",
    "load_preset",
]
