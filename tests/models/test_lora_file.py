import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.errors import ModelError, OutputError
from pipeline.models import FAMILIES, lora_metadata, read_lora, write_lora

MINI = FAMILIES["mini"]
NAME = "lora_unet_mid_block_attentions_0_proj_in"


def make_state(rank: int = 2, alpha: float | None = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {
        f"{NAME}.lora_down.weight": torch.randn(rank, 6, 1, 1, generator=generator),
        f"{NAME}.lora_up.weight": torch.randn(5, rank, 1, 1, generator=generator),
    }
    if alpha is not None:
        state[f"{NAME}.alpha"] = torch.tensor(alpha)
    return state


def make_metadata() -> dict[str, str]:
    return lora_metadata(
        MINI, name="iris", rank=2, alpha=1.0, trigger="irisbot", tag_frequency={"iris": {"irisbot": 20}}
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "iris.safetensors"
    write_lora(path, make_state(), metadata=make_metadata())
    lora = read_lora(path)
    assert list(lora.modules) == [NAME]
    module = lora.modules[NAME]
    assert torch.equal(module.parts["down"], make_state()[f"{NAME}.lora_down.weight"])
    assert torch.equal(module.parts["up"], make_state()[f"{NAME}.lora_up.weight"])
    assert (module.kind, module.rank, module.alpha, lora.layout) == ("lora", 2, 1.0, "kohya")
    assert dict(lora.metadata).items() >= make_metadata().items()


def test_metadata_are_what_other_tools_look_for(tmp_path: Path) -> None:
    path = tmp_path / "iris.safetensors"
    write_lora(path, make_state(), metadata=make_metadata())
    with safe_open(path, "pt") as file:  # the format's own reader
        metadata = file.metadata()
    needed = (
        "ss_v2 ss_base_model_version ss_network_module ss_network_dim ss_network_alpha ss_network_args "
        "ss_output_name ss_tag_frequency sshs_model_hash modelspec.architecture modelspec.trigger_phrase"
    )
    assert set(needed.split()) <= set(metadata)
    assert metadata["modelspec.architecture"] == "lookdev-mini/lora"
    assert metadata["ss_network_dim"] == "2"
    assert json.loads(metadata["ss_tag_frequency"]) == {"iris": {"irisbot": 20}}
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    assert metadata["sshs_model_hash"] == hashlib.sha256(data[start:]).hexdigest()
    assert start % 8 == 0


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    write_lora(tmp_path / "a.safetensors", make_state(), metadata=make_metadata())
    shuffled = dict(reversed(make_metadata().items()))
    write_lora(tmp_path / "b.safetensors", dict(reversed(make_state().items())), metadata=shuffled)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_alpha_is_always_written_and_absent_means_rank(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_lora(path, make_state(alpha=None), metadata={})
    with safe_open(path, "pt") as file:
        assert float(file.get_tensor(f"{NAME}.alpha")) == 2.0
    save_file(make_state(alpha=None), path)
    assert read_lora(path).modules[NAME].alpha == 2.0


def test_a_wrong_write_is_our_own_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rank"):
        write_lora(tmp_path / "a", make_state(), metadata={"rank": 2})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="lora_A"):
        write_lora(tmp_path / "a", {"x.lora_A.weight": torch.zeros(1, 1)}, metadata={})
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        write_lora(tmp_path / "file" / "a.safetensors", make_state(), metadata={})
    assert "\n" not in str(caught.value)


def bad_files() -> dict[str, bytes]:
    from safetensors.torch import save

    whole = save(make_state())
    flipped = bytearray(whole)
    half = {key: tensor for key, tensor in make_state().items() if "up" not in key}
    narrow = make_state() | {f"{NAME}.lora_up.weight": torch.zeros(5, 3, 1, 1)}
    strange = make_state() | {f"{NAME}.diff_b": torch.ones(5)}
    flipped[-1] ^= 1
    return {
        "empty": b"",
        "cut short": whole[:-8],
        "not safetensors": b"hello, this is no safetensors file at all",
        "pickle": pickle.dumps({"a": 1}),
        "zip pickle": b"PK\x03\x04rest",
        "no up": save(half),
        "ranks differ": save(narrow),
        "no tensors' data": save(make_state())[:400],
        "zero size": save(make_state() | {f"{NAME}.lora_down.weight": torch.zeros(2, 0, 1, 1)}),
        "a web page": b"<html>log in</html>",
        "strange key": save(strange),
        "nan alpha": save(make_state(alpha=float("nan"))),
        "adapter metadata": save(make_state(alpha=None), {"lora_adapter_metadata": "[1"}),
        "no weights": save({}),
        "damaged": save(make_state(), {"sshs_model_hash": "0" * 64}),
    }


@pytest.mark.parametrize("kind", list(bad_files()))
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(bad_files()[kind])
    with pytest.raises(ModelError, match=r"bad\.safetensors") as caught:
        read_lora(path)
    assert "\n" not in str(caught.value)
    if "pickle" in kind:
        assert "pickle" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_names_its_key(tmp_path: Path, number: str, dtype: torch.dtype) -> None:
    path = tmp_path / "a.safetensors"
    state = {key: tensor.to(dtype) for key, tensor in make_state().items()}
    save_file(state, path)
    module = read_lora(path).modules[NAME]
    assert module.parts["up"].dtype == dtype  # as stored
    torch.testing.assert_close(module.delta(), module.delta().float())
    key = f"{NAME}.lora_up.weight"
    state[key] = state[key].clone()
    state[key][3, 1] = float(number)
    save_file(state, path)
    with pytest.raises(ModelError, match=rf"a\.safetensors: {key} holds nan or inf"):
        read_lora(path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_lora(tmp_path / "none.safetensors")


def test_a_bit_that_flips_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_lora(path, make_state(), metadata={})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="sshs_model_hash"):
        read_lora(path)
