"""Per-shot presets: TOML files that extend one another, read into a strict schema."""

from pipeline.preset.chain import find_preset
from pipeline.preset.new import write_new
from pipeline.preset.prompt import fill
from pipeline.preset.read import DEFAULT_PRESET, PICTURES_PRESET, load_preset
from pipeline.preset.schema import Control, Lora, Output, Preset, Temporal
from pipeline.preset.show import as_toml, json_schema

__all__ = [
    "DEFAULT_PRESET",
    "PICTURES_PRESET",
    "Control",
    "Lora",
    "Output",
    "Preset",
    "Temporal",
    "as_toml",
    "fill",
    "find_preset",
    "json_schema",
    "load_preset",
    "write_new",
]
