"""The review page: what it names is there, text is text, a browser needs no server."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.output import Review, write_review


class Page(HTMLParser):
    """The tags that open, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def review(folder: Path, suffix: str = ".png", video: str = "walk.mp4") -> Review:
    return Review(
        shot="walk <1>",
        fps=Fraction(24),
        width=64,
        height=64,
        numbers=(7, 8),
        after=[folder / "out" / "walk" / "frames" / f"styled.000{n}.png" for n in (7, 8)],
        before=[folder / "shots" / "a b" / f"rgb.000{n}{suffix}" for n in (7, 8)],
        videos=[("styled", folder / "out" / "walk" / video)],
        settings=[("model", "mini")],
        looks=[("7 to 8", "film look <lora:iris:1>\nSteps: 8")],
        notes=("a note",),
        links=[("record.json", folder / "out" / "walk" / "record.json")],
        keys=(1,),
        strip=folder / "out" / "walk" / "keys" / "timeline.png",
    )


def listed(text: str, name: str) -> list[str]:
    found = re.search(rf"{name} = (\[.*?\])", text)
    assert found is not None
    names: list[str] = json.loads(found[1])
    return names


def test_it_shows_both_and_names_files_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "out" / "walk" / "review.html"
    write_review(path, review(tmp_path))
    text = path.read_text(encoding="utf-8")
    assert listed(text, "after") == ["frames/styled.0007.png", "frames/styled.0008.png"]
    assert listed(text, "before") == [f"../../shots/a%20b/rgb.000{n}.png" for n in (7, 8)]
    page = Page(text)
    assert ("video", {"controls": None, "loop": None, "preload": "metadata", "src": "walk.mp4"}) in page.tags
    assert listed(text, "keys") == [1] and ("a", {"href": "record.json"}) in page.tags
    marks = [attrs for tag, attrs in page.tags if attrs.get("class") == "mark"]
    assert [mark["title"] for mark in marks] == ["key frame 8"]
    assert any(attrs.get("src") == "keys/timeline.png" for _, attrs in page.tags)
    assert "walk <1>" in page.text and "film look <lora:iris:1>\nSteps: 8" in page.text
    assert {tag for tag, _ in page.tags}.isdisjoint({"1", "lora:iris:1"})  # escaped, not markup
    write_review(tmp_path / "out" / "walk" / "again.html", review(tmp_path))
    assert (tmp_path / "out" / "walk" / "again.html").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("suffix", [".exr", ".tif"])
def test_what_browsers_do_not_show_is_left_out(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "out" / "walk" / "review.html"
    write_review(path, review(tmp_path, suffix, "walk.mov"))
    text = path.read_text(encoding="utf-8")
    assert listed(text, "before") == [] and "<video" not in text
    assert "of a kind that a browser does not show" in text
