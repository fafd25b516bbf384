"""Per-shot presets: TOML files that extend one another, read into a strict schema."""

from pipeline.preset.beats import Look, RegionLook, resolve_looks, steady_looks
from pipeline.preset.chain import find_preset
from pipeline.preset.new import write_new
from pipeline.preset.ranges import turning_points
from pipeline.preset.read import DEFAULT_PRESET, PICTURES_PRESET, load_preset
from pipeline.preset.reading import Mix, region_uses_view, texts_of, unused_variables, uses_view
from pipeline.preset.sampling import SCHEDULERS, SPEEDS, WEB_NAMES, HubFile, Speed
from pipeline.preset.schema import Beat, Preset
from pipeline.preset.show import as_toml, json_schema
from pipeline.preset.speed import set_by_speed, speed_notes
from pipeline.preset.tables import MERGED, Control, Embedding, Lora, Output, Region, Steering, Temporal, Views
from pipeline.preset.views import face_angle, name_views

__all__ = [
    "DEFAULT_PRESET",
    "MERGED",
    "PICTURES_PRESET",
    "SCHEDULERS",
    "SPEEDS",
    "WEB_NAMES",
    "Beat",
    "Control",
    "Embedding",
    "HubFile",
    "Look",
    "Lora",
    "Mix",
    "Output",
    "Preset",
    "Region",
    "RegionLook",
    "Speed",
    "Steering",
    "Temporal",
    "Views",
    "as_toml",
    "face_angle",
    "find_preset",
    "json_schema",
    "load_preset",
    "name_views",
    "region_uses_view",
    "resolve_looks",
    "set_by_speed",
    "speed_notes",
    "steady_looks",
    "texts_of",
    "turning_points",
    "unused_variables",
    "uses_view",
    "write_new",
]
