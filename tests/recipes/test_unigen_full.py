"""The recipes of UniGen's tables at the paper's size: every row and stage over small files in the published formats.

The answering table of a collection stands on the stages of its retrieval table: so do their tests.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retgen.answer.folder import open_reader
from retgen.cli import app
from retgen.connect.files import read_texts
from retgen.corpus import Corpus
from retgen.docids.table import DocidTable
from retgen.formats import read_run
from retgen.formats.jsonl import read_triplets
from retgen.generative.unigen import UniGen
from retgen.recipes import load_recipe, load_results, make_report, run_recipe, unigen
from retgen.recipes.collections import read_questions
from retgen.recipes.measuring import read_answers
from retgen.recipes.plan import Planner
from retgen.recipes.report import Report
from retgen.recipes.sources import builtin_recipes
from retgen.recipes.writers import Author
from retgen.train.examples import UniGenExample, pretraining_examples
from retgen.types import DocumentSource, Triplet
from tests.llm.serving import MODEL, save_chat_model, served
from tests.recipes import published
from tests.recipes.paper_tables import TABLE_1, TABLE_2, TABLE_3, lines
from tests.recipes.paper_tables import published as published_in

pytest.importorskip("faiss")
pytest.importorskip("sentence_transformers")

RANKS = ("R@1", "R@5", "R@10", "MRR@10")


def test_the_published_numbers_are_the_papers() -> None:
    tables = {"unigen-msmarco": published_in("unigen-msmarco"), "unigen-nq": published_in("unigen-nq")}
    one, three = lines(TABLE_1), lines(TABLE_3)
    for label, values in one.items():
        for name, own in (("unigen-msmarco", values[:4]), ("unigen-nq", values[4:])):
            assert [tables[name][label][key] for key in RANKS] == own, (name, label)
    for label, values in three.items():
        found = tables["unigen-msmarco"][label]
        assert [found[key] for key in ("R@1", "R@10", "BLEU-1", "ROUGE-L")] == values, label
    for label, values in lines(TABLE_2).items():
        if label.startswith("UniGen"):
            assert [tables["unigen-nq"][label][key] for key in ("EM", "F1")] == values[2:]
    assert set(tables["unigen-msmarco"]) == {*one, *three}
    assert set(tables["unigen-nq"]) == set(one)


@pytest.mark.parametrize("name", ["unigen-msmarco", "unigen-nq"])
@pytest.mark.parametrize("scale", ["local", "tiny", "full"])
def test_they_load(name: str, scale: str) -> None:
    assert name in builtin_recipes()
    recipe = load_recipe(name, scale=scale)
    written = load_recipe(name, scale=scale, author=Author(model="some/model"))
    # A row of the paper's UniGen is only what reads the paper's connectors; what stands in for them says so.
    new = [row for row in written.rows if row not in recipe.rows]
    assert len(new) == 8
    assert all(written.rows[row].section == "UniGen, connectors by some/model" for row in new)
    trained = [row for row in recipe.rows.values() if row.section == "UniGen, BM25 context"]
    assert len(trained) == 8
    assert all("BM25 context" in row.label for row in trained)
    names = [row.label for row in written.rows.values() if row.section == "UniGen, connectors by some/model"]
    assert set(names) == set(lines(TABLE_3))


@pytest.fixture(scope="module")
def nq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of Natural Questions, and small checkpoints in the place of the hub's."""
    home = tmp_path_factory.mktemp("nq")
    published.write_dpr(home / "data", questions=30)
    published.save_answering_models(home / "data" / "models")
    return home


@pytest.fixture(scope="module")
def msmarco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of MS MARCO QnA, and small checkpoints in the place of the hub's."""
    home = tmp_path_factory.mktemp("msmarco")
    published.write_msmarco_qna(home / "data")
    published.save_answering_models(home / "data" / "models")
    return home


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What the command line is told of a language model, which is served as long as the tests last."""
    place = tmp_path_factory.mktemp("chat")
    save_chat_model(place, positions=4096)
    with served(place) as url:
        yield ["--writer", "chat", "--endpoint", url, "--model", MODEL, "--max-tokens", "6"]


def _beside(home: Path) -> Path:
    """An output folder for answers, with the stages that the retrieval table has made there: as the docs do it."""
    if (home / "out" / "stages").exists():
        shutil.copytree(home / "out" / "stages", home / "answers" / "stages", copy_function=os.link)
    return home / "answers"


def _stage(out: Path, name: str) -> Path:
    (found,) = [path for path in (out / "stages").iterdir() if path.name.rpartition("-")[0] in (name, f"{name}-seed0")]
    return found


def _values(out: Path) -> dict[str, dict[str, Any]]:
    paths = [path for path in (out / "results").glob("*.json") if not path.name.startswith("_")]
    return {path.stem.removesuffix("-seed0"): json.loads(path.read_text())["values"] for path in paths}


def _system(out: Path, name: str) -> UniGen:
    return UniGen.open(_stage(out, name) / "unigen", device="cpu")


def _texts(table: DocidTable) -> list[str]:
    return [table.text(number) for number in range(len(table))]


def _check_rows(rows: dict[str, dict[str, Any]], wanted: Iterable[str], answered: tuple[str, str]) -> None:
    assert set(rows) == set(wanted)
    for name, values in rows.items():
        assert all(0 <= values[key] <= 1 for key in RANKS), name
        assert values["R@1"] <= values["MRR@10"] <= values["R@10"], name
        assert values["index_bytes"] > 0, name
        unified = name.startswith(("unigen", "wo-", "iter-", "written"))
        assert all((column in values) == unified for column in answered), name


@pytest.mark.slow
def test_natural_questions_runs_every_row(nq: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data, out = nq / "data", nq / "out"
    in_blocks: list[bool] = []

    def watched(
        pseudo: list[Triplet], documents: DocumentSource, table: DocidTable, *, docid_in_input: bool
    ) -> list[UniGenExample]:
        in_blocks.append(docid_in_input)
        return pretraining_examples(pseudo, documents, table, docid_in_input=docid_in_input)

    monkeypatch.setattr(unigen, "pretraining_examples", watched)
    results = run_recipe("unigen-nq", data, out, scale="tiny")
    rows, recipe = _values(out), load_recipe("unigen-nq")
    _check_rows(rows, [name for name, row in recipe.rows.items() if row.needs], ("EM", "F1"))
    # Names in the questions: BM25 finds them, whatever untrained models do.
    assert rows["bm25"]["R@10"] == 1.0
    assert rows["dpr"]["parameters"] == rows["ance"]["parameters"]
    assert rows["wo-shared-encoder"]["parameters"] > rows["unigen-base"]["parameters"]
    # What stands in for a context in pre-training has blocks only where contexts have.
    assert in_blocks == [True, True, False, True]
    table = make_report(results, resamples=100).render("md")
    assert "UniGen-Iter (published)" in table
    assert "64.92" in table
    assert "w/o D-Connector" not in table  # the paper has no ablations there
    assert read_questions(_stage(out, "collection"), "test")
    assert not _system(out, "dsi-qg").model.config.answers


@pytest.mark.slow
def test_ms_marco_runs_every_row_with_connectors_of_a_language_model(
    msmarco: Path, chat: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data, out = msmarco / "data", msmarco / "out"
    arguments = ["run", "unigen-msmarco", "--data", str(data), "--scale", "tiny", "--out", str(out), "--json"]
    ran = CliRunner().invoke(app, [*arguments, *chat])
    assert ran.exit_code == 0, ran.output
    rows = _values(out)
    recipe = load_recipe("unigen-msmarco", author=Author(model=MODEL))
    _check_rows(rows, [name for name, row in recipe.rows.items() if row.needs], ("BLEU-1", "ROUGE-L"))

    written = {name: values for name, values in rows.items() if "tokens" in values}
    assert set(written) == {name for name in rows if name.startswith("written")}
    assert rows["written-iter"]["tokens"] > rows["written-base"]["tokens"] > rows["written-wo-q-connector"]["tokens"]
    assert rows["written-iter-wo-q-connector"]["tokens"] == rows["written-wo-q-connector"]["tokens"]
    assert rows["written-wo-shared-encoder"]["parameters"] > rows["written-base"]["parameters"]

    # Docids are what the model wrote about documents, but for the ablation; and without it, their first words.
    corpus = Corpus.open(_stage(out, "collection") / "corpus")
    connectors = read_texts(_stage(out, "d-connectors") / "docids.jsonl")
    named = {name: _system(out, name).table for name in ("written", "written-coded-docids", "base")}
    assert _texts(named["written"]) == [connectors[document.id].text for document in corpus]
    assert named["written-coded-docids"].make_up.scheme == "semantic"
    assert all(document.text.startswith(text) for document, text in zip(corpus, _texts(named["base"]), strict=True))
    # Pre-training's questions are DocT5Query's, one a document here, and answered.
    asked = {triplet.query.id: triplet for triplet in read_triplets(_stage(out, "pseudo") / "pseudo.jsonl")}
    answered = list(read_triplets(_stage(out, "pseudo-answers") / "pseudo.jsonl"))
    assert set(Counter(triplet.doc_ids for triplet in answered).values()) == {1}
    assert all(asked[triplet.query.id].query == triplet.query for triplet in answered)
    assert any(triplet.answers for triplet in answered)
    assert _system(out, "written").settings.max_answer_tokens == 8

    table = make_report(load_results(out), resamples=100).render("md")
    assert f"UniGen, connectors by {MODEL}" in table
    for label, values in lines(TABLE_3).items():
        line = next(line for line in table.splitlines() if line.startswith(f"| {label} (published)"))
        assert f" {values[-1]:.2f} " in line


FOUND = {
    "dpr-fid": "dpr-search", "dsi-fid": "dsi-found", "nci-fid": "nci-found", "ultron-fid": "ultron-found",
    "bm25-fid": "bm25", "bm25-jpr-fid": "bm25-jpr", "unigen-fid": "base-found", "unigen-jpr-fid": "unigen-jpr",
    "gold-fid": "gold", "rag-sequence-answers": "dpr-search", "rag-token-answers": "dpr-search",
}  # fmt: skip
"""Stage of answers → the stage whose passages it reads."""


def _check_answers(out: Path, rows: dict[str, dict[str, Any]], wanted: Iterable[str]) -> None:
    assert set(rows) == set(wanted)
    for name, values in rows.items():
        assert 0 <= values["EM"] <= values["F1"] <= 1, name
        assert 0 <= values["BLEU-1"] <= 1, name
        assert 0 <= values["ROUGE-L"] <= 1, name
        assert ("R@1" in values) == (not name.startswith("closed-book") and name != "prompted"), name
    assert rows["gold-fid"]["R@1"] == 1.0
    for answers, first in FOUND.items():
        found = read_run(_stage(out, first) / "test.run")
        said = read_answers(_stage(out, answers))
        assert said
        assert [answer.passages for answer in said] == [tuple(found.doc_ids(a.query_id)[:2]) for a in said], answers
    models = {"closed-t5": "t5", "closed-bart": "bart", "rag-sequence": "bart", "rag-token": "bart", "fid": "t5"}
    for name, kind in models.items():
        assert open_reader(_stage(out, name) / "reader").model.config.model_type == kind, name


@pytest.mark.slow
def test_natural_questions_answers_in_every_row(nq: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    results = run_recipe("answers-nq", nq / "data", _beside(nq), scale="tiny")
    rows = {row.row: dict(row.values) for row in results.rows}
    stages = {row.row: set(row.stages) for row in results.rows}
    recipe = load_recipe("answers-nq")
    _check_answers(nq / "answers", rows, [name for name, row in recipe.rows.items() if row.needs])
    for name in ("closed-book-t5", "closed-book-bart"):
        assert stages[name] == {"collection", *recipe.rows[name].needs, recipe.rows[name].needs[0] + "-answers"}
    report = make_report(results, resamples=100)
    table = report.render("md")
    for label, values in published_in("answers-nq").items():
        line = next(line for line in table.splitlines() if line.startswith(f"| {label} (published)"))
        assert f" {values['EM']:.2f} |" in line
        assert f" {values['F1']:.2f} |" in line
    assert (report.against["closed-book-bart"], report.against["rag-token"]) == ("closed-book-t5", "dpr-fid")
    _check_parts(report)


def _check_parts(report: Report) -> None:
    """Where a gain comes from adds up to the gain."""
    told = report.render_differences("md")
    assert told.index("*Retrieval: ") < told.index("*Re-ranking: ") < told.index("*All of it: ")
    parts = (("bm25-fid", "closed-book-t5"), ("unigen-fid", "bm25-fid"), ("unigen-jpr-fid", "unigen-fid"))
    for measure in ("EM", "F1"):
        found = report.contrasts[measure]
        whole = found["unigen-jpr-fid", "closed-book-t5"].difference
        assert sum(found[pair].difference for pair in parts) == pytest.approx(whole)


@pytest.mark.slow
def test_ms_marco_answers_in_every_row_with_a_language_model_beside_them(
    msmarco: Path, chat: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data, out = msmarco / "data", _beside(msmarco)
    arguments = ["run", "answers-msmarco", "--data", str(data), "--scale", "tiny", "--out", str(out), "--json"]
    ran = CliRunner().invoke(app, [*arguments, *chat])
    assert ran.exit_code == 0, ran.output
    rows = _values(out)
    recipe = load_recipe("answers-msmarco", author=Author(model=MODEL))
    _check_answers(out, rows, [name for name, row in recipe.rows.items() if row.needs])
    told = {name for name, values in rows.items() if "tokens" in values}
    assert told == {"prompted", "prompted-jpr", "written-base", "written-iter"}
    assert rows["prompted-jpr"]["tokens"] > rows["prompted"]["tokens"] > 0
    # Free answers are calibrated by their words.
    planned = Planner(recipe, data).stage("written-answers-measured", 0)
    assert planned.params["right"] == "ROUGE-L"
    table = make_report(load_results(out), resamples=100).render("md")
    for label, values in published_in("answers-msmarco").items():
        line = next(line for line in table.splitlines() if line.startswith(f"| {label} (published)"))
        assert f" {values['BLEU-1']:.2f} |" in line
        assert f" {values['ROUGE-L']:.2f} |" in line
