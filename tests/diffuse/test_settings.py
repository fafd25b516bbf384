import pytest

from pipeline.diffuse import ControlUse, Img2ImgSettings


@pytest.mark.parametrize(
    ("steps", "strength", "executed"),
    [(20, 0.0, 0), (20, 0.6, 12), (20, 1.0, 20), (5, 0.5, 2), (10, 0.05, 0)],
)
def test_executed_steps(steps: int, strength: float, executed: int) -> None:
    assert Img2ImgSettings("x", steps=steps, strength=strength).executed_steps == executed


def test_control_interval() -> None:
    use = ControlUse("depth", 1.0, 0.25, 0.75)
    assert [use.steers(i, 4) for i in range(4)] == [False, True, True, False]
    assert not ControlUse("depth", 0.0).steers(0, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 1.1},
        {"strength": -0.1},
        {"steps": 0},
        {"guidance": 0.5},
        {"scheduler": "ddpm"},
        {"clip_skip": 0},
    ],
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Img2ImgSettings("x", **wrong)  # type: ignore[arg-type]


def test_control_interval_out_of_range() -> None:
    with pytest.raises(ValueError, match="depth"):
        ControlUse("depth", 1.0, 0.6, 0.5)
