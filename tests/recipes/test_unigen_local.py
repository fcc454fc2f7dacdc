"""The whole retrieval table on somebody's own BEIR folder, as the docs say, every row of it at tiny scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from retgen import almanac
from retgen.formats import read_run
from retgen.generative.unigen import UniGen
from retgen.recipes import load_recipe, load_results, make_report, run_recipe
from retgen.recipes.collections import read_questions
from retgen.types import question_split

pytest.importorskip("sentence_transformers")

OWN = """
extends: unigen-local
name: my-table
description: "My documents; test questions."
data: {about: "a BEIR folder", files: [corpus.jsonl, queries.jsonl, "qrels/*.tsv"]}
seeds: 1
stages:
  collection: {kind: beir-collection, data: [corpus.jsonl, queries.jsonl, "qrels/*.tsv"], params: {resplit: true}}
"""
PASSAGES = 40
QUESTIONS = 6
UNASKED = 10
UNANSWERED = 30
"""So many questions have no answer, as in BEIR's own collections."""


def beir_folder(place: Path) -> Path:
    """Passages of the embedded data and some of their questions, most of them with answers."""
    documents = almanac.documents()[:PASSAGES]
    kept = {document.id for document in documents}
    asked: dict[str, list[almanac.AlmanacQuestion]] = {}
    for question in almanac.questions("train"):
        if question.doc_id in kept:
            asked.setdefault(question.doc_id, []).append(question)
    # About the last passages only such questions as are kept for testing: nobody trains on these passages.
    unasked = {document.id for document in documents[-UNASKED:]}
    questions = [
        question
        for doc_id, own in asked.items()
        for question in (
            [each for each in own if question_split(each.id) == "test"] if doc_id in unasked else own[:QUESTIONS]
        )
    ]
    (place / "qrels").mkdir(parents=True)
    with (place / "corpus.jsonl").open("w") as lines:
        for document in documents:
            lines.write(json.dumps({"_id": document.id, "title": document.title, "text": document.text}) + "\n")
    with (place / "queries.jsonl").open("w") as lines:
        for number, question in enumerate(questions):
            answers = {} if number < UNANSWERED else {"answers": list(question.answers)}
            lines.write(json.dumps({"_id": question.id, "text": question.text, **answers}) + "\n")
    judged = [f"{question.id}\t{question.doc_id}\t1" for question in questions]
    (place / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")
    return place


def written(path: Path) -> Path:
    """The recipe of the docs, all stages in this process: 70 processes would spend their time on imports."""
    content = yaml.safe_load(OWN)
    for name in load_recipe("unigen-local").stages:
        content["stages"].setdefault(name, {})["isolated"] = False
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    home = tmp_path_factory.mktemp("own")
    results = run_recipe(written(home / "own.yaml"), beir_folder(home / "data"), home / "out", scale="tiny")
    return home / "out", {row.row: dict(row.values) for row in results.rows}


def _stage(out: Path, name: str) -> Path:
    (found,) = [path for path in (out / "stages").iterdir() if path.name.rpartition("-")[0] in (name, f"{name}-seed0")]
    return found


@pytest.mark.parametrize("name", ["unigen-local", "unigen-fairytaleqa"])
@pytest.mark.parametrize("scale", ["local", "tiny"])
def test_built_in_recipes_load(name: str, scale: str) -> None:
    assert load_recipe(name, scale=scale).rows.keys() == load_recipe("unigen-local").rows.keys()


@pytest.mark.slow
def test_every_row_is_made_of_ones_own_documents(ran: Any) -> None:
    out, rows = ran
    assert rows.keys() == load_recipe("unigen-local").rows.keys()
    for name, values in rows.items():
        assert 0 <= values["R@1"] <= values["R@5"] <= values["R@10"] <= 1, name
    # The questions name what they ask about.
    assert rows["bm25"]["R@10"] > 0.8
    found = {split: read_questions(_stage(out, "collection"), split) for split in ("train", "dev", "test")}
    assert len(found["train"]) > 3 * len(found["test"]) > 0 < len(found["dev"])
    assert sum(not triplet.answers for own in found.values() for triplet in own) == UNANSWERED


@pytest.mark.slow
def test_questions_about_passages_without_training_questions_are_told_apart(ran: Any) -> None:
    out, rows = ran
    collection = _stage(out, "collection")
    trained = {doc_id for triplet in read_questions(collection, "train") for doc_id in triplet.doc_ids}
    new = [triplet for triplet in read_questions(collection, "test") if trained.isdisjoint(triplet.doc_ids)]
    run = read_run(_stage(out, "bm25") / "test.run")
    assert len(new) >= UNASKED / 2
    found = [bool({*triplet.doc_ids} & {*run.doc_ids(triplet.query.id)[:10]}) for triplet in new]
    assert rows["bm25"]["unseen_R@10"] == pytest.approx(sum(found) / len(found))
    assert all(0 <= values["unseen_R@10"] <= 1 for values in rows.values())


@pytest.mark.slow
def test_the_ablations_leave_out_what_they_say(ran: Any) -> None:
    out, rows = ran
    assert rows["wo-shared-encoder"]["parameters"] > rows["unigen-base"]["parameters"]
    base, coded, plain = (UniGen.open(_stage(out, name) / "unigen") for name in ("base", "coded", "plain"))
    assert base.model.answer_encoder is None
    assert all(word.isdigit() for word in coded.table.text(0).split())
    assert not base.table.text(0).replace(" ", "").isdigit()
    contexts = [json.loads(line) for line in (_stage(out, "coded-contexts") / "test.jsonl").open()]
    shown = contexts[0]["connector"]["text"].split(" | ")[1].split(" » ")[0]
    assert shown in {coded.table.text(number) for number in range(len(coded.table))}
    assert plain.settings.context == ""
    again = [json.loads(line) for line in (_stage(out, "plain-iterations") / "round1.connectors.jsonl").open()]
    assert again[0]["connector"]["writer"] == "concatenation"
    assert again[0]["connector"]["text"].startswith(again[0]["text"])


@pytest.mark.slow
def test_controls_give_every_document_anothers_docid(ran: Any) -> None:
    out, _ = ran
    for name, control in (("dsi-lead", "dsi-lead-permuted"), ("nci", "nci-permuted"), ("base", "random")):
        one, other = (UniGen.open(_stage(out, stage) / "unigen").table for stage in (name, control))
        texts = [[table.text(number) for number in range(len(table))] for table in (one, other)]
        assert sorted(texts[0]) == sorted(texts[1]), name
        assert sum(a == b for a, b in zip(*texts, strict=True)) < PASSAGES / 4, name


@pytest.mark.slow
def test_reranking_orders_what_the_first_stage_found(ran: Any) -> None:
    out, rows = ran
    for first, row, before in (("base-answers", "unigen-jpr", "unigen-base"), ("bm25", "bm25-jpr", "bm25")):
        found, ordered = read_run(_stage(out, first) / "test.run"), read_run(_stage(out, row) / "test.run")
        for query_id in found.query_ids:
            assert set(ordered.doc_ids(query_id)) == set(found.doc_ids(query_id)[:10])
        assert rows[row]["R@10"] == pytest.approx(rows[before]["R@10"], abs=1e-9)


@pytest.mark.slow
def test_the_report_has_the_papers_sections(ran: Any) -> None:
    out, _ = ran
    table = make_report(load_results(out)).render("md")
    for section in ("Sparse retrieval", "Generative retrieval", "Ablations", "Controls"):
        assert f"*{section}*" in table
    assert "UniGen-Iter w/o Q-Connector" in table
