"""The recipes of UniGen's tables at the paper's size: every row and stage over small files in the published formats."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retgen.cli import app
from retgen.connect.files import read_texts
from retgen.corpus import Corpus
from retgen.docids.table import DocidTable
from retgen.formats.jsonl import read_triplets
from retgen.generative.unigen import UniGen
from retgen.recipes import load_recipe, load_results, make_report, run_recipe, unigen
from retgen.recipes.collections import read_questions
from retgen.recipes.sources import builtin_recipes
from retgen.recipes.writers import Author
from retgen.train.examples import UniGenExample, pretraining_examples
from retgen.types import DocumentSource, Triplet
from tests.llm.serving import MODEL, save_chat_model, served
from tests.recipes import published

pytest.importorskip("faiss")
pytest.importorskip("sentence_transformers")

TABLE_1 = """\
BM25	25.70	53.28	65.85	37.79	45.36	72.86	81.72	57.18
DocT5Query	31.14	60.04	68.29	42.93	49.43	76.25	84.10	60.81
DPR	36.96	70.92	80.18	50.69	60.25	82.60	86.97	69.90
ANCE	37.70	72.34	81.52	51.70	61.45	84.25	88.71	71.30
DSI-Semantic	28.84	46.22	52.94	36.60	46.70	66.34	70.79	54.73
DSI-QG	35.41	68.38	73.34	46.48	59.52	78.35	81.93	67.94
NCI	37.89	72.23	77.39	49.41	63.00	84.61	88.90	71.77
Ultron-PQ	37.38	72.07	78.09	51.47	63.54	85.01	86.34	72.68
UniGen-Base	38.75	72.69	79.07	52.64	63.71	86.39	88.74	72.81
UniGen-Iter	42.34	75.99	81.85	56.38	64.92	88.15	90.01	74.61"""
TABLE_2 = {"UniGen-Base": (44.06, 53.39), "UniGen-Iter": (57.83, 67.24)}
TABLE_3 = """\
UniGen-Base	38.75	79.07	17.02	21.90
UniGen-Base w/o shared encoder	37.89	78.69	16.49	21.30
UniGen-Base w/o Q-Connector	36.14	77.58	12.32	15.98
UniGen-Base w/o D-Connector	37.44	78.25	15.06	18.74
UniGen-Iter	42.34	81.85	24.46	30.31
UniGen-Iter w/o shared encoder	41.76	81.29	23.72	29.71
UniGen-Iter w/o Q-Connector	37.43	78.66	21.21	26.39
UniGen-Iter w/o D-Connector	41.28	81.59	22.35	27.54"""
RANKS = ("R@1", "R@5", "R@10", "MRR@10")


def _lines(table: str) -> dict[str, list[float]]:
    rows = (line.split("\t") for line in table.splitlines())
    return {label: [float(value) for value in values] for label, *values in rows}


def _published(name: str) -> dict[str, dict[str, float]]:
    """Label → column → per cent, of all rows that have published numbers."""
    found = {}
    for row in load_recipe(name).rows.values():
        if row.published:
            numbers = {key: value for key, value in row.published.items() if key != "parameters"}
            found[row.label] = {key: round(100 * float(value), 2) for key, value in numbers.items()}
    return found


def test_the_published_numbers_are_the_papers() -> None:
    tables = {"unigen-msmarco": _published("unigen-msmarco"), "unigen-nq": _published("unigen-nq")}
    one, three = _lines(TABLE_1), _lines(TABLE_3)
    for label, values in one.items():
        for name, own in (("unigen-msmarco", values[:4]), ("unigen-nq", values[4:])):
            assert [tables[name][label][key] for key in RANKS] == own, (name, label)
    for label, values in three.items():
        found = tables["unigen-msmarco"][label]
        assert [found[key] for key in ("R@1", "R@10", "BLEU-1", "ROUGE-L")] == values, label
    for label, pair in TABLE_2.items():
        assert (tables["unigen-nq"][label]["EM"], tables["unigen-nq"][label]["F1"]) == pair
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
    assert set(names) == set(_lines(TABLE_3))


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
def test_natural_questions_runs_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data, out = tmp_path / "data", tmp_path / "out"
    published.write_dpr(data, questions=30)
    published.save_unigen_models(data / "models")
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data, out = tmp_path / "data", tmp_path / "out"
    published.write_msmarco_qna(data)
    published.save_unigen_models(data / "models")
    save_chat_model(tmp_path / "chat", positions=4096)
    arguments = ["run", "unigen-msmarco", "--data", str(data), "--scale", "tiny", "--out", str(out), "--json"]
    with served(tmp_path / "chat") as url:
        chat = ["--writer", "chat", "--endpoint", url, "--model", MODEL, "--max-tokens", "6"]
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
    for label, values in _lines(TABLE_3).items():
        line = next(line for line in table.splitlines() if line.startswith(f"| {label} (published)"))
        assert f" {values[-1]:.2f} " in line
