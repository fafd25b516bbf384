"""Files written tensor by tensor are what safetensors itself would have written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from pipeline.models.sealed import HASH_KEY, header_length, write_sealed

STATE = {
    "b": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
    "a": torch.randn(2, 7, generator=torch.Generator().manual_seed(1)).T,  # not contiguous
    "alpha": torch.tensor(2.0),
    "half": torch.linspace(-1, 1, 9, dtype=torch.float16),
    "brain": torch.linspace(-1, 1, 3, dtype=torch.bfloat16),
    "eighth": torch.linspace(-1, 1, 5).to(torch.float8_e4m3fn),
    "ids": torch.arange(77)[None],
    "mark": torch.zeros(0),
    "yes": torch.tensor([True, False, True]),
}


def test_the_body_is_safetensors_own_and_the_hash_is_of_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_sealed(path, STATE, {"title": "Größe", "format": "pt"})
    data = path.read_bytes()
    body = data[header_length(data) :]
    own = save({name: tensor.contiguous() for name, tensor in STATE.items()})
    assert len(body) == len(own) - header_length(own)
    assert header_length(data) % 8 == 0
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata == {"title": "Größe", "format": "pt", HASH_KEY: hashlib.sha256(body).hexdigest()}
    loaded = load_file(path)
    assert loaded.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name].float(), tensor.float())
    singles = {name: STATE[name].contiguous() for name in ("a", "b", "alpha")}
    write_sealed(path, singles, {})
    ours, theirs = path.read_bytes(), save(singles)
    assert ours[header_length(ours) :] == theirs[header_length(theirs) :]


def test_numbers_are_rounded_by_name_and_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    state = {name: STATE[name] for name in ("b", "a", "ids")}

    def dtype_of(name: str) -> torch.dtype | None:
        return None if name == "a" else torch.float16

    write_sealed(first, state, {"x": "1", "y": "2"}, dtype_of=dtype_of)
    write_sealed(second, dict(reversed(state.items())), {"y": "2", "x": "1"}, dtype_of=dtype_of)
    assert first.read_bytes() == second.read_bytes()
    loaded = load_file(first)
    assert torch.equal(loaded["b"], STATE["b"].half()) and torch.equal(loaded["a"], STATE["a"])
    assert loaded["ids"].dtype == torch.int64
