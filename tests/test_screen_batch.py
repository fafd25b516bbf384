"""The live table's numbers, and tables that people read."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.batch import Forecast, Job, JobOutcome, KeyFrames
from pipeline.render import RenderResult
from pipeline.screen_batch import (
    MOST_ROWS,
    BatchScreen,
    batch_table,
    forecast_table,
    forecast_total,
    reasons,
)


def job(name: str) -> Job:
    return Job(Path("shots") / name, None)


def rendered(name: str, *, num_rendered: int = 10, skipped: bool = False) -> JobOutcome:
    place = Path("out") / name
    video, record = place / f"{name}.mp4", place / "record.json"
    result = RenderResult(name, video, record, 10, num_rendered, 5.0, skipped, ())
    return JobOutcome(job(name), result)


def drawn(table: object) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_by_the_pace_so_far(clock: list[float]) -> None:
    screen = BatchScreen([job(name) for name in ("a", "b", "c")])
    assert screen.seconds_left() is None
    screen.advance("a", 4, 10)  # four were there
    clock[0] = 6.0
    screen.advance("a", 7, 10)
    # 2 s a frame: 3 left here, and two shots more, taken to be as long
    assert screen.seconds_left() == pytest.approx(2.0 * (3 + 2 * 10))
    screen.ended(rendered("a"))
    screen.ended(JobOutcome(job("b"), None, "no"))
    assert screen.seconds_left() == pytest.approx(6.0 / 6 * 10)
    text = drawn(screen)
    assert "2 of 3 shots, 0:00:10 left" in text and "failed" in text and "10/10" in text


def test_what_was_done_says_nothing_of_the_pace(clock: list[float]) -> None:
    screen = BatchScreen([job("a"), job("b")])
    screen.ended(rendered("a", num_rendered=0, skipped=True))
    assert screen.seconds_left() is None and "was done" in drawn(screen)


def test_many_shots_show_those_at_work(clock: list[float]) -> None:
    names = [f"s{number:03d}" for number in range(50)]
    screen = BatchScreen([job(name) for name in names])
    for name in names[:30]:
        screen.ended(rendered(name))
    screen.advance("s030", 1, 10)
    text = drawn(screen)
    assert "30 of 50 shots" in text and "s030" in text and text.count("\n") < MOST_ROWS + 8


def test_the_summary_keeps_reasons_whole_and_unread() -> None:
    outcomes = [rendered("a"), JobOutcome(job("b"), None, "shots/b: [bold]odd[/bold] reason")]
    text = drawn(batch_table(outcomes))
    assert "0.50" in text and "out/a/a.mp4" in text and "failed" in text
    assert reasons(outcomes) == ["b: shots/b: [bold]odd[/bold] reason"]


def test_a_forecast_is_summed_up() -> None:
    forecasts = [
        Forecast(job("a"), "a", 10, 10, True, "frame", seconds=0.0),
        Forecast(job("b"), "b", 10, 4, False, "frame", seconds=12.0),
        Forecast(job("c"), failure="shots/c: the folder is empty"),
    ]
    text = drawn(forecast_table(forecasts))
    assert "done" in text and "0:00:12" in text and "cannot be rendered" in text
    assert reasons(forecasts) == ["c: shots/c: the folder is empty"]
    total = forecast_total(forecasts, num_workers=2)
    assert total == "3 shots, 1 done, 6 frames to make, 1 shot cannot be rendered, about 0:00:06"


def test_key_frames_are_forecast() -> None:
    counted = KeyFrames(num_keys=11, num_alone=20, crops=0.5, num_kept=4)
    estimated = KeyFrames(num_keys=30, num_alone=0, crops=0.0, is_exact=False)
    one = Forecast(job("a"), "a", 48, 0, False, "keys", counted, 12.0)
    two = Forecast(job("b"), "b", 100, 0, False, "keys", estimated, 12.0)
    text = drawn(forecast_table([one, two]))
    assert "11, 4 there, 20 frames alone" in text and "~30" in text
    assert forecast_total([one]) == "1 shot, 0 done, 48 frames to make with 7 key frames, about 0:00:12"
    assert "148 frames to make with about 37 key frames" in forecast_total([one, two])
