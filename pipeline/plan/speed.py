"""The LoRA file that a preset's speed needs for the model's family."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ModelError, PresetError
from pipeline.models.families import Family
from pipeline.models.hub import hub_file
from pipeline.preset import MERGED, SPEEDS, HubFile, Preset


def speed_file(preset: Preset, family: Family, *, offline: bool) -> tuple[Path, str] | None:
    """The file and where it was asked for; None where the speed needs none.

    `speed_lora` names it or says that the checkpoint has it in; else it comes from the hub's cache, or from
    the hub unless `offline`. Raises PresetError for a family that the speed is not for and for a file that is
    not there.
    """
    if preset.speed not in SPEEDS:  # quality
        return None
    where = preset.where("speed")
    files = SPEEDS[preset.speed].loras
    if family.name not in files:
        raise PresetError(
            f"{where}: found '{preset.speed}', for which model '{family.name}' has no LoRA; it is for "
            f'{", ".join(files)}; set speed = "quality"'
        )
    if preset.speed_lora == MERGED:
        return None
    if isinstance(preset.speed_lora, Path):
        at = preset.where("speed_lora")
        if not preset.speed_lora.is_file():
            raise PresetError(
                f'{at}: found no file {preset.speed_lora}; mend the path, or write "{MERGED}" where the '
                "checkpoint has it in"
            )
        return preset.speed_lora, at
    file = files[family.name]
    return None if file is None else (_from_hub(file, preset, where, offline=offline), where)


def _from_hub(file: HubFile, preset: Preset, where: str, *, offline: bool) -> Path:
    try:
        return hub_file(file.repo, file.filename, offline=offline)
    except ModelError as error:
        raise PresetError(
            f"{where}: '{preset.speed}' needs a LoRA: {error}; download it there and set speed_lora = "
            f'"path/to/{file.filename}"'
        ) from None
