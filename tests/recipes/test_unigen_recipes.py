"""The built-in UniGen recipes, run for real at their smallest scale."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from retgen.cli import app
from retgen.errors import UsageError
from retgen.recipes import load_recipe, run_recipe
from retgen.recipes.collections import read_connectors, read_questions
from retgen.recipes.curves import curves
from retgen.recipes.sources import builtin_recipes
from retgen.types import question_split

_QUALITY = ("R@1", "R@5", "R@10", "MRR@10", "EM", "F1", "questions")


def _quality(out: Path) -> dict[str, dict[str, float]]:
    found = {}
    for path in sorted((out / "results").glob("*.json")):
        if not path.name.startswith("_"):
            values = json.loads(path.read_text())["values"]
            found[path.stem] = {name: values[name] for name in _QUALITY if name in values}
    return found


@pytest.mark.parametrize("name", ["squad", "almanac", "almanac-curves", "squad-rounds", "almanac-rounds"])
@pytest.mark.parametrize("scale", ["local", "tiny"])
def test_built_in_recipes_load(name: str, scale: str) -> None:
    recipe = load_recipe(name, scale=scale)
    assert recipe.rows
    assert name in builtin_recipes()


@pytest.mark.slow
def test_almanac_runs_every_row(tmp_path: Path) -> None:
    run_recipe("almanac", None, tmp_path, scale="tiny")
    quality = _quality(tmp_path)
    rows = {"bm25", "bm25-free", "unigen-base", "unigen-base-free", "unigen-iter", "unigen-iter-free"}
    assert {name.removesuffix("-seed0") for name in quality} == rows
    # BM25's context is copied from the first step on: a model that could not copy would find next to nothing.
    assert quality["unigen-base-seed0"]["R@10"] > 0.8
    assert quality["bm25"]["R@10"] > 0.9
    assert all(0 <= value <= 1 for row in quality.values() for name, value in row.items() if name != "questions")


@pytest.mark.slow
def test_squad_killed_half_way_gives_the_same_table(shared_data: Path, tmp_path: Path) -> None:
    rows = "bm25,unigen-base,foreign"
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def start(out: Path) -> subprocess.Popen[str]:
        options = {"--data": str(shared_data / "squad"), "--rows": rows, "--seeds": "1", "--scale": "tiny"}
        arguments = [part for option in options.items() for part in option]
        return subprocess.Popen(
            [sys.executable, "-m", "retgen", "run", "squad", *arguments, "--out", str(out), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    first = start(whole)
    printed, _ = first.communicate()
    assert first.returncode == 0
    assert {json.loads(line)["row"] for line in printed.splitlines()} == set(rows.split(","))

    # What comes before the training is the same in both.
    shutil.copytree(whole / "stages", killed / "stages", ignore=shutil.ignore_patterns("base-*", "foreign-*"))
    victim = start(killed)
    deadline = time.monotonic() + 300
    while not list(killed.glob("scratch/*/finetuning")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert len(_quality(killed)) < len(rows.split(","))
    again = start(killed)
    again.communicate()
    assert again.returncode == 0
    assert _quality(killed) == _quality(whole)

    quality = _quality(whole)
    # A foreign context holds the answer's document by chance only; one's own almost always.
    assert quality["foreign-seed0"]["R@1"] < 0.5 * quality["unigen-base-seed0"]["R@1"]
    assert quality["unigen-base-seed0"]["R@10"] >= 0.9

    [contexts] = whole.glob("stages/contexts-*")
    [collection] = whole.glob("stages/collection-*")
    test = read_questions(collection, "test")
    assert {question_split(triplet.query.id) for triplet in test} == {"test"}
    own = read_connectors(contexts / "test.jsonl")
    shuffled = read_connectors(contexts / "shuffled.jsonl")
    assert [query.id for query in own] == [query.id for query in shuffled] == [triplet.query.id for triplet in test]
    for query, other in zip(own, shuffled, strict=True):
        assert sorted(query.input_text.split()) == sorted(other.input_text.split())


@pytest.mark.slow
def test_learning_curves_over_seeds(tmp_path: Path) -> None:
    run_recipe("almanac-curves", None, tmp_path / "out", scale="tiny", seeds=[0, 1])
    retrieval, answers = curves(tmp_path / "out", "base")
    assert list(np.asarray(retrieval.positions)) == list(np.asarray(answers.positions)) == [2, 4, 6]
    assert np.asarray(retrieval.values).shape == (2, 3)
    assert (np.asarray(retrieval.values) > 0.5).all()
    picture = tmp_path / "curves.png"
    result = CliRunner().invoke(app, ["curves", str(tmp_path / "out"), "--out", str(picture)])
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no finished training stage 'bass'"):
        curves(tmp_path / "out", "bass")


@pytest.mark.slow
def test_rounds_of_several_recipes_are_run_and_drawn_by_one_command(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `retgen curves --iterations almanac-rounds squad-rounds`, over a dozen passages."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    picture = tmp_path / "rounds.svg"
    recipes = [str(tmp_path / f"{name}.yaml") for name in ("one", "two")]
    for path, passages in zip(recipes, (10, 14), strict=True):
        content = yaml.safe_load(builtin_recipes()["squad-rounds"].read_text())
        content["name"] = Path(path).stem
        content["scales"]["tiny"]["defaults"]["unigen-train"]["steps"] = 4
        content["scales"]["tiny"]["stages"]["collection"]["params"]["limit_passages"] = passages
        Path(path).write_text(yaml.safe_dump(content, sort_keys=False))
    options = ["--data", str(shared_data / "squad"), "--seeds", "1", "--scale", "tiny", "--runs", str(tmp_path)]
    command = ["curves", "--iterations", *recipes, *options, "--out", str(picture)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert all(f"| round {number} " in result.output for number in range(6))
    assert picture.read_text().startswith("<?xml")
    said = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    for path in recipes:
        assert [point["round"] for point in said[path]["MRR@10"]] == list(range(6))
        out = tmp_path / f"{Path(path).stem}-tiny"
        table = _quality(out)
        for measure in ("MRR@10", "EM"):
            drawn = [point["values"] for point in said[path][measure]]
            assert drawn == [[pytest.approx(table[f"round{number}-seed0"][measure])] for number in range(6)]
        # Each round has a cost of its own: they do not all bear the sum.
        [rounds] = out.glob("stages/iterations-*")
        each = [float((rounds / f"round{number}.seconds").read_text()) for number in range(6)]
        assert sum(each) <= float((rounds / "test.seconds").read_text())
        assert min(each) > 0
