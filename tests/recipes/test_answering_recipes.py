"""The answering table at tiny scale, every row of it: what each row reads, what readers share, what is measured."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from retgen import almanac
from retgen.formats import read_run
from retgen.recipes import load_recipe, load_results, make_report, run_recipe
from retgen.recipes.measuring import read_answers
from retgen.recipes.plan import Planner
from retgen.recipes.writers import Author

pytest.importorskip("sentence_transformers")

PASSAGES = 24
READ = 2
"""Passages of a question at this scale."""
FOUND = {
    "dpr-fid": "dpr-search", "dsi-fid": "dsi-found", "nci-fid": "nci-found", "ultron-fid": "ultron-found",
    "bm25-fid": "bm25", "bm25-jpr-fid": "bm25-jpr", "unigen-fid": "base-answers", "unigen-jpr-fid": "unigen-jpr",
    "gold-fid": "gold", "rag-sequence": "dpr-search", "rag-token": "dpr-search",
}  # fmt: skip
"""Row → the stage whose passages it reads."""
FAIRYTALES = ("answers-fairytaleqa", "unigen-fairytaleqa", "fairytaleqa")


def squad_file(path: Path) -> Path:
    """Passages of the embedded data and their questions, as SQuAD has them."""
    asked: dict[str, list[dict[str, Any]]] = {}
    texts = {document.id: document for document in almanac.documents()[:PASSAGES]}
    for question in almanac.questions():
        own = asked.setdefault(question.doc_id, [])
        if question.doc_id in texts and len(own) < 12:
            answers = [{"text": text, "answer_start": 0} for text in question.answers]
            own.append({"id": question.id, "question": question.text, "answers": answers})
    data = [
        {"title": document.title, "paragraphs": [{"context": document.text, "qas": asked[doc_id]}]}
        for doc_id, document in texts.items()
    ]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"version": "1.1", "data": data}))
    return path.parent


def in_this_process(path: Path) -> Path:
    """The built-in recipe, all stages in this process: as many processes would spend their time on imports."""
    stages = {name: {"isolated": False} for name in load_recipe("answers-local").stages}
    content = {"extends": "answers-local", "name": "answers-here", "seeds": 1, "stages": stages}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    home = tmp_path_factory.mktemp("answers")
    data = squad_file(home / "data" / "dev-v1.1.json")
    results = run_recipe(in_this_process(home / "answers.yaml"), data, home / "out", scale="tiny")
    return home / "out", {row.row: {**row.values, "stages": row.stages} for row in results.rows}


def _stage(out: Path, name: str) -> Path:
    (found,) = [path for path in (out / "stages").iterdir() if path.name.rpartition("-")[0] in (name, f"{name}-seed0")]
    return found


def _answers(out: Path, row: str) -> Path:
    return _stage(out, f"{row}-answers" if row.startswith("rag") else row)


@pytest.mark.parametrize("name", ["answers-local", "answers-fairytaleqa"])
@pytest.mark.parametrize("scale", ["local", "tiny"])
def test_built_in_recipes_load(name: str, scale: str) -> None:
    alone = load_recipe(name, scale=scale)
    assert alone.rows.keys() == load_recipe("answers-local").rows.keys()
    beside = load_recipe(name, scale=scale, author=Author(model="some/model"))
    sections = {row: spec.section for row, spec in beside.rows.items() if row not in alone.rows}
    assert sections == {"prompted": "Closed book", "prompted-jpr": "Beyond the paper"}
    # Each section stands together.
    order = [spec.section for spec in beside.rows.values()]
    assert [section for section, _ in itertools.groupby(order)] == list(dict.fromkeys(order))


@pytest.mark.parametrize("pair", [("answers-local", "unigen-local", "squad"), FAIRYTALES])
@pytest.mark.parametrize("scale", ["local", "tiny"])
def test_what_the_retrieval_table_has_made_is_not_made_again(
    pair: tuple[str, str, str], scale: str, shared_data: Path
) -> None:
    answers, retrieval, data = pair
    stages = []
    for name in (answers, retrieval):
        rows = Planner(load_recipe(name, scale=scale), shared_data / data).rows(None, [0])
        stages.append({planned.name: planned.folder_name for row in rows for planned in row.stages()})
    shared = stages[0].keys() & stages[1].keys()
    assert {"bm25", "dpr-search", "base-answers", "iterations", "nci", "unigen-jpr"} <= shared
    assert {stages[0][name] for name in shared} == {stages[1][name] for name in shared}


@pytest.mark.slow
def test_every_row_is_measured(ran: Any) -> None:
    _, rows = ran
    assert rows.keys() == load_recipe("answers-local").rows.keys()
    for name, values in rows.items():
        assert 0 <= values["EM"] <= values["F1"] <= 1, name
        assert 0 <= values["BLEU-1"] <= 1, name
        assert 0 <= values["ROUGE-L"] <= 1, name
    # A span is copied from what was shown with it.
    assert rows["bm25-span"]["answer_in_passages"] == rows["bm25-span"]["answer_in_source"] == 1.0


@pytest.mark.slow
def test_closed_book_reads_nothing(ran: Any) -> None:
    out, rows = ran
    for row, answers in (("closed-book", "closed-answers"), ("closed-book-t5", "closed-t5-answers")):
        assert not {"bm25", "dpr", "bm25-training"} & rows[row]["stages"].keys()
        assert "R@1" not in rows[row]
        said = read_answers(_stage(out, answers))
        assert said
        assert not any(answer.passages or answer.source for answer in said)


@pytest.mark.slow
def test_fid_rows_share_the_reader_and_differ_in_their_passages(ran: Any) -> None:
    out, rows = ran
    fid = [row for row in FOUND if row.endswith("-fid")]
    assert len({rows[row]["stages"]["fid"]["key"] for row in fid}) == 1
    read = {}
    for row, first in FOUND.items():
        found = read_run(_stage(out, first) / "test.run")
        said = read_answers(_answers(out, row))
        assert said
        read[row] = [answer.passages for answer in said]
        assert read[row] == [tuple(found.doc_ids(answer.query_id)[:READ]) for answer in said], row
        cited = [answer for answer in said if answer.text]
        assert all(answer.source in answer.passages for answer in cited), row
    assert len({json.dumps(read[row]) for row in fid}) == len(fid)
    assert read["rag-sequence"] == read["rag-token"] == read["dpr-fid"]


@pytest.mark.slow
def test_the_right_passage_is_first_where_search_is_perfect(ran: Any) -> None:
    _, rows = ran
    assert rows["gold-fid"]["R@1"] == 1.0
    assert rows["bm25-fid"]["R@1"] < 1.0
    # Of ten passages JPR changes the order alone.
    assert rows["bm25-jpr-fid"]["R@1"] <= rows["bm25-jpr-fid"]["R@5"] <= 1.0


@pytest.mark.slow
def test_answers_are_calibrated_on_dev_questions(ran: Any) -> None:
    out, rows = ran
    # Readers of a few steps say nothing yet; UniGen's span head always does.
    stages = {"base-answered": "base-answers-measured", "iter-answered": "iter-answers-measured"}
    for row, stage in stages.items():
        assert 0 <= rows[row]["ece"] <= 1
        assert 0 <= rows[row]["aurc"] <= 1
        assert rows[row]["calibrated_on"] >= 2
        kept = json.loads((_stage(out, stage) / "calibration.json").read_text())
        assert kept["threshold"] == rows[row]["threshold"]
        assert kept["test_curve"]["coverage"][-1] == pytest.approx(1.0)
    # Nothing says how sure a span without a model is on dev questions.
    assert "ece" not in rows["bm25-span"]


@pytest.mark.slow
def test_sections_are_tested_apart_and_parts_held_against_each_other(ran: Any) -> None:
    out, _ = ran
    report = make_report(load_results(out))
    assert report.against["closed-book-t5"] == "closed-book"
    assert report.against["rag-token"] == "dpr-fid"
    assert report.against["unigen-jpr-fid"] == "bm25-fid"
    assert "bm25-span" not in report.against
    assert ("bm25-jpr-fid", "bm25-fid") in report.contrasts["F1"]
    assert "BM25 → FiD − Closed book" in report.render_differences("md")
    for section in ("Closed book", "Open book", "Beyond the paper", "Controls"):
        assert report.render("md").count(f"*{section}*") == 1
