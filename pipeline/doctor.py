"""Is everything here that a render needs? Versions, device, memory, disk, weights, ffmpeg."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.families import FAMILIES

PACKAGES = (
    "lookdev",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "controlnet-aux",
    "opencv-python",
    "OpenEXR",
    "numpy",
    "pydantic",
    "matplotlib",
)
# The miniature trains and renders in less than 3 GB; a 48-frame shot's frames and video take some 5 MB.
MEMORY_WANTED = 4 << 30
DISK_WANTED = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the health table. `needed`: nothing works without it. `advice` is for when it is not ok."""

    what: str
    found: str
    ok: bool
    advice: str = ""
    needed: bool = True


def examine(folder: Path) -> list[Finding]:
    """Look at this machine; `folder` is where results would go (for the free space). Imports torch."""
    checks: tuple[Callable[[], list[Finding]], ...] = (
        _python,
        _packages,
        _device,
        _memory,
        lambda: _disk(folder),
        _ffmpeg,
        _weights,
        _siblings,
    )
    return [finding for check in checks for finding in check()]


def _python() -> list[Finding]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [Finding("Python", found, sys.version_info >= (3, 11), "install Python 3.11 or newer")]


def _packages() -> list[Finding]:
    findings = []
    for name in PACKAGES:
        try:
            findings.append(Finding(name, importlib.metadata.version(name), ok=True))
        except importlib.metadata.PackageNotFoundError:
            advice = f"pip install {name}" if name != "lookdev" else "pip install -e . in the repository"
            findings.append(Finding(name, "not installed", ok=False, advice=advice))
    return findings


def _device() -> list[Finding]:
    try:
        import torch
    except ImportError as error:
        return [Finding("device", f"torch does not load ({error})", ok=False, advice="pip install torch")]
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        return [Finding("device", f"CUDA: {name}", ok=True)]
    return [Finding("device", f"CPU, {torch.get_num_threads()} threads (no accelerator found)", ok=True)]


def _memory() -> list[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{_gigabytes(memory.available)} free of {_gigabytes(memory.total)}"
    return [Finding("memory", found, memory.available >= MEMORY_WANTED, "close other programs", needed=False)]


def _disk(folder: Path) -> list[Finding]:
    place = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())
    usage = shutil.disk_usage(place)
    found = f"{_gigabytes(usage.free)} free at {place}"
    return [Finding("disk", found, usage.free >= DISK_WANTED, "free some space", needed=False)]


def _ffmpeg() -> list[Finding]:
    try:
        import imageio_ffmpeg

        found = f"{imageio_ffmpeg.get_ffmpeg_version()}, {imageio_ffmpeg.get_ffmpeg_exe()}"
    except (ImportError, RuntimeError) as error:  # RuntimeError: the package found no binary
        return [Finding("ffmpeg", f"none ({error})", ok=False, advice="pip install imageio-ffmpeg")]
    return [Finding("ffmpeg", found, ok=True)]


def _weights() -> list[Finding]:
    findings = []
    for family in FAMILIES.values():
        if family.folder is None:
            continue
        parts = ("unet", "vae", "text_encoder", *(f"controlnet_{kind}" for kind in family.control_kinds))
        missing = [part for part in parts if not list((family.folder / part).glob("*.safetensors"))]
        size = sum(file.stat().st_size for file in family.folder.rglob("*.safetensors"))
        found = f"no {', '.join(missing)}" if missing else f"{size / 1e6:.0f} MB in {family.folder}"
        advice = "python -m samples.miniature.train, or check out the committed weights"
        findings.append(Finding(f"model '{family.name}'", found, ok=not missing, advice=advice))
    return findings


def _siblings() -> list[Finding]:
    findings = []
    for name, use in (("training", "lookdev train"), ("samples", "lookdev demo")):
        here = importlib.util.find_spec(name) is not None
        advice = f"{use} needs the repository: pip install -e . there"
        found = "there" if here else "not there"
        findings.append(Finding(f"{name}/", found, here, advice, needed=False))
    return findings


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f} GiB"
