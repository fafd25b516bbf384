"""Latents and text embeddings kept on disk beside the output, by digest: a second start computes none anew.

A key says all that the value depends on: the model's weights, where and in what it computed, and the pixels
or the words. So a changed image, caption or model is another key, and nothing old is ever taken for new.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipeline.files import write_bytes
from pipeline.image import UInt8Array

log = logging.getLogger(__name__)


@dataclass
class Cache:
    """Tensors by key; `save` writes those that were asked for or put in this run, and drops the others."""

    path: Path | None
    model: str  # digest of the weights, device and dtype
    known: dict[str, Tensor] = field(default_factory=dict)  # on the CPU
    used: set[str] = field(default_factory=set)
    changed: bool = False

    @classmethod
    def empty(cls) -> Cache:
        """One that lives in memory alone."""
        return cls(path=None, model="")

    @classmethod
    def open(cls, path: Path, *, model: str) -> Cache:
        """What is on disk; nothing where there is no file or a damaged one."""
        if not path.is_file():
            return cls(path, model)
        try:
            return cls(path, model, dict(safetensors.torch.load_file(path)))
        except (OSError, SafetensorError) as error:
            log.warning("%s: not readable (%s); encoding anew", path, error)
            return cls(path, model)

    def image_key(self, image: UInt8Array) -> str:
        """The key of an image's latents."""
        return self._key("latent", repr(image.shape).encode() + image.tobytes())

    def text_key(self, part: str, text: str) -> str:
        """The key of one part ("tokens", "pooled") of what a text says."""
        return self._key(part, text.encode())

    def get(self, key: str) -> Tensor | None:
        """The tensor of a key, on the CPU; None where there is none."""
        found = self.known.get(key)
        if found is not None:
            self.used.add(key)
        return found

    def put(self, key: str, value: Tensor) -> None:
        """Keep a tensor."""
        self.known[key] = value.detach().cpu().contiguous()
        self.used.add(key)
        self.changed = True

    def save(self) -> None:
        """Write what this run used, whole or not at all. Raises `OutputError`."""
        if self.path is None or not (self.changed or self.used != set(self.known)):
            return
        self.known = {key: self.known[key] for key in sorted(self.used)}
        write_bytes(self.path, safetensors.torch.save(self.known))
        self.changed = False

    def _key(self, kind: str, content: bytes) -> str:
        return f"{kind}.{hashlib.sha256(self.model.encode() + b'|' + content).hexdigest()}"
