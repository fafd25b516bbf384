"""The header of a safetensors file, against the safetensors library and against broken files."""

import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from header_files import write_header
from safetensors.torch import save, save_file

from pipeline.errors import ModelError
from pipeline.models.header import MAX_HEADER, TensorEntry, read_header


def one_line(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_header(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_it_reads_what_the_library_writes(tmp_path: Path) -> None:
    state = {
        "half": torch.zeros(2, 3, dtype=torch.float16),
        "brain": torch.zeros(4, dtype=torch.bfloat16),
        "single": torch.zeros(1, 2, 3, 3),
        "scalar": torch.tensor(1.0),
        "none": torch.zeros(0, 4),
        "eight": torch.zeros(5, dtype=torch.float8_e4m3fn),
        "ids": torch.zeros(1, 77, dtype=torch.int64),
        "on": torch.zeros(3, dtype=torch.bool),
    }
    save_file(state, tmp_path / "a.safetensors", {"ss_network_dim": "8"})
    header = read_header(tmp_path / "a.safetensors")
    assert header.path == tmp_path / "a.safetensors"
    assert header.metadata == {"ss_network_dim": "8"}
    assert {name: entry.shape for name, entry in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in state.items()
    }
    assert header.tensors["half"] == TensorEntry("F16", (2, 3))
    assert {name: entry.dtype for name, entry in header.tensors.items()} == {
        "half": "F16",
        "brain": "BF16",
        "single": "F32",
        "scalar": "F32",
        "none": "F32",
        "eight": "F8_E4M3",
        "ids": "I64",
        "on": "BOOL",
    }


def test_a_file_without_metadata_or_tensors(tmp_path: Path) -> None:
    save_file({}, tmp_path / "a.safetensors")
    header = read_header(tmp_path / "a.safetensors")
    assert header.tensors == {} and header.metadata == {}


def test_a_good_file_whose_first_bytes_look_like_a_pickle(tmp_path: Path) -> None:
    """A header of 0x280 bytes begins with b"\\x80\\x02", as a pickle does."""
    text = json.dumps({"w": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}).encode().ljust(0x280)
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    assert read_header(tmp_path / "a.safetensors").tensors == {"w": TensorEntry("U8", (0,))}


def test_missing_and_folder(tmp_path: Path) -> None:
    assert "No such file" in one_line(tmp_path / "a.safetensors")
    assert "Is a directory" in one_line(tmp_path)


def test_pickles_are_named(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3)}, tmp_path / "a.safetensors")
    assert "is a pickle, which can run code" in one_line(tmp_path / "a.safetensors")
    torch.save({"w": torch.zeros(3)}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert "is a pickle" in one_line(tmp_path / "old.ckpt")
    for protocol in range(2, 6):
        (tmp_path / "p.pt").write_bytes(pickle.dumps({"w": 1}, protocol=protocol))
        assert "is a pickle" in one_line(tmp_path / "p.pt")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"\x01", "is no safetensors file"),
        (b"\0" * 64, "is no safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs pointer"),
        (b"\n<!DOCTYPE html><html></html>", "web page"),
        (b"GGUF" + bytes(60), "GGUF"),
        (b'{"_class_name": "ControlNetModel"}', "JSON file"),
        (struct.pack("<Q", MAX_HEADER + 1) + b"{", f"claims {MAX_HEADER + 1} bytes"),
        (struct.pack("<Q", 1000) + b"{}", "cut short"),
        (struct.pack("<Q", 4) + b"{nil", "header is damaged"),
        (struct.pack("<Q", 3) + b"{\xff}", "header is damaged"),
        (struct.pack("<Q", 20) + b'{"__metadata__":[1]}', "damaged (metadata)"),
    ],
)
def test_what_is_no_safetensors_is_one_line(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    assert expected in one_line(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": [2], "data_offsets": [0, 3]},
        {"dtype": "F16", "shape": [-2], "data_offsets": [0, -4]},
        {"dtype": "F16", "shape": [2], "data_offsets": [0]},
        {"dtype": "F16", "shape": [2.0], "data_offsets": [0, 4]},
        {"dtype": ["F16"], "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": "22", "data_offsets": [0, 8]},
    ],
)
def test_a_damaged_entry_names_its_tensor(tmp_path: Path, entry: object) -> None:
    text = json.dumps({"some.weight": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    assert "damaged at tensor 'some.weight'" in one_line(tmp_path / "a.safetensors")


def test_every_cut_is_seen(tmp_path: Path) -> None:
    """A download may break off anywhere."""
    data = save({"a": torch.zeros(3), "b": torch.zeros(2, 2)})
    path = tmp_path / "a.safetensors"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        one_line(path)
    path.write_bytes(data)
    read_header(path)
    path.write_bytes(data + b"\0")
    assert "1 bytes after its last tensor" in one_line(path)


def test_gaps_and_overlaps(tmp_path: Path) -> None:
    for second in ([3, 5], [1, 3]):
        fields = {
            "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
            "b": {"dtype": "U8", "shape": [2], "data_offsets": second},
        }
        text = json.dumps(fields).encode()
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(second[1]))
        assert "gaps or overlap" in one_line(tmp_path / "a.safetensors")


def test_a_cut_large_file_says_how_much_is_there(tmp_path: Path) -> None:
    path = write_header(tmp_path / "a.safetensors", {"w": (1000, 1000)})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1_500_000)
    assert "cut short (500000 of 2000000 bytes" in one_line(path)


def test_no_torch_is_loaded() -> None:
    code = "import sys, pipeline.models.header, pipeline.models.detect; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
