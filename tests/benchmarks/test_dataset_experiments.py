"""Datasets made for experiments, and the views' forced choice on film truths."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.ablation import (
    HERO,
    NUM_FEW,
    caption_variants,
    character_row,
    everything,
    exposure_variants,
    kind_variants,
    named,
)
from benchmarks.concepts import Judged
from benchmarks.judging import Choice
from benchmarks.moments import SIZE, Moment, moments
from benchmarks.variants import is_profile, stills, write_variant
from benchmarks.view_gap import Seen, Truths, audit_lines, datasets, row, seen
from pipeline.models import FAMILIES
from samples.stage.cast import BY_NAME
from samples.stage.render import render
from training.dataset import load_dataset
from training.schema import read_dataset_file


def _load(path: Path):  # type: ignore[no-untyped-def]
    family = FAMILIES["mini"]
    file = read_dataset_file(path)
    return load_dataset(path, file, size=family.default_size, control_kinds=family.control_kinds)


@pytest.mark.parametrize("hero", ["iris", "otto"])
def test_only_the_dataset_without_profiles_lacks_views_and_the_audit_says_so(
    hero: str, tmp_path: Path
) -> None:
    found = datasets(hero, tmp_path)
    lines = {label: audit_lines(path) for label, path in found.items()}
    assert lines["all views"] == lines["as many others fewer"] == []
    assert (
        len(lines["without profiles"]) == 1 and "profile left, profile right" in lines["without profiles"][0]
    )
    counts = {label: len(_load(path).examples) for label, path in found.items()}
    profiles = sum(map(is_profile, stills(hero)))
    assert profiles >= 4 and counts["all views"] == 20
    assert counts["without profiles"] == counts["as many others fewer"] == 20 - profiles
    trained = {_load(path).file.train for path in found.values()}
    assert len(trained) == 1  # the same exposures, whatever the number of images


def test_caption_variants_say_all_or_nothing(tmp_path: Path) -> None:
    said = {
        label: [example.caption for example in _load(write_variant(variant, tmp_path)).examples]
        for label, variant in caption_variants().items()
    }
    assert all("steel skull, translucent torso" in each for each in said["everything captioned"])
    assert not any("steel skull" in each for each in said["negative captions"])
    assert set(said["trigger alone"]) == {f"a person, {HERO}"}
    assert [everything(each) for each in said["negative captions"]] == said["everything captioned"]
    assert "iris, steel skull" in named(moments(HERO, "tuning", 1)[0]).prompt


def test_uneven_folders_are_shown_evenly_or_as_they_are(tmp_path: Path) -> None:
    shown = {}
    for label, variant in exposure_variants().items():
        data = _load(write_variant(variant, tmp_path))
        counts = Counter(data.file.concept[example.concept].trigger for example in data.examples)
        assert sorted(counts.values()) == [NUM_FEW, NUM_FEW, 20, 20]
        shown[label] = [counts[concept.trigger] * concept.repeats for concept in data.file.concept]
    assert len(set(shown["equal exposure"])) == 1
    assert max(shown["as the folders are"]) == 4 * min(shown["as the folders are"])


def test_a_profile_is_known_by_its_head_and_another_view_is_not_it() -> None:
    moment = moments("otto", "tuning", 1, wanted=lambda scene, _: scene.move.framing == "closeup")[0]
    truths = Truths.of(moment)
    assert {view for view, _ in truths.heads} == {
        "front",
        "three-quarter",
        "profile left",
        "profile right",
        "back",
    }
    right = seen(moment, moment.frame.film, truths, "otto")
    assert (right.who, right.view, right.figure, right.head) == ("otto", True, 0.0, 0.0)
    for view, film in truths.heads:
        assert seen(moment, film, truths, "otto").view == (view == truths.heads[0][0])
    other = render(moment.scene.recast(0, BY_NAME["nell"]), moment.number, size=SIZE).film
    assert seen(moment, other, truths, "otto").who == "nell"


def test_the_table_of_views_compares_the_same_moments() -> None:
    best = [Seen("otto", True, 0.2, 0.1), Seen("otto", True, 0.2, None)]
    worse = [replace(best[0], who="nell", view=False, figure=0.3), replace(best[1], figure=0.3, view=None)]
    line = row("without profiles", "profile view", worse, "otto", best)
    assert line["nearest to otto"] == 0.5 and line["view recognised"] == 0.0 and line["of heads"] == 1
    assert line["figure, to all views"] == "+0.100 +- 0.000"


def test_kinds_learn_from_the_same_images_at_rates_of_their_own(tmp_path: Path) -> None:
    lora = _load(write_variant(caption_variants()["negative captions"], tmp_path))
    starts = set()
    for variant in kind_variants().values():
        kind, data = variant.train["kind"], _load(write_variant(variant, tmp_path))
        starts.add(data.file.concept[0].init_text)
        assert [example.caption for example in data.examples] == [each.caption for each in lora.examples]
        assert (data.file.train.kind, data.file.train.steps) == (kind, lora.file.train.steps)
    assert starts == {None, "steel skull, translucent torso, black trousers, glowing blue core"}
    assert data.file.train.lr < 0.1 * lora.file.train.lr  # the last is the whole model


def test_ablation_rows_count_likeness_and_leak() -> None:
    own, plain = moments(HERO, "tuning", 1)[0], moments("none", "tuning", 1)[0]

    def taken(moment: Moment, name: str) -> Judged:
        distances = dict.fromkeys(("iris", "otto", moment.right["who"]), 0.4) | {name: 0.2}
        return Judged(moment, moment.frame.film, {"who": Choice.of(distances)})

    likeness = [taken(own, "iris")] * 3 + [taken(own, "otto")]
    ordinary = [taken(plain, plain.right["who"]), taken(plain, "iris")]
    line = character_row("LoRA", 60.0, likeness, ordinary)
    assert (line["likeness"], line["leak"], line["others still right"]) == (0.75, 0.5, 0.5)
    assert line["distance to own"] == pytest.approx(0.25) and line["nearest other"] == pytest.approx(0.35)
