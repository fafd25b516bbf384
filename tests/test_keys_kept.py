"""A change styles the keys again that depend on it, and no others; the end is as from nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_shot import make_preset, make_shot

from pipeline.image import read_image, write_png
from pipeline.preset import load_preset
from pipeline.render import RenderResult, render_shot
from pipeline.shot import open_shot

NUM_FRAMES = 30
EXTRA = 'key_every = 4\nnoise = "{noise}"'


def render(root: Path, out: str, *settings: str) -> RenderResult:
    preset = load_preset(root / "p.toml", overrides=("size=[32,32]", "steps=2", *settings))
    return render_shot(open_shot(root / "shot"), preset, root / out)


def results(result: RenderResult) -> dict[str, bytes]:
    folder = result.record.parent
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def num_styled(result: RenderResult) -> float:
    """Frames' worth of pixels: keys, and crops of holes, which are made with the frames."""
    styled: float = json.loads(result.record.read_text())["denoised"] * NUM_FRAMES
    return styled


@pytest.mark.parametrize("noise", ["fresh", "carried"])
def test_a_picture_that_changes_styles_its_own_pass_again(
    tmp_path: Path, random_model: Path, noise: str
) -> None:
    make_shot(tmp_path / "shot", num_frames=NUM_FRAMES)
    make_preset(tmp_path / "p.toml", random_model, method="keys", extra=EXTRA.format(noise=noise))
    whole = render(tmp_path, "out")
    keys = sorted(path.name for path in (whole.record.parent / "keys").glob("key.*.png"))
    styled = num_styled(whole)
    assert styled > len(keys) >= 8  # in three passes at least, the anchor in each
    before = {name: (whole.record.parent / "keys" / name).stat().st_mtime_ns for name in keys}

    last = tmp_path / "shot" / "rgb" / f"rgb.{NUM_FRAMES:04d}.png"
    write_png(last, read_image(last) // 2)
    again = render(tmp_path, "out")
    assert results(again) == results(render(tmp_path, "fresh"))
    after = {path.name: path.stat().st_mtime_ns for path in (again.record.parent / "keys").glob("key.*.png")}
    same = [name for name in keys if after[name] == before[name]]
    assert same == keys[: len(same)] and len(same) >= 4 and keys[-1] not in same
    assert num_styled(again) < styled / 2


def test_what_becomes_of_keys_styles_none_again(tmp_path: Path, random_model: Path) -> None:
    make_shot(tmp_path / "shot", num_frames=NUM_FRAMES)
    make_preset(tmp_path / "p.toml", random_model, method="keys", extra=EXTRA.format(noise="fresh"))
    first = render(tmp_path, "out")
    plain, styled = results(first), num_styled(first)
    grainy = render(tmp_path, "out", "temporal.grain=4.0")
    keys = {name for name in plain if name.startswith("keys/key.")}
    assert num_styled(grainy) <= styled - len(keys) and grainy.num_rendered == NUM_FRAMES
    assert {name for name, data in results(grainy).items() if plain.get(name) == data} >= keys
    assert results(grainy) == results(render(tmp_path, "fresh", "temporal.grain=4.0"))


def test_keys_of_another_look_and_of_other_frames_go(tmp_path: Path, random_model: Path) -> None:
    make_shot(tmp_path / "shot", num_frames=NUM_FRAMES)
    make_preset(tmp_path / "p.toml", random_model, method="keys", extra=EXTRA.format(noise="fresh"))
    render(tmp_path, "out")
    fewer = ("temporal.key_every=8", "strength=1.0")
    assert results(render(tmp_path, "out", *fewer)) == results(render(tmp_path, "fresh", *fewer))
    alone = render(tmp_path, "out", "temporal.method=frame")
    assert not any(name.startswith("keys/key.") for name in results(alone))
