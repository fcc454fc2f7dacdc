"""The recipes of re-ranking tables, every stage of them run on small data in the published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retgen.formats import read_run
from retgen.recipes import load_recipe, make_report, run_recipe
from retgen.recipes.sources import builtin_recipes
from retgen.types import question_split
from tests.recipes import published

PARTS = {"bm25", "cross_encoder", "generator"}


def _values(out: Path) -> dict[str, dict[str, Any]]:
    paths = [path for path in (out / "results").glob("*.json") if not path.name.startswith("_")]
    return {path.stem.removesuffix("-seed0"): json.loads(path.read_text())["values"] for path in paths}


def _stage(out: Path, name: str) -> Path:
    (found,) = [path for path in (out / "stages").iterdir() if path.name.rpartition("-")[0] in (name, f"{name}-seed0")]
    return found


@pytest.mark.parametrize("name", ["jpr-local", "jpr-nq", "jpr-triviaqa", "jpr-beir", "jpr-sizes", "jpr-switches"])
@pytest.mark.parametrize("scale", ["local", "tiny"])
def test_built_in_recipes_load(name: str, scale: str) -> None:
    assert name in builtin_recipes()
    assert load_recipe(name, scale=scale).rows


@pytest.mark.slow
def test_natural_questions_runs_every_row(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    published.write_dpr(data)
    published.save_models(data / "models")
    results = run_recipe("jpr-nq", data, out, scale="tiny")
    rows = _values(out)
    assert set(rows) == set(load_recipe("jpr-nq").rows)
    assert all(0 <= values["Success@1"] <= values["Success@20"] <= 1 for values in rows.values())
    # Names in the questions: BM25 finds them, whatever untrained models make of its list.
    assert rows["bm25"]["Success@10"] >= 0.75
    # Re-ranking the first ten changes what is first, never what is among them.
    assert len({values["Success@10"] for values in rows.values()}) == 1
    assert rows["jpr"]["weights"].count(",") == 1
    joint = read_run(_stage(out, "jpr") / "test.run")
    assert {"cross_encoder", "generator"} <= set(joint.component_names)
    table = make_report(results).render("md")
    assert "JPR (published)" in table
    assert "0.510" in table


@pytest.mark.slow
def test_sizes_run_every_row(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    published.write_dpr(data, passages=12, questions=6)
    run_recipe("jpr-sizes", data, out, scale="tiny")
    rows = _values(out)
    assert set(rows) == set(load_recipe("jpr-sizes").rows)
    assert rows["jpr-t5-base"]["weights"] == "0.5, 0.5"
    assert rows["ce-tinybert"]["parameters"] > 0


@pytest.mark.slow
def test_beir_runs_every_row(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    recipe = load_recipe("jpr-beir", scale="tiny")
    folders = {
        spec.data[0].removesuffix("/corpus.jsonl") for spec in recipe.stages.values() if spec.kind == "beir-collection"
    }
    assert len(folders) == 14 - 1 + 12 + 1  # fourteen public sets, one of them twelve forums, and TREC-DL's MS MARCO
    for folder in folders:
        splits = ("train", "dev", "test") if folder == "msmarco" else ("test",)
        published.write_beir(data / folder, splits=splits)
    published.save_models(data / "models")
    run_recipe("jpr-beir", data, out, scale="tiny")
    rows = _values(out)
    assert set(rows) == set(recipe.rows)
    forums = [values["nDCG@10"] for name, values in rows.items() if name.startswith("cqa-") and name.endswith("-bm25")]
    assert len(forums) == 12
    assert rows["cqadupstack-bm25"]["nDCG@10"] == pytest.approx(sum(forums) / 12)
    sets = [
        name for name in recipe.rows if name.endswith("-jpr") and not name.startswith(("cqa-", "average", "msmarco"))
    ]
    assert len(sets) == 14
    assert rows["average-jpr"]["nDCG@10"] == pytest.approx(sum(rows[name]["nDCG@10"] for name in sets) / 14)


@pytest.mark.slow
def test_local_runs_every_row_of_a_collection(shared_data: Path, tmp_path: Path) -> None:
    rows_of = [name for name in load_recipe("jpr-local").rows if name.startswith("scifact-")]
    wanted = [name for name in rows_of if name != "scifact-minilm"]  # its encoder is not a tiny one
    results = run_recipe("jpr-local", shared_data, tmp_path, rows=wanted, scale="tiny")
    rows = _values(tmp_path)
    assert set(rows) == set(wanted)
    both = read_run(_stage(tmp_path, "scifact-bm25-both-z") / "test.run")
    assert set(both.component_names) >= PARTS
    collection = _stage(tmp_path, "scifact")
    for split in ("train", "dev"):
        ids = [json.loads(line)["id"] for line in (collection / f"{split}.jsonl").read_text().splitlines()]
        assert ids
        assert {question_split(query_id) == "train" for query_id in ids} == {split == "train"}
    report = make_report(results)
    assert set(report.against.values()) == {"scifact-bert-ft"}
    assert _values(tmp_path)["scifact-jpr-ft"].keys() >= {"Success@1", "RR@10", "nDCG@10", "weights"}


@pytest.mark.slow
def test_switches_are_measured_on_dev_questions_alone(shared_data: Path, tmp_path: Path) -> None:
    wanted = ["ce", "ce-no-marks", "ce-binary"]
    run_recipe("jpr-switches", shared_data, tmp_path, rows=wanted, scale="tiny")
    rows = _values(tmp_path)
    assert set(rows) == set(wanted)
    assert rows["ce"]["questions"] == 10
    marks = {
        name: json.loads((_stage(tmp_path, name) / "cross-encoder" / "config.json").read_text()).get("match_marks")
        for name in wanted
    }
    assert marks == {"ce": True, "ce-no-marks": None, "ce-binary": True}
    for name in wanted:
        folder = _stage(tmp_path, f"{name}-run")
        assert set(read_run(folder / "dev.run").query_ids)
        assert not (folder / "test.run").exists()
