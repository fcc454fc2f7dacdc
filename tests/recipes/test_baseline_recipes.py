"""The rows without docids, trained for real on a toy collection: each fails if its idea is taken out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from retgen.formats.jsonl import read_triplets
from retgen.recipes import StageError, load_recipe, load_results, make_report, run_recipe
from retgen.recipes.sources import builtin_recipes
from tests.recipes import published
from tests.train.toy_retrieval import COLOURS, DOCUMENTS, PAIRS, THINGS

pytest.importorskip("sentence_transformers")
ROWS = ["bm25", "doct5query", "doc2statements", "dpr", "ance", "ance-hnsw"]
MANNERS = ("?", " please?", " now?", " today?", " again?", " here?", " there?")


def toy_squad(folder: Path) -> Path:
    """Passages whose questions share no word with them; every passage has questions of several splits."""
    paragraphs = []
    for colour, thing in PAIRS:
        text = DOCUMENTS[f"{colour}-{thing}"].text
        asked = [
            {
                "id": f"{colour}-{thing}-{number}",
                "question": f"{COLOURS[colour]} {THINGS[thing]}{manner}",
                "answers": [{"text": thing, "answer_start": text.index(thing)}],
            }
            for number, manner in enumerate(MANNERS)
        ]
        paragraphs.append({"context": text, "qas": asked})
    folder.mkdir()
    (folder / "dev-v1.1.json").write_text(
        json.dumps({"version": "1.1", "data": [{"title": "Toys", "paragraphs": paragraphs}]})
    )
    return folder


def toy_recipe(path: Path) -> Path:
    """The built-in recipe with sizes for the toy, all in this process."""
    content = yaml.safe_load(builtin_recipes()["squad-baselines"].read_text())
    content |= {
        "name": "toy",
        "seeds": 1,
        "scales": {},
        "defaults": {
            "doc2query-train": {"source": "scratch:tiny", "steps": 150, "batch_size": 16},
            "pseudo-queries": {"number": 4, "max_length": 24, "top_k": 3},
            "dpr-train": {
                "source": "scratch:tiny", "steps": 80, "batch_size": 12, "negatives": 2, "learning_rate": 1e-3,
            },
            "ance-train": {
                "rounds": 2, "steps": 15, "batch_size": 8, "negatives": 2, "learning_rate": 3e-4, "depth": 6,
            },
        },
    }  # fmt: skip
    for stage in content["stages"].values():
        stage["isolated"] = False
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    home = tmp_path_factory.mktemp("baselines")
    recipe, data = toy_recipe(home / "toy.yaml"), toy_squad(home / "data")
    results = run_recipe(recipe, data, home / "out", rows=ROWS)
    return home / "out", {row.row: dict(row.values) for row in results.rows}


@pytest.mark.parametrize("scale", ["tiny", "local", "gpu"])
def test_the_built_in_recipe_loads(scale: str) -> None:
    assert {*ROWS, "minilm", "ance-pq"} == set(load_recipe("squad-baselines", scale=scale).rows)


@pytest.mark.slow
def test_doct5query_finds_by_questions_what_words_do_not(ran: Any) -> None:
    out, rows = ran
    assert rows["bm25"]["MRR@10"] < 0.1
    assert rows["doct5query"]["MRR@10"] > 0.6
    # It is the generator's questions that do it: those made of the passages' own words add nothing.
    assert rows["doc2statements"]["MRR@10"] == pytest.approx(rows["bm25"]["MRR@10"], abs=0.02)
    [pseudo] = out.glob("stages/pseudo-seed0-*")
    made = list(read_triplets(pseudo / "pseudo.jsonl"))
    assert {doc_id for triplet in made for doc_id in triplet.doc_ids} == {f"Toys#{n}" for n in range(25)}
    assert 25 < len(made) <= 4 * 25


@pytest.mark.slow
def test_dpr_learns_what_words_do_not_say(ran: Any) -> None:
    _, rows = ran
    assert rows["dpr"]["MRR@10"] > 0.8
    assert rows["dpr"]["parameters"] > 100_000


@pytest.mark.slow
def test_ance_refreshes_its_negatives_and_does_not_forget(ran: Any) -> None:
    out, rows = ran
    assert rows["ance"]["new_negatives"] > 0.05
    assert rows["ance"]["MRR@10"] > rows["dpr"]["MRR@10"] - 0.1
    # Its model is another than DPR's, from which it began.
    [dpr], [ance] = out.glob("stages/dpr-seed0-*"), out.glob("stages/ance-seed0-*")
    weights = [next(folder.glob("bi-encoder/**/model.safetensors")).read_bytes() for folder in (dpr, ance)]
    assert weights[0] != weights[1]
    assert len(weights[0]) == len(weights[1])
    # Over so few documents a graph finds what comparing all finds.
    assert rows["ance-hnsw"]["MRR@10"] == pytest.approx(rows["ance"]["MRR@10"], abs=1e-6)


@pytest.mark.slow
def test_every_row_says_what_it_costs_and_the_report_comes_in_every_form(ran: Any) -> None:
    out, rows = ran
    for name in ROWS:
        assert rows[name]["index_bytes"] > 0
        assert rows[name]["ms"] > 0
    for name in ("doct5query", "dpr", "ance"):
        assert rows[name]["train"] > 0
        assert rows[name]["parameters"] > 0
    assert rows["ance"]["train"] > rows["dpr"]["train"]
    report = make_report(load_results(out))
    for form, mark in (("md", "†"), ("latex", r"\dag"), ("csv", "†"), ("html", "†")):
        text = report.render(form)  # type: ignore[arg-type]
        assert mark in text
        for header in ("DPR", "DocT5Query", "ANCE"):
            assert header in text


@pytest.mark.slow
def test_what_a_stage_needs_is_named(tmp_path: Path) -> None:
    data = toy_squad(tmp_path / "data")
    content = yaml.safe_load(toy_recipe(tmp_path / "toy.yaml").read_text())
    content["stages"]["minilm"]["params"] = {"model": ""}
    content["stages"]["pseudo"] = {"kind": "pseudo-queries", "needs": ["collection"], "isolated": False}
    content["stages"]["bm25-size"]["params"] = {"folder": "nowhere"}
    content["defaults"]["doc2query-train"]["steps"] = 1
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    for row, said in (("minilm", "one model"), ("doct5query", "one generator"), ("bm25", "nowhere")):
        with pytest.raises(StageError, match=said):
            run_recipe(tmp_path / "bad.yaml", data, tmp_path / "out", rows=[row])


@pytest.mark.slow
def test_every_stage_goes_over_dprs_files_with_the_papers_shapes(tmp_path: Path) -> None:
    """Two towers, first token, inner product; checkpoints by name; a filter: everything a full-size recipe names."""
    data = tmp_path / "data"
    published.write_dpr(data, passages=12, questions=6)
    published.save_models(data / "models")
    source = f"warm:{data / 'models' / 'cross-encoder'}"
    files = ["psgs_w100.tsv", "biencoder-nq-train.json", "biencoder-nq-dev.json"]
    content = yaml.safe_load(toy_recipe(tmp_path / "toy.yaml").read_text())
    stages = content["stages"]
    splits = {"train": files[1], "dev": files[2], "test": files[2]}
    stages["collection"] = {"kind": "dpr-collection", "data": files, "params": splits}
    stages["pseudo"] = {"kind": "pseudo-queries", "needs": ["collection"], "isolated": False, "data": ["models/**/*"]}
    content["data"] = {"files": files}
    content["modules"] = [*content["modules"], "retgen.recipes.ranking_collections"]
    content["rows"]["doct5query"]["needs"] = ["doct5query-measured", "doct5query-size"]
    content["defaults"] = {
        "doc2query-train": {"source": "scratch:tiny", "steps": 1},
        "pseudo-queries": {"number": 3, "max_length": 64, "temperature": 0.9},
        "dpr-train": {
            "source": source, "towers": 2, "pooling": "cls", "similarity": "dot", "max_length": 48, "epochs": 1,
            "batch_size": 4, "eval_steps": 2,
        },
        "ance-train": {"rounds": 1, "steps": 1, "batch_size": 4, "depth": 5, "index": "hnsw"},
    }  # fmt: skip
    stages["pseudo"]["params"] = {"model": "models/t5", "cross_encoder": "models/cross-encoder", "keep": 2}
    stages["statements"]["params"] = {"model": "offline"}
    (tmp_path / "nq.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    results = run_recipe(tmp_path / "nq.yaml", data, tmp_path / "out", rows=ROWS)
    values = {row.row: row.values for row in results.rows}
    assert set(values) == set(ROWS)
    assert all(0 <= row["MRR@10"] <= 1 for row in values.values())
    assert values["dpr"]["parameters"] == values["ance"]["parameters"] > 0
    [pseudo] = (tmp_path / "out").glob("stages/pseudo-seed0-*")
    asked = Counter(triplet.doc_ids for triplet in read_triplets(pseudo / "pseudo.jsonl"))
    assert set(asked.values()) <= {1, 2}
