"""Whether a LoRA file is for a family of models: by what it says, and by its tensors. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pipeline.errors import ModelError
from pipeline.models.detect import KIND_TITLES, family_of, family_title, kind_of
from pipeline.models.families import FAMILIES, Family
from pipeline.models.header import Header

# kohya's sd-scripts (sd_v1, sdxl_base_v1-0), stability's model spec (stable-diffusion-xl-v1-base/lora), other
# trainers and model sites ("SD 1.5", sd_1.5) name the base model in these.
SAID_KEYS = ("modelspec.architecture", "ss_base_model_version")
# Bases that no row of FAMILIES is for, as families' `lora_base` has them; looked at first, since the
# refiner's name holds SDXL's.
_OTHER_BASES: Mapping[str, str] = {
    "sdxl_refiner": r"\b(sdxl|stable diffusion xl)\b.*\brefiner",
    "sd2": r"\b(sd|stable diffusion) ?v? ?2([01 ]|$)",
    "sd3": r"\b(sd|stable diffusion) ?v? ?3",
    "flux": r"\bflux",
}


def family_said(text: str) -> str | None:
    """The family that a base model's name in metadata means; None for a name that is not known.

    One of FAMILIES, or another that `detect.family_title` knows. Names of fine-tunes ("pony") are not known:
    they tell little of the shapes, which the tensors show.
    """
    words = re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()
    bases = {**_OTHER_BASES, **{row.name: row.lora_base for row in FAMILIES.values()}}
    return next((name for name, pattern in bases.items() if re.search(pattern, words)), None)


def check_lora_family(header: Header, family: Family, *, where: str) -> None:
    """Refuse a file that is no LoRA, or one for another family; `where` names the file.

    A file is for another family where its metadata name one that is known, or where its cross-attention
    reads another width of text. One that tells neither passes: what its tensors fit is seen when it is
    placed. Raises ModelError, one line that names both families.
    """
    kind = kind_of(header)
    if kind != "lora":
        raise ModelError(f"{where}: is {KIND_TITLES[kind]}; expected a LoRA in safetensors format")
    for found, reason in _signs(header):
        if found != family.name:
            raise ModelError(
                f"{where}: made for another model ({reason}), {family_title(found)}; model '{family.name}' "
                f"is {family.title}: choose a LoRA of this model, or its model"
            )


def _signs(header: Header) -> Iterator[tuple[str, str]]:
    """(family, why) for everything in a file that tells its family."""
    for key in SAID_KEYS:
        text = header.metadata.get(key, "")
        said = family_said(text)
        if said is not None:
            yield said, f"{key} is '{text}'"
    built = family_of(header)
    if built is not None:
        yield built, "by the shapes of its tensors"
