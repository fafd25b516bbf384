"""What decides the pixels of each frame, as a digest: what a change touches is redone, and nothing else.

Method "frame": a frame depends on its own files, look and seed, and on how many frames share its forward pass
(a CPU's sums round differently with another number). Method "blend": also on every frame before it. Any other
method: each frame on all of the shot. A key of method "keys" depends on the keys that share its pass.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.plan.values import Plan

LENGTH = 20  # hexadecimal places kept of a sha256: 80 bits

Parts = Sequence[Any]  # one JSON value a frame


def frame_digests(method: str, shared: str, parts: Parts) -> tuple[str, ...]:
    """One digest a frame. `shared`: the digest of what all frames depend on; `parts`: of each frame alone."""
    return _DEPENDS.get(method, _on_all)(shared, parts)


def _on_itself(shared: str, parts: Parts) -> tuple[str, ...]:
    return tuple(_short([shared, part]) for part in parts)


def _on_those_before(shared: str, parts: Parts) -> tuple[str, ...]:
    digests: list[str] = []
    for part in parts:
        digests.append(_short([digests[-1] if digests else shared, part]))
    return tuple(digests)


def _on_all(shared: str, parts: Parts) -> tuple[str, ...]:
    whole = _short([shared, list(parts)])
    return tuple(whole for _ in parts)


_DEPENDS: Mapping[str, Callable[[str, Parts], tuple[str, ...]]] = MappingProxyType(
    {"frame": _on_itself, "blend": _on_those_before}
)


def key_digest(plan: Plan, group: Sequence[int], *, keys: Sequence[int]) -> str:
    """Of what decides the styled keys of a `group` that shares a pass; `keys`: all of their stretch."""
    alone = plan.alone_digests
    noise: Any = None
    if plan.key_noise == "mirrored":  # every other key's is turned over
        noise = [keys.index(key) % 2 for key in group]
    elif plan.key_noise == "carried":  # along the way from the first key, from key to key
        last = group[-1]
        noise = [[key - keys[0] for key in keys if key <= last], alone[keys[0] : last + 1]]
    return _short([plan.key_noise, [alone[key] for key in group], noise])


def sha256_of(value: object) -> str:
    """sha256 of a JSON value as hex; the order of keys makes no difference."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8")).hexdigest()


def _short(value: object) -> str:
    return sha256_of(value)[:LENGTH]
