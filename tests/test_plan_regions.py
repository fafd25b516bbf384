"""Regions in a plan: where they are in the shot, whose view they have, and what of them decides pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_shot import SIZE, make_preset, passes

from pipeline.errors import PresetError, ShotError, UserError
from pipeline.image import write_png
from pipeline.plan import Plan, check_preset, make_plan, plan_as_json
from pipeline.plan.digest import input_files
from pipeline.preset import load_preset
from pipeline.shot import Area, Figure, Shot, write_shot

FRAMES = 3


def head(turned: bool) -> np.ndarray:
    """COCO-18 points of a head that faces the camera, or its back."""
    points = np.full((18, 3), 2.0, np.float32)
    across = {0: 0.0, 14: -3.0, 15: 3.0, 16: -7.0, 17: 7.0, 2: -14.0, 5: 14.0}
    for row, x in across.items():
        points[row, :2] = 32 + (-x if turned else x), 20
    return points


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    """Iris is figure 2 and faces the camera, Otto figure 1 and faces away."""
    wall = passes(FRAMES)
    ids = np.zeros((FRAMES, SIZE, SIZE), np.uint32)
    ids[:, 8:, 4:28], ids[:, 8:, 36:60] = 2 * 256 + 1, 256 + 3
    figures = (Figure("otto", 1, head(True)), Figure("iris", 2, head(False)))
    joints = tuple(replace(frame, figures=figures) for frame in wall.joints)
    folder = tmp_path_factory.mktemp("shots") / "wall"
    return write_shot(
        folder, [replace(wall, ids=ids, joints=joints)], fps=Fraction(24), characters=("otto", "iris")
    )


@pytest.fixture
def planned(shot: Shot, tmp_path: Path) -> Callable[..., Plan]:
    def plan(extra: str, *overrides: str, of: Shot = shot) -> Plan:
        return make_plan(of, load_preset(make_preset(tmp_path / "p.toml", extra=extra), overrides=overrides))

    return plan


def without(shot: Shot, *names: str) -> Shot:
    return replace(shot, passes={name: src for name, src in shot.passes.items() if name not in names})


def test_a_figure_by_name_is_its_number_in_the_ids(planned: Callable[..., Plan], shot: Shot) -> None:
    extra = '[[region]]\nfigure = "iris"\n[[region]]\nfigure = 1\ngrow = 0.1\nsoft = 0.2\n'
    iris, first = planned(extra).regions
    assert (iris.name, iris.area) == ("iris", Area(figures=(2,)))
    assert (first.name, first.area, first.grow, first.soft) == ("1", Area(figures=(1,)), 0.1, 0.2)
    bare = planned('[[region]]\nfigure = "iris"\n', of=without(shot, "joints"))
    assert bare.regions[0].area == Area(figures=(2,))  # the second of shot.toml's characters


def test_each_region_has_the_view_of_its_own_figure(planned: Callable[..., Plan]) -> None:
    extra = (
        '[[region]]\nfigure = "iris"\n[[region]]\nfigure = 1\n'
        '[[region]]\nname = "a"\nbox = [0.0, 0.0, 0.5, 0.5]\n'
        '[[region]]\nname = "b"\nbox = [0.5, 0.0, 1.0, 0.5]\nview_of = "iris"\n'
    )
    (look,) = set(planned(extra, "prompt={view}").looks)
    said = [part.prompt[0][0] for part in look.parts]
    assert said == ["back view", "front view", "back view", "back view", "front view"]
    (look,) = set(planned(extra, "prompt={view}", "views.figure=iris").looks)
    assert [part.prompt[0][0] for part in look.parts][::3] == ["front view", "front view"]


def test_what_of_a_region_decides_pixels(planned: Callable[..., Plan], tmp_path: Path) -> None:
    write_png(tmp_path / "m.png", np.zeros((8, 8, 3), np.uint8))
    base = '[[region]]\nname = "a"\nmask = "m.png"\n'
    plan = planned(base)
    others = [
        planned(""),
        *(planned(base, f"region.0.{change}") for change in ("prompt=x", "weight=0.5", "grow=0", "soft=0")),
        planned('[[region]]\nname = "a"\nbox = [0.0, 0.0, 1.0, 0.5]\n'),
        planned('[[region]]\nname = "a"\nbox = [0.0, 0.0, 1.0, 0.25]\n'),
        planned('[[region]]\nname = "a"\nids = [257]\n'),
        planned('[[region]]\nname = "a"\nfigure = 1\n'),
    ]
    digests = {each.frames_digest for each in (plan, *others)}
    assert len(digests) == len(others) + 1
    for same in ("name=b", "view_of=iris"):
        assert planned(base, f"region.0.{same}").frames_digest == plan.frames_digest
    assert planned(base, "guidance=1", "region.0.negative=x").frames_digest == (
        planned(base, "guidance=1").frames_digest
    )
    write_png(tmp_path / "m.png", np.full((9, 8, 3), 255, np.uint8))
    assert planned(base).frames_digest not in digests


def test_the_files_that_masks_are_read_from_are_inputs(
    planned: Callable[..., Plan], shot: Shot, tmp_path: Path
) -> None:
    for number in range(1, FRAMES + 1):
        write_png(tmp_path / "masks" / f"m.{number}.png", np.zeros((8, 8, 3), np.uint8))
    plan = planned('[[region]]\nname = "a"\nmask = "masks"\n[[region]]\nname = "b"\nfigure = 1\n')
    names = {file.name for file in input_files(shot, plan)}
    assert {"m.1.png", "m.3.png", "ids.0001.png"} <= names and "depth.0001.exr" not in names
    folded = plan_as_json(plan)["regions"][0]["area"]["masks"]
    assert [Path(name).name for name in folded] == ["m.1.png", "m.3.png"]  # T paths would fill the record


def test_a_trigger_counts_where_its_lora_is_worn(planned: Callable[..., Plan], tmp_path: Path) -> None:
    for name in ("iris", "style"):
        state = {
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": np.zeros((2, 128), "f4"),
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": np.zeros((128, 2), "f4"),
        }
        save_file(state, tmp_path / f"{name}.safetensors", {"modelspec.trigger_phrase": name})
    extra = (
        '[[lora]]\npath = "style.safetensors"\n[[region]]\nfigure = 1\n[[region.lora]]\n'
        'path = "iris.safetensors"\n'
    )
    plan = planned(extra, "prompt=style", "region.0.prompt=style iris")
    assert plan.notes == () and [lora.trigger for lora in plan.loras] == ["style", "iris"]
    where = tmp_path / "p.toml"
    (note,) = planned(extra, "prompt=style iris", "region.0.prompt=style").notes
    assert note == f"{where}:region[0].lora[0].path: the prompt of region '1' does not say its trigger 'iris'"
    (note,) = planned(extra, "prompt=style", "region.0.prompt=iris").notes
    assert note.startswith(f"{where}:lora[0].path: the prompt does not say its trigger 'style'")
    assert planned(extra, "prompt=style", "region.0.prompt=x", "region.0.weight=0").notes == ()


@pytest.mark.parametrize(
    ("extra", "overrides", "kind", "message"),
    [
        (
            '[[region]]\nfigure = "irsi"\n',
            (),
            PresetError,
            "p.toml:region[0].figure: found 'irsi'; the shot has: otto, iris",
        ),
        (
            "[[region]]\nfigure = 1\n",
            ("ids",),
            ShotError,
            "has no ids, which a region by its figure needs (",
        ),
        ('[[region]]\nname = "a"\nids = [3]\n', ("ids",), ShotError, "region[0].ids); add ids/, or give the"),
        (
            '[[region]]\nname = "a"\nmask = "no"\n',
            (),
            ShotError,
            "p.toml:region[0].mask: ",
        ),
        (
            '[[region]]\nname = "a"\nbox = [0.0, 0.0, 1.0, 1.0]\nprompt = "{view}"\nview_of = "ada"\n',
            (),
            PresetError,
            "region[0].view_of: found 'ada'; the joints have: otto, iris",
        ),
        (
            '[[region]]\nfigure = 7\nprompt = "{view}"\n',
            (),
            PresetError,
            "region[0].figure: found '7'; the joints have: otto, iris",
        ),
        (
            '[[region]]\nfigure = 1\nprompt = "{view}"\n',
            ("joints",),
            ShotError,
            "or set the region's vars.view",
        ),
        (
            '[[region]]\nfigure = 1\n[[region.lora]]\npath = "no.safetensors"\n',
            (),
            PresetError,
            "p.toml:region[0].lora[0].path: found no file",
        ),
        (
            '[[region]]\nfigure = 1\nprompt = "a <lora:x:1>"\n',
            (),
            PresetError,
            "p.toml:region[0].prompt: prompt has <lora:x:1>",
        ),
    ],
)
def test_a_region_that_this_shot_has_not_is_one_line(
    planned: Callable[..., Plan], shot: Shot, extra: str, overrides: tuple[str, ...], kind: type[UserError],
    message: str,
) -> None:  # fmt: skip
    with pytest.raises(kind) as caught:
        planned(extra, of=without(shot, *overrides))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_mask_is_looked_for_without_a_shot_too(tmp_path: Path) -> None:
    path = make_preset(tmp_path / "p.toml", extra='[[region]]\nname = "a"\nmask = "no.png"\n')
    with pytest.raises(PresetError, match=r"p.toml:region\[0\].mask: found no .*no.png; expected a picture"):
        check_preset(load_preset(path))
    write_png(tmp_path / "no.png", np.zeros((8, 8, 3), np.uint8))
    assert check_preset(load_preset(path)) == ()
