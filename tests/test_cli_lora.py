"""`lookdev lora`, command by command: what it prints, what it leaves, how it refuses."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from lora_samples import kohya_layers, make_pairs, write_pairs
from safetensors.torch import load_file, save, save_file

from pipeline.cli import main
from pipeline.models.lora_layers import family_names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    layers = kohya_layers(family_names("sd15").layers.values(), text=True)
    return write_pairs("kohya", "sd15", make_pairs(layers, rank=2), tmp_path / "iris.safetensors")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["lora", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_info_and_verify(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "info", file)
    assert code == 0
    for text in ("sd15", "kohya", "UNet (192), text_encoder (72)", "LoRA (264)"):
        assert text in out
    code, out, _ = run(capsys, "verify", file)
    assert code == 0
    assert out.count("792 of 792") == 5


def test_convert_merge_resize(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peft, back = tmp_path / "peft.safetensors", tmp_path / "back.safetensors"
    assert run(capsys, "convert", file, peft, "--to", "peft")[0] == 0
    assert run(capsys, "convert", peft, back, "--to", "kohya")[0] == 0
    one, two = load_file(file), load_file(back)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    both = tmp_path / "both.safetensors"
    code, out, _ = run(capsys, "merge", f"{file}:0.5", peft, "--out", both)
    assert code == 0
    assert "all of the change kept" in out
    small = tmp_path / "small.safetensors"
    code, out, _ = run(capsys, "resize", both, small, "--rank", "1")
    assert code == 0
    assert "% of the change kept" in out
    assert {t.shape[0] for k, t in load_file(small).items() if k.endswith("lora_down.weight")} == {1}


def one_line(result: tuple[int, str, str], *says: str) -> None:
    code, _, err = result
    assert code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for text in says:
        assert text in err


NAME = "lora_unet_mid_block_attentions_0_proj_in"
COMMANDS = [("info",), ("verify",), ("convert", "OUT", "--to", "peft"), ("resize", "OUT", "--rank", "1")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_bad_file_is_one_line(
    command: tuple[str, ...], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(file)
    nan = state | {f"{NAME}.lora_up.weight": torch.full((1280, 2, 1, 1), float("nan"))}
    files = {
        "truncated": (save(state)[:-100], "is cut short"),
        "text": (b"hello, this is no LoRA, it is a note", "is no safetensors"),
        "pickle": (pickle.dumps({"a": 1}), "pickle"),
        "nan": (save(nan), f"{NAME}.lora_up.weight holds nan or inf"),
        "checkpoint": (save({"model.diffusion_model.out.2.weight": torch.zeros(2)}), "are no LoRA keys"),
        "missing": (None, "No such file"),
    }
    for kind, (data, says) in files.items():
        path = tmp_path / f"{kind}.safetensors"
        if data is not None:
            path.write_bytes(data)
        arguments = [tmp_path / "out.safetensors" if part == "OUT" else part for part in command[1:]]
        one_line(run(capsys, command[0], path, *arguments), path.name, says)
        assert not (tmp_path / "out.safetensors").exists()


def test_a_renamed_key_is_named(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "odd.safetensors"
    save_file({key.replace(f"{NAME}.", f"{NAME}n."): tensor for key, tensor in load_file(file).items()}, odd)
    code, out, err = run(capsys, "verify", odd)
    assert code == 2
    for program in ("lookdev", "kohya", "A1111", "ComfyUI", "diffusers"):
        for part in ("alpha", "lora_down.weight", "lora_up.weight"):
            assert f"{program}: {NAME}n.{part}" in out
    assert err.count("\n") == 1
    assert f"{NAME}n" in err
    one_line(run(capsys, "convert", odd, tmp_path / "x", "--to", "peft"), f"{NAME}n")
    one_line(run(capsys, "merge", odd, "--out", tmp_path / "x"), f"{NAME}n")
    one_line(run(capsys, "resize", odd, tmp_path / "x", "--rank", "1"), f"{NAME}n")
    assert not (tmp_path / "x").exists()


def test_another_models_lora_is_one_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_line(
        run(capsys, "convert", file, tmp_path / "x", "--to", "peft", "--model", "mini"), "made for another"
    )
    assert run(capsys, "verify", file, "--model", "mini")[0] == 2
    one_line(run(capsys, "verify", file, "--model", "nothing"), "'nothing'")


def test_arguments_that_cannot_be_meant(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_line(run(capsys, "resize", file, file, "--rank", "1"), "is the input")
    one_line(run(capsys, "merge", f"{file}:much", "--out", tmp_path / "x"), "'much' is no number")
    one_line(run(capsys, "merge", f"{file}:nan", "--out", tmp_path / "x"), "'nan' is no number")
