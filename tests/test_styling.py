from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_shot import make_preset, make_shot

from pipeline import diffuse
from pipeline.errors import ModelError
from pipeline.plan import make_plan
from pipeline.preset import load_preset
from pipeline.shot import Shot
from pipeline.styling import Stylist, _is_out_of_memory, load_stylist, read_inputs

CONTROLS = '[[control]]\nkind = "depth"\n'
NUM_FRAMES = 4


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=NUM_FRAMES)


@pytest.fixture
def stylist(shot: Shot, random_model: Path, tmp_path: Path) -> Stylist:
    preset = load_preset(make_preset(tmp_path / "p.toml", random_model, extra=CONTROLS))
    return load_stylist(make_plan(shot, preset), device="cpu")


def test_a_cpu_takes_the_familys_number_of_frames(stylist: Stylist, shot: Shot, random_model: Path) -> None:
    assert stylist.plan.batch == 2 and stylist.most == 4


def limited(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the diffusion run out of memory above `most` frames, as torch says it; the counts it was given."""
    whole, counts = diffuse.img2img, []

    def img2img(model: Any, frames: Any, *rest: Any, **more: Any) -> Any:
        counts.append(len(frames))
        if len(frames) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return whole(model, frames, *rest, **more)

    monkeypatch.setattr(diffuse, "img2img", img2img)
    return counts


def test_out_of_memory_halves_the_frames_and_goes_on(
    stylist: Stylist, shot: Shot, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = read_inputs(shot, stylist.plan, 0, NUM_FRAMES)
    alone = np.concatenate([stylist.style([t], inputs.part(t, t + 1)) for t in range(NUM_FRAMES)])
    counts = limited(1, monkeypatch)
    np.testing.assert_array_equal(stylist.style(range(NUM_FRAMES), inputs), alone)
    assert counts == [4, 2, 1, 1, 1, 1]
    assert stylist.most == 1
    counts.clear()
    np.testing.assert_array_equal(stylist.style(range(NUM_FRAMES), inputs), alone)
    assert counts == [1, 1, 1, 1] and len(stylist.notes) == 2  # it does not run into the wall again
    assert stylist.notes[0] == "memory ran out with 4 frames at once; 2 from here on"


def test_one_frame_too_many_tries_tiles_and_then_says_so(
    stylist: Stylist, shot: Shot, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = limited(0, monkeypatch)
    with pytest.raises(ModelError, match="64x64: not even one frame fits into memory; make size smaller"):
        stylist.style([0], read_inputs(shot, stylist.plan, 0, 1))
    assert counts == [1, 1] and stylist.model.vae.use_tiling
    assert stylist.notes == ["memory ran out with one frame; the VAE works in tiles from here on"]


def test_numbers_that_overflow_are_one_line(stylist: Stylist, shot: Shot) -> None:
    stylist.model.unet.conv_out.bias.data.fill_(float("inf"))
    with pytest.raises(ModelError, match=r"frames 1 to 1: the model gave numbers that are not finite"):
        stylist.style([0], read_inputs(shot, stylist.plan, 0, 1))


def test_the_precision_asked_for(shot: Shot, stylist: Stylist) -> None:
    half = load_stylist(stylist.plan, device="cpu", precision="bf16")
    assert half.model.dtype == torch.bfloat16 and half.model.controlnets["depth"].dtype == torch.bfloat16
    inputs = read_inputs(shot, stylist.plan, 0, 1)
    far = np.abs(half.style([0], inputs).astype(int) - stylist.style([0], inputs))
    assert 0 < far.mean() < 8  # another rounding of the same picture


def test_a_device_that_is_not_here_is_one_line(stylist: Stylist) -> None:
    for name in ("abacus", "xpu:7"):
        with pytest.raises(ModelError, match=f"device '{name}' is not here"):
            load_stylist(stylist.plan, device=name)


def test_a_cpu_says_in_words_that_memory_ran_out() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert _is_out_of_memory(caught.value)
    assert not _is_out_of_memory(RuntimeError("shapes do not fit"))


def test_frames_together_that_do_not_fit_keep_their_anchor(stylist: Stylist, shot: Shot) -> None:
    """The first heads each part again, so it comes out the same, and none is left alone."""
    inputs = read_inputs(shot, stylist.plan, 0, NUM_FRAMES)
    whole = stylist.style(range(NUM_FRAMES), inputs, together=True)
    tight = replace(stylist, most_together=2)
    parts = tight.style(range(NUM_FRAMES), inputs, together=True)
    assert len(parts) == NUM_FRAMES
    np.testing.assert_allclose(parts[:2].astype(int), whole[:2].astype(int), atol=1)
    alone = stylist.style([NUM_FRAMES - 1], inputs.part(NUM_FRAMES - 1, NUM_FRAMES))
    assert (parts[-1] != alone[0]).any()  # it has looked at another
