"""A recipe written once for several collections is the recipe written out, and every section has its own baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retgen.errors import UsageError
from retgen.recipes import load_recipe, make_report
from tests.recipes.conftest import Folder

TEXT = """\
name: several
modules: [tests.recipes.toy_stages]
each:
  set:
    a: {title: Set A, mean: 0.2, questions: 30}
    b: {title: Set B, mean: 0.6, questions: 40}
baseline: {"{set.title}": "{set}-low"}
stages:
  "{set}-low": {kind: toy-numbers, params: {mean: "{set.mean}", questions: "{set.questions}"}}
  "{set}-high": {kind: toy-numbers, params: {mean: 0.95, questions: "{set.questions}"}}
rows:
  "{set}-low": {label: "Low on {set}", section: "{set.title}", needs: ["{set}-low"]}
  "{set}-high": {label: High, section: "{set.title}", needs: ["{set}-high"]}
columns: [R@1]
scales:
  tiny:
    stages:
      a-low: {params: {questions: 3}}
      "{set}-high": {params: {questions: 4}}
"""


def _load(place: Path, text: str, **options: Any) -> Any:
    path = place / "several.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, **options)


def test_entries_are_repeated_in_order_with_their_values(tmp_path: Path) -> None:
    recipe = _load(tmp_path, TEXT)
    assert list(recipe.rows) == ["a-low", "a-high", "b-low", "b-high"]
    assert recipe.stages["b-low"].params == {"mean": 0.6, "questions": 40}
    assert recipe.rows["b-low"].label == "Low on b"
    assert recipe.rows["a-high"].needs == ["a-high"]
    assert recipe.baseline == {"Set A": "a-low", "Set B": "b-low"}


def test_scales_override_one_or_all(tmp_path: Path) -> None:
    recipe = _load(tmp_path, TEXT, scale="tiny")
    assert recipe.stages["a-low"].params["questions"] == 3
    assert recipe.stages["b-low"].params["questions"] == 40
    assert recipe.stages["b-high"].params["questions"] == 4


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"{set.mean}"', '"{set.maen}"', "unknown property of 'a' 'maen'. Did you mean 'mean'?"),
        ("  set:\n    a:", "  set: 3\n  other:\n    a:", "must map a variable to names"),
        ("each:\n  set:", "each:\n  a b:", "must map a variable to names"),
        ('{"{set.title}": "{set}-low"}', '{"Set C": "a-low"}', "unknown section 'Set C'"),
        ('{"{set.title}": "{set}-low"}', '{"Set A": "b-low"}', "does not stand in the section 'Set A'"),
        ('{"{set.title}": "{set}-low"}', '{"Set A": "c-low"}', "unknown row 'c-low'"),
    ],
)
def test_slips_are_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(UsageError) as caught:
        _load(tmp_path, TEXT.replace(old, new, 1))
    assert says in str(caught.value)
    assert "several.yaml" in str(caught.value)


def test_rows_are_tested_within_their_section(toy: Folder) -> None:
    toy.recipe.write_text(TEXT, encoding="utf-8")
    results = toy.run(seeds=[0], data=None)
    report = make_report(results)
    assert report.against == {"a-low": "a-low", "a-high": "a-low", "b-low": "b-low", "b-high": "b-low"}
    assert set(report.comparisons["R@1"]) == {"a-high", "b-high"}
    assert [report.comparisons["R@1"][row].num_questions for row in ("a-high", "b-high")] == [30, 40]
    assert report.comparisons["R@1"]["a-high"].difference == pytest.approx(
        report.rows["a-high"].values["R@1"] - report.rows["a-low"].values["R@1"]
    )
    text = report.differences().to_markdown()
    assert "Set A" in text
    assert "Set B" in text
    other = make_report(results, baseline="b-high")
    assert other.against == {"b-low": "b-high", "b-high": "b-high"}
