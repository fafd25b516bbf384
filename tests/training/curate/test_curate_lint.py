"""The caption checks: each rule on its own, and nothing said of captions that are as they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from narrow_files import Case

from pipeline import cli
from training.curate.findings import Finding
from training.curate.lint import lint_dataset
from training.curate.tokens import Tokens, load_tokens
from training.schema import read_dataset_file

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
TOML = """
name = "zorb"
[[concept]]
trigger = "zorbik"
class = "woman"
kind = "character"
invariant = ["bald", "green vest", "glasses"]
"""
VIEWS = ("front view", "back view", "profile view")
GOOD = [
    f"zorbik woman, {pose}, {view}, in a {room} room"
    for pose, view, room in zip(
        ("standing", "walking") * 3, VIEWS * 2, ("red", "grey", "blue", "white", "teal", "brick"), strict=True
    )
]


def words(max_tokens: int = 20, known: str = "") -> Tokens:
    """Two marks, one token a word; a trigger is two tokens unless it is `known`."""

    def count(text: str) -> int:
        return 2 + sum(2 if word != known and word.startswith("zorb") else 1 for word in text.split())

    return Tokens(count=count, max_tokens=max_tokens)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number, text in enumerate(GOOD, start=1):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"")  # pixels are the audit's business
        (tmp_path / "images" / f"{number}.txt").write_text(text)
    (tmp_path / "dataset.toml").write_text(TOML)
    return tmp_path


def lint(folder: Path, tokens: Tokens | None = None) -> list[Finding]:
    path = folder / "dataset.toml"
    return lint_dataset(path, read_dataset_file(path), tokens=tokens or words())


def say(folder: Path, text: str) -> None:
    (folder / "images" / "2.txt").write_text(text)


def append(folder: Path, text: str) -> None:
    for path in (folder / "images").glob("*.txt"):
        path.write_text(path.read_text() + text)


def test_good_captions_pass(dataset: Path) -> None:
    assert lint(dataset) == []


@pytest.mark.parametrize(
    ("spoil", "level", "rule", "where", "part"),
    [
        (lambda f: say(f, "woman, walking"), "error", "no-trigger", "2.txt", "'zorbik' is not in the"),
        (lambda f: say(f, "zorbik with Glasses"), "error", "invariant", "2.txt", "invariant 'glasses'"),
        (lambda f: say(f, "zorbik, long hair"), "error", "contradiction", "2.txt", "'long hair' contradicts"),
        (lambda f: say(f, "zorbik " * 10), "error", "too-long", "2.txt", "22 tokens, the text encoder"),
        (lambda f: say(f, " \n"), "error", "empty-caption", "2.txt", "empty caption"),
        (lambda f: (f / "images/2.txt").unlink(), "error", "no-caption", "2.png", "write 2.txt beside it"),
        (lambda f: (f / "images/9.txt").write_text("x"), "error", "no-image", "9.txt", "without an image"),
        (lambda f: (f / "images/2.caption").write_text("x"), "error", "unused-caption", "2.caption", "ren"),
        (lambda f: (f / "images/2.jpg").write_bytes(b""), "error", "same-stem", "2.png", "2.jpg has"),
        (
            lambda f: (f / "images/2.txt").write_bytes(b"\xff\xfe\x00"),
            "error", "unreadable-caption", "2.txt", "cannot be read as UTF-8",
        ),
        (
            lambda f: append(f, ", soft light"),
            "warning", "absorbed", "concept[1]", "'soft light' is in 6 of 6 captions",
        ),
        (
            lambda f: append(f, " beside an old oak"),
            "warning", "absorbed", "concept[1]", "'room beside an old oak' is in 6 of 6",
        ),
    ],
)  # fmt: skip
def test_each_fault_is_found_and_nothing_else(
    dataset: Path, spoil: Callable[[Path], object], level: str, rule: str, where: str, part: str
) -> None:
    spoil(dataset)
    (finding,) = lint(dataset)
    assert (finding.level, finding.rule) == (level, rule)
    assert where in finding.where and part in finding.text and "\n" not in str(finding)


@pytest.mark.parametrize(
    ("trigger", "known", "rule"),
    [
        ("android", "", "common-trigger"),
        ("woman", "", "common-trigger"),
        ("zorbik", "zorbik", "known-token"),
        ("zorbik woman", "", None),
    ],
)
def test_a_trigger_must_be_rare(dataset: Path, trigger: str, known: str, rule: str | None) -> None:
    (dataset / "dataset.toml").write_text(TOML.replace("zorbik", trigger))
    for path in (dataset / "images").glob("*.txt"):
        path.write_text(path.read_text().replace("zorbik woman", f"{trigger}"))
    assert [finding.rule for finding in lint(dataset, words(known=known))] == ([rule] if rule else [])


def test_an_empty_or_missing_folder_is_told(dataset: Path) -> None:
    (dataset / "dataset.toml").write_text(TOML + 'images = "elsewhere"\n')
    assert [finding.rule for finding in lint(dataset)] == ["no-images"]
    (dataset / "elsewhere").mkdir()
    assert [finding.rule for finding in lint(dataset)] == ["no-images"]


def test_shares_of_few_captions_say_nothing(dataset: Path) -> None:
    for number in range(1, 7):
        (dataset / "images" / f"{number}.txt").write_text(f"zorbik, soft light, view {number}")
    assert [finding.rule for finding in lint(dataset)] == ["absorbed"]
    for number in (5, 6):
        (dataset / "images" / f"{number}.png").unlink()
        (dataset / "images" / f"{number}.txt").unlink()
    assert lint(dataset) == []


@pytest.mark.parametrize(
    "name", ["characters/iris", "characters/otto", "places/vaulthall", "styles/vaultfilm", "multi"]
)
def test_no_false_alarm_on_the_sample_datasets(name: str) -> None:
    path = SAMPLES / name / "dataset.toml"
    file = read_dataset_file(path)
    assert lint_dataset(path, file, tokens=load_tokens(path, file)) == []


def test_the_models_own_tokenizer_counts(dataset: Path) -> None:
    path = SAMPLES / "characters" / "iris" / "dataset.toml"
    tokens = load_tokens(path, read_dataset_file(path))
    assert tokens.count("") == 2 and tokens.max_tokens == 64
    assert tokens.is_one_token("person") and not tokens.is_one_token("iris")


def test_a_checkpoint_in_one_file_is_counted_by_clips_tokenizer(tmp_path: Path) -> None:
    case = Case("sd15", tmp_path)
    file = read_dataset_file(SAMPLES / "characters" / "otto" / "dataset.toml")
    tokens = load_tokens(tmp_path / "d.toml", file.model_copy(update={"model": case.path.name}))
    assert (tokens.max_tokens, tokens.count("a man"), tokens.count("zorbik")) == (77, 4, 2 + 3)


def test_the_command_reports_and_fails(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(dataset / "dataset.toml")
    assert cli.main(["dataset", "lint", path]) == 0
    assert capsys.readouterr().out == f"{path}: 0 errors, 0 warnings\n"
    say(dataset, "woman")
    assert cli.main(["dataset", "lint", path]) == 2
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("error ") and "[no-trigger]" in said[0]
    assert said[-1] == f"{path}: 1 error, 0 warnings"


def test_a_missing_model_is_noted_and_the_rest_checked(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset / "dataset.toml").write_text('model = "nowhere"\n' + TOML)
    say(dataset, "woman")
    assert cli.main(["dataset", "lint", str(dataset / "dataset.toml")]) == 2
    said = capsys.readouterr()
    assert (
        said.err.startswith(f"note: tokens are not counted: {dataset}/dataset.toml:model: model")
        and "no-trigger" in said.out
    )


@pytest.mark.parametrize("arguments", [["lint"], ["lint", "nowhere.toml"], ["lnt"], ["lint", "x", "--fxi"]])
def test_a_wrong_command_line_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dataset", *arguments]) == 2
    assert capsys.readouterr().err


def test_a_trigger_that_holds_another_is_named(dataset: Path) -> None:
    other = TOML[TOML.index("[[concept]]") :].replace('"zorbik"', '"Zorbik prime"')
    (dataset / "more").mkdir()
    for number in (1, 2):
        (dataset / "more" / f"{number}.png").write_bytes(b"")
        (dataset / "more" / f"{number}.txt").write_text("zorbik prime, walking")
    (dataset / "dataset.toml").write_text(f'{TOML}{other}images = "more"\n')
    (found,) = lint(dataset)
    assert (found.level, found.rule) == ("warning", "shared-trigger")
    assert found.where.endswith("concept[2].trigger") and "'zorbik' of concept[1] too" in found.text
    text = (dataset / "dataset.toml").read_text()
    for changed in (text.replace("Zorbik prime", "Zorbikprime"), text + '[train]\nkind = "pivotal"\n'):
        (dataset / "dataset.toml").write_text(changed)
        assert "shared-trigger" not in [each.rule for each in lint(dataset)]
