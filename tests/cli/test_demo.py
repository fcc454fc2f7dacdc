"""`retgen demo`: the table, then three questions; here on the almanac with a training of two steps."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retgen import almanac
from retgen.cli import app
from retgen.cli.demo_pipeline import write_pipeline
from retgen.corpus import Corpus
from retgen.index import Index
from retgen.recipes import load_recipe, make_report, run_recipe
from retgen.server import open_parts, read_settings

# The built-in recipe asks all its test questions three times over, which takes a minute.
SHORT = """
name: short
description: "The almanac, hardly trained."
modules: [retgen.recipes.collections, retgen.recipes.baselines, retgen.recipes.unigen, retgen.recipes.measuring]
seeds: 1
stages:
  collection: {kind: almanac-collection, params: {train_per_passage: 1, test_per_passage: 1}}
  bm25: {kind: bm25, needs: [collection]}
  contexts: {kind: contexts, needs: [collection, bm25], params: {words: 30, passages: 1, listed: 3}}
  base:
    kind: unigen-train
    needs: [collection, contexts]
    params: {source: "scratch:tiny", steps: 2, batch_size: 4, train_questions: 50, max_input_tokens: 96}
  bm25-named: {kind: measure, needs: {collection: collection, outcome: bm25}, params: {group: named}}
  bm25-free: {kind: measure, needs: {collection: collection, outcome: bm25}, params: {group: entity-free}}
rows:
  bm25: {needs: [bm25-named]}
  bm25-free: {needs: [bm25-free]}
  unigen-base: {needs: [base]}
columns: ["R@1", parameters]
"""

# Of the re-ranking one, training has tests of its own.
RERANKED = """
name: short-jpr
description: "The almanac, not re-ranked."
modules: [retgen.recipes.collections, retgen.recipes.ranking]
seeds: 1
stages:
  collection: {kind: almanac-collection, params: {train_per_passage: 1, test_per_passage: 1}}
  candidates: {kind: candidates, needs: [collection], params: {test_questions: 20}}
  bm25: {kind: ranking-outcome, needs: [collection, candidates]}
rows:
  jpr: {needs: [bm25]}
columns: ["Success@1"]
"""


command = importlib.import_module("retgen.cli.demo")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demos of this module are kept, so that only the first trains."""
    return tmp_path_factory.mktemp("demo") / "kept"


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "short.yaml").write_text(SHORT, encoding="utf-8")
    monkeypatch.setattr(command, "RECIPE", str(tmp_path / "short.yaml"))
    (tmp_path / "short-jpr.yaml").write_text(RERANKED, encoding="utf-8")
    monkeypatch.setattr(command, "RERANKING", str(tmp_path / "short-jpr.yaml"))


@pytest.mark.usefixtures("short")
def test_the_table_then_three_questions_with_passages(kept: Path) -> None:
    result = run("--out", kept)
    assert result.exit_code == 0, result.output
    table, *asked, reranked = result.stdout.split("\n\n\n")
    assert table.startswith("**The almanac, hardly trained")
    assert "| bm25-free " in table
    shown = "\n".join(asked)
    assert shown.count("(names its entity)") == 1
    assert shown.count("(names no entity)") == 2
    assert shown.count("expected: ") == 3
    assert shown.count("hold the answer") + shown.count("holds the answer") == 6
    assert reranked.strip().startswith("**The almanac, not re-ranked")
    assert "| jpr " in reranked
    assert "since the start" in result.stderr
    assert "The demo took" in result.stderr


@pytest.mark.usefixtures("short")
def test_json_is_all_of_standard_output_and_nothing_is_trained_twice(kept: Path) -> None:
    first = run("--out", kept, "--json")
    result = run("--out", kept, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout == first.stdout
    assert "base (seed 0): done before" in result.stderr
    values = [json.loads(line) for line in result.stdout.splitlines()]
    rows, answers, reranked = values[:3], values[3:-1], values[-1]
    assert reranked["row"] == "jpr"
    assert [row["row"] for row in rows] == ["bm25", "bm25-free", "unigen-base"]
    assert [answer["group"] for answer in answers] == ["named", "entity-free", "entity-free"]
    gold = {question.text: question for question in almanac.questions("test")}
    for answer in answers:
        question = gold[answer["question"]]
        assert answer["source"] is None
        assert answer["expected"] == list(question.answers)
        assert question.entity_free == (answer["group"] == "entity-free")
        for passage in answer["passages"]:
            assert passage["relevant"] == (passage["doc_id"] == question.doc_id)


@pytest.mark.parametrize("scale", ["local", "tiny"])
def test_the_built_in_recipe_has_what_the_demo_asks(scale: str, tmp_path: Path) -> None:
    recipe = load_recipe("almanac", scale=scale)
    assert {"almanac-collection", "contexts", "unigen-train"} <= set(command._folders(recipe, tmp_path, "unigen-base"))
    assert {"bm25", "unigen-base", "unigen-iter"} <= set(recipe.rows)
    assert {"R@1", "R@10", "MRR@10", "EM", "F1"} <= {column.key for column in recipe.columns}


@pytest.mark.usefixtures("short")
def test_what_is_kept_can_be_served(kept: Path) -> None:
    result = run("--out", kept)
    assert f"retgen serve {kept / 'pipeline.yaml'}" in result.stderr
    settings = read_settings(kept / "pipeline.yaml").pipeline
    parts = open_parts(settings.model_copy(update={"device": "cpu"}))
    assert parts.document_count == len(almanac.documents())
    assert (parts.retriever, parts.answerer_kind, parts.reranker) == ("unigen", "unigen", None)


def test_the_pipeline_names_the_models_of_the_built_in_recipes(tmp_path: Path) -> None:
    place = tmp_path / "demo"
    trained = command._folders(load_recipe("almanac"), place, "unigen-base")
    reranking = command._folders(load_recipe("almanac-jpr"), place / "re-ranking", "jpr")
    Corpus.build(almanac.documents()[:5], trained["almanac-collection"] / "corpus")
    reranking["combination"].mkdir(parents=True)
    (reranking["combination"] / "tuning.json").write_text('{"generator_weight": 0.35}', encoding="utf-8")
    for folder in ("cross-encoder-train", "query-generator-train"):
        (reranking[folder] / folder.removesuffix("-train")).mkdir(parents=True)
    settings = read_settings(write_pipeline(place, trained, reranking)).pipeline
    assert (settings.reranker, settings.generator_weight) == ("jpr", 0.35)
    assert settings.model == place / trained["unigen-train"].relative_to(place) / "unigen"
    assert Path(str(settings.cross_encoder)) == reranking["cross-encoder-train"] / "cross-encoder"
    assert Path(str(settings.generator)) == reranking["query-generator-train"] / "query-generator"
    assert len(Index.open(settings.index)) == 5


@pytest.mark.slow
def test_the_built_in_re_ranking_runs_every_row(tmp_path: Path) -> None:
    recipe = load_recipe("almanac-jpr", scale="tiny")
    found = run_recipe(recipe, None, tmp_path)
    assert [row.row for row in found.rows] == ["bm25", "cross-encoder", "generator", "jpr", "bm25-cross-encoder"]
    assert set(make_report(found).against.values()) == {"cross-encoder"}


def test_an_unknown_scale_is_wrong_usage() -> None:
    result = run("--scale", "huge")
    assert result.exit_code == 2
    assert "huge" in result.stderr
    assert result.stdout == ""
