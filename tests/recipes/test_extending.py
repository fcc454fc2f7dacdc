"""A recipe that extends another says what differs; slips in either are named with their own file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen.errors import UsageError
from retgen.recipes import load_recipe
from retgen.recipes.plan import Planner
from retgen.recipes.writers import Author
from tests.recipes import toy_stages  # noqa: F401  (registers the kinds)

BASE = """\
name: base
description: of the base
seeds: 3
defaults: {toy-numbers: {mean: 2}}
stages:
  numbers: {kind: toy-numbers, params: {questions: 5}}
  other: {kind: toy-numbers, params: {questions: 7}}
rows:
  one: {needs: [numbers]}
  two: {needs: [other]}
columns: [R@1]
scales:
  tiny:
    stages:
      numbers: {params: {questions: 2}}
"""
OWN = """\
extends: base.yaml
name: own
stages:
  numbers: {params: {mean: 4}}
rows:
  two:
"""


def _written(place: Path, own: str = OWN, base: str = BASE) -> Path:
    (place / "base.yaml").write_text(base, encoding="utf-8")
    (place / "own.yaml").write_text(own, encoding="utf-8")
    return place / "own.yaml"


def test_what_it_says_is_laid_over_the_other(tmp_path: Path) -> None:
    recipe = load_recipe(_written(tmp_path))
    assert recipe.name == "own"
    assert recipe.description == "of the base"
    assert recipe.seeds == [0, 1, 2]
    assert recipe.params_of("numbers") == {"questions": 5, "mean": 4}
    assert list(recipe.rows) == ["one"]


def test_a_published_number_may_be_left_out(tmp_path: Path) -> None:
    base = BASE.replace("two: {needs: [other]}", "two: {needs: [other], published: {R@1: 0.5, R@5: 0.6}}")
    base = base.replace("columns: [R@1]", "columns: [R@1, R@5]")
    own = "extends: base.yaml\nname: own\nrows:\n  two: {published: {R@5: , R@1: 0.7}}\ncolumns: [R@1]\n"
    assert load_recipe(_written(tmp_path, own, base)).rows["two"].published == {"R@1": 0.7}


def test_what_a_writer_adds_may_be_left_out_too(tmp_path: Path) -> None:
    base = f"{BASE}written:\n  rows:\n    three: {{needs: [other]}}\n    four: {{needs: [other]}}\n"
    path = _written(tmp_path, "extends: base.yaml\nname: own\nwritten:\n  rows:\n    three:\n", base)
    assert list(load_recipe(path, author=Author(model="some/model")).rows) == ["one", "two", "four"]
    assert list(load_recipe(path).rows) == ["one", "two"]


def test_the_others_scales_are_its_own(tmp_path: Path) -> None:
    assert load_recipe(_written(tmp_path), scale="tiny").params_of("numbers") == {"questions": 2, "mean": 4}


def test_it_may_extend_one_that_extends(tmp_path: Path) -> None:
    _written(tmp_path)
    third = tmp_path / "third.yaml"
    third.write_text("extends: own.yaml\nname: third\nseeds: 1\n", encoding="utf-8")
    recipe = load_recipe(third)
    assert (recipe.name, recipe.seeds, list(recipe.rows)) == ("third", [0], ["one"])
    assert recipe.params_of("numbers")["mean"] == 4


def test_it_may_extend_a_built_in_recipe(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("extends: squad\nname: own\nseeds: 1\n", encoding="utf-8")
    assert load_recipe(own).rows.keys() == load_recipe("squad").rows.keys()


@pytest.mark.parametrize(
    ("own", "base", "says"),
    [
        (OWN.replace("mean: 4", "meen: 4"), BASE, "own.yaml:4 [stages.numbers.params.meen]: unknown argument"),
        (OWN, BASE.replace("needs: [numbers]", "needs: [nubmers]"), "base.yaml:9 [rows.one.needs.0]: unknown stage"),
        (OWN, BASE.replace("seeds: 3", "seedz: 3"), "base.yaml:3 [seedz]: unknown key 'seedz'"),
        (OWN.replace("base.yaml", "bsae"), BASE, "own.yaml:1 [extends]: unknown recipe 'bsae'"),
        (OWN.replace("base.yaml", "none.yaml"), BASE, "own.yaml:1 [extends]: there is no recipe file"),
        (
            OWN.replace("base.yaml", "own.yaml"),
            BASE,
            "own.yaml:1 [extends]: these recipes extend each other",
        ),
        (OWN, f"extends: own.yaml\n{BASE}", "extend each other in a circle: own.yaml → base.yaml → own.yaml"),
        (OWN.replace("base.yaml", "[base.yaml]"), BASE, "own.yaml:1 [extends]: this must name one recipe"),
        (OWN.replace("name: own\n", ""), BASE, "needs a name of its own"),
    ],
)
def test_a_slip_is_named_with_its_own_file(tmp_path: Path, own: str, base: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        Planner(load_recipe(_written(tmp_path, own, base)), None)
    assert says in str(raised.value)
