"""A slip in a recipe is named with its file, line and place, and with the names that would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from retgen.errors import FormatError, RetgenError, UsageError
from retgen.recipes import SCALES, builtin_recipes, load_recipe
from retgen.recipes.merging import merge
from tests.recipes.conftest import RECIPE

TEXT = """\
name: small
stages:
  numbers:
    kind: toy-numbers
    params: {questions: 5, mean: 1e-1}
  other: {kind: toy-numbers, needs: [numbers]}
rows:
  one: {needs: [numbers]}
  two:
    needs:
      - other
columns:
  - R@1
  - key: seconds
    cost: {of: wall_seconds}
scales:
  tiny:
    stages:
      numbers: {params: {questions: 2}}
  full: {seeds: 5}
"""


def _load(place: Path, text: str, **options: Any) -> Any:
    path = place / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, **options)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("name: small", "name: small\nrwos: 1", 2, "[rwos]: unknown key 'rwos'. Did you mean 'rows'?"),
        (
            "kind: toy-numbers\n    p",
            "kindd: x\n    p",
            4,
            "[stages.numbers.kindd]: unknown key 'kindd'. Did you mean 'kind'?",
        ),
        ("    kind: toy-numbers\n", "", 3, "[stages.numbers.kind]: field required"),
        ("needs: [numbers]}\nrows", "needs: [nubmers]}\nrows", 6, "unknown stage 'nubmers'. Did you mean 'numbers'?"),
        ("- other", "- otter", 11, "[rows.two.needs.0]: unknown stage 'otter'. Did you mean 'other'?"),
        ("one: {needs: [numbers]}", "one: {label: x}", 8, "row 'one' needs no stage and has no published values"),
        (
            "one: {needs: [numbers]}",
            "one: {needs: [numbers], published: {R@2: 1}}",
            8,
            "unknown column 'R@2'. Did you mean 'R@1'?",
        ),
        ("one: {needs: [numbers]}", "'../one': {needs: [numbers]}", 8, "should match pattern"),
        ("one: {needs", "one-seed3: {needs", 8, "reads like a result's file"),
        ("- key: seconds", "- key: R@1", 14, "[columns.1]: the column 'R@1' stands twice"),
        ("of: wall_seconds", "of: wall_clock", 15, "[columns.1.cost.of]: input should be 'wall_seconds'"),
        (
            "of: wall_seconds",
            "of: wall_seconds, over: [numbres]",
            15,
            "unknown stage, kind or tag 'numbres'. Did you mean 'numbers'?",
        ),
        ("of: wall_seconds", "offf: wall_seconds", 15, "unknown key 'offf'. Did you mean 'of'? Known: of, over"),
        ("columns:", "baseline: ten\ncolumns:", 12, "[baseline]: unknown row 'ten'"),
        ("columns:", "defaults: {toy-number: {mean: 1}}\ncolumns:", 12, "Did you mean 'toy-numbers'?"),
        ("columns:", "seeds: [1, 1]\ncolumns:", 12, "a seed stands twice"),
        ("columns:", "seeds: 0\ncolumns:", 12, "[seeds]: value should have at least 1 item"),
        ("  tiny:", "  small:", 17, "[scales.small]: unknown scale 'small'"),
        (
            "      numbers: {params: {q",
            "      nubmers: {params: {q",
            19,
            "unknown stage 'nubmers'. Did you mean 'numbers'?",
        ),
        (
            "{params: {questions: 2}}",
            "{parms: {questions: 2}}",
            19,
            "[scales.tiny.stages.numbers.parms]: unknown key 'parms'",
        ),
        ("full: {seeds: 5}", "full: {name: other}", 20, "a scale cannot override 'name'"),
        ("full: {seeds: 5}", "full: 5", 16, "scales must map a scale to its overrides"),
    ],
)
def test_a_slip_is_named_with_its_place(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(UsageError) as caught:
        _load(tmp_path, TEXT.replace(old, new, 1))
    assert says in str(caught.value)
    assert f"small.yaml:{line} " in str(caught.value)


def test_stages_in_a_circle_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="numbers → other → numbers"):
        _load(tmp_path, TEXT.replace("params: {q", "needs: [other]\n    params: {q", 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b\n", "small.yaml:2: the key 'name' stands here twice"),
        ("name: [a\n", "not YAML"),
        ("- a\n", "top level must be a mapping"),
        ("", "top level must be a mapping"),
        ("a: !!python/object:os.system x\n", "not YAML"),
    ],
)
def test_what_is_no_recipe_file(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FormatError) as caught:
        _load(tmp_path, text)
    assert says in str(caught.value)


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(FormatError, match="UTF-8"):
        load_recipe(tmp_path / "small.yaml")


@pytest.mark.parametrize("source", ["no-such-recipe", "nowhere/recipe.yaml", "recipe.yaml"])
def test_no_such_recipe(source: str) -> None:
    with pytest.raises(UsageError, match=r"no such recipe|unknown recipe"):
        load_recipe(source)


class TestScales:
    def test_a_block_is_merged_deep(self, tmp_path: Path) -> None:
        recipe = _load(tmp_path, TEXT, scale="tiny")
        assert recipe.params_of("numbers") == {"questions": 2, "mean": "1e-1"}
        assert recipe.scale == "tiny"

    def test_local_is_the_recipe_as_it_stands(self, tmp_path: Path) -> None:
        recipe = _load(tmp_path, TEXT)
        assert recipe.params_of("numbers")["questions"] == 5
        assert recipe.seeds == [0]

    def test_a_number_of_seeds_counts_from_zero(self, tmp_path: Path) -> None:
        assert _load(tmp_path, TEXT, scale="full").seeds == [0, 1, 2, 3, 4]

    def test_one_that_the_recipe_lacks(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no scale 'gpu'\. It has: local, tiny, full"):
            _load(tmp_path, TEXT, scale="gpu")

    def test_one_that_there_is_not(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="unknown scale 'huge'"):
            _load(tmp_path, TEXT, scale="huge")

    def test_merging_leaves_its_arguments_alone(self) -> None:
        base = {"a": {"x": [1]}, "b": 1}
        assert merge(base, {"a": {"y": 2}, "b": {"z": 3}}) == {"a": {"x": [1], "y": 2}, "b": {"z": 3}}
        assert base == {"a": {"x": [1]}, "b": 1}


def test_needs_as_a_list_play_the_roles_of_their_names(tmp_path: Path) -> None:
    assert _load(tmp_path, TEXT).stages["other"].needs == {"numbers": "numbers"}


def test_defaults_of_a_kind_give_way_to_a_stages_own(tmp_path: Path) -> None:
    recipe = _load(tmp_path, TEXT + "defaults: {toy-numbers: {questions: 9, mean: 3}}\n")
    assert recipe.params_of("numbers") == {"questions": 5, "mean": "1e-1"}
    assert recipe.params_of("other") == {"questions": 9, "mean": 3}


def test_the_toy_recipe_survives_yaml(tmp_path: Path) -> None:
    recipe = _load(tmp_path, yaml.safe_dump(RECIPE, sort_keys=False))
    assert list(recipe.rows) == ["bm25", "fit"]


def test_built_in_recipes_load_at_every_scale_they_have() -> None:
    for path in builtin_recipes().values():
        scales = {"local", *(yaml.safe_load(path.read_text(encoding="utf-8")).get("scales") or {})}
        for scale in scales & set(SCALES):
            try:
                load_recipe(path, scale=scale)
            except RetgenError as error:
                pytest.fail(f"{path.name} at {scale}: {error}")
