"""``retgen rerank`` from a run on disk to a run on disk, with small saved models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.formats import read_run, write_run
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.rerank.joint import JointReranker
from retgen.rerank.query_likelihood import QueryLikelihood
from retgen.types import Query, Run
from tests.conformance import CORPUS, DOCUMENTS, QUERIES
from tests.models.checkpoints import save_seq2seq
from tests.rerank.classifiers import save_classifier

TEXTS = {query.id: query.text for query in QUERIES}


def retgen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cross-encoder and a generator, random and saved."""
    folder = tmp_path_factory.mktemp("models")
    save_classifier(folder / "cross-encoder")
    save_seq2seq(folder / "generator", "v1.1")
    return folder / "cross-encoder", folder / "generator"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents, an index of them, queries, and BM25's run."""
    folder = tmp_path_factory.mktemp("place")
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as out:
        for document in DOCUMENTS:
            if document.text:
                out.write(json.dumps({"_id": document.id, "title": document.title, "text": document.text}) + "\n")
    with (folder / "queries.tsv").open("w", encoding="utf-8") as out:
        for query_id, text in TEXTS.items():
            out.write(f"{query_id}\t{text}\n")
    made = retgen("index", folder / "corpus.jsonl", "--out", folder / "index")
    assert made.exit_code == 0, made.output
    searched = retgen("search", folder / "index", "--queries", folder / "queries.tsv", "--out", folder / "bm25.trec")
    assert searched.exit_code == 0, searched.output
    return folder


def rerank(
    place: Path, models: tuple[Path, Path], *options: str | Path, with_: str = "jpr", run: str = "bm25.trec"
) -> Result:
    given: list[str | Path] = []
    if with_ in ("jpr", "cross-encoder"):
        given += ["--cross-encoder", models[0]]
    if with_ in ("jpr", "query-likelihood"):
        given += ["--generator", models[1]]
    return retgen(
        "rerank", place / run, "--corpus", place / "index", "--queries", place / "queries.tsv", "--with", with_,
        "--device", "cpu", *given, *options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("with_", "component"), [("cross-encoder", "cross_encoder"), ("query-likelihood", "generator"), ("jpr", "joint")]
)
def test_writes_the_run_that_the_library_makes(
    place: Path, models: tuple[Path, Path], tmp_path: Path, with_: str, component: str
) -> None:
    result = rerank(place, models, "--out", tmp_path / "new.trec", with_=with_)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    before, after = read_run(place / "bm25.trec"), read_run(tmp_path / "new.trec")
    assert after.query_ids == before.query_ids == tuple(TEXTS)
    assert after.fingerprint == before.fingerprint
    assert {"bm25", component} <= set(after.component_names)
    parts = {
        "cross-encoder": lambda: CrossEncoder.from_pretrained(models[0], device="cpu"),
        "query-likelihood": lambda: QueryLikelihood.from_pretrained(models[1], device="cpu"),
        "jpr": lambda: JointReranker.from_pretrained(*models, device="cpu"),
    }
    expected = parts[with_]().rerank([Query(i, text) for i, text in TEXTS.items()], before, CORPUS)
    for query_id in before:
        assert after.doc_ids(query_id) == expected.doc_ids(query_id)
        assert after.scores(query_id).tolist() == pytest.approx(expected.scores(query_id).tolist(), abs=1e-5)
        assert sorted(after.doc_ids(query_id)) == sorted(before.doc_ids(query_id))
    pairs = sum(len(before.doc_ids(query_id)) for query_id in before)
    assert f"6 queries, {pairs} pairs" in result.stderr
    assert "a second" in result.stderr


def test_weights_cuts_and_a_summary(place: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    result = rerank(place, models, "--generator-weight", "1", "-k", "2", "--out", tmp_path / "new.trec", "--json")
    (about,) = objects(result)
    assert about["queries"] == 6
    assert about["without_candidates"] == 1
    assert about["weights"] == {"cross_encoder": 0.0, "generator": 1.0}
    assert about["pairs_per_second"] > 0
    cut = read_run(tmp_path / "new.trec")
    assert max(len(cut.doc_ids(query_id)) for query_id in cut) == 2
    alone = rerank(place, models, "--out", tmp_path / "generator.trec", with_="query-likelihood")
    assert alone.exit_code == 0
    whole = read_run(tmp_path / "generator.trec")
    assert {i: whole.doc_ids(i)[:2] for i in whole} == {i: cut.doc_ids(i) for i in cut}


def test_documents_may_come_in_any_form_and_a_run_without_sidecar(
    place: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "bare.trec").write_text((place / "bm25.trec").read_text())
    result = retgen(
        "rerank", tmp_path / "bare.trec", "--corpus", place / "corpus.jsonl", "--queries", place / "queries.tsv",
        "--with", "cross-encoder", "--cross-encoder", models[0], "--out", tmp_path / "new.trec",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1 query of 6 that the run does not have" in result.stderr
    found = read_run(tmp_path / "new.trec")
    assert set(found.component_names) == {"first_stage", "cross_encoder"}


def test_a_state_cache_gives_the_same_run(place: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    runs = []
    for name in ("cold", "warm"):
        result = rerank(place, models, "--state-cache", tmp_path / "states", "--out", tmp_path / f"{name}.trec")
        assert result.exit_code == 0, result.output
        runs.append((tmp_path / f"{name}.trec").read_text())
    assert runs[0] == runs[1]
    assert (tmp_path / "states").exists()


def test_explain_shows_what_moved(place: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    shown = rerank(place, models, "--explain", "metal", "--picture", tmp_path / "moves.png")
    assert shown.exit_code == 0, shown.output
    assert TEXTS["metal"] in shown.stdout
    assert "cross_encoder" in shown.stdout
    assert "Log-likelihood of the query's tokens" in shown.stdout
    assert (tmp_path / "moves.png").stat().st_size > 1000
    rows = objects(rerank(place, models, "--explain", "metal", "--json"))
    before = read_run(place / "bm25.trec").doc_ids("metal")
    assert [row["rank_after"] for row in rows] == list(range(1, len(before) + 1))
    assert {row["doc_id"]: row["rank_before"] for row in rows} == {doc: n for n, doc in enumerate(before, start=1)}
    for row in rows:
        assert row["shares"].keys() == {"cross_encoder", "generator"}
        assert sum(row["shares"].values()) == pytest.approx(row["scores"]["joint"], abs=1e-9)
        values = [token["score"] for token in row["tokens"]]
        assert sum(values) / len(values) == pytest.approx(row["scores"]["generator"], abs=1e-4)


def test_explain_beside_a_whole_run_and_of_a_query_without_hits(
    place: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    both = rerank(
        place, models, "--explain", "who", "--out", tmp_path / "new.trec", "-k", "1", with_="query-likelihood"
    )
    assert both.exit_code == 0, both.output
    assert TEXTS["who"] in both.stdout
    assert len(read_run(tmp_path / "new.trec")) == 6
    empty = rerank(place, models, "--explain", "nothing", with_="query-likelihood")
    assert empty.exit_code == 0, empty.output
    assert "no candidates" in empty.stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--with", "jpr", "--cross-encoder", "x"], "needs --generator MODEL"),
        (["--with", "query-likelihood"], "retgen train query-generator"),
        (["--with", "cross-encoder"], "needs --cross-encoder MODEL"),
        (["--with", "cross-encoder", "--cross-encoder", "x", "--generator", "y"], "makes no use of --generator"),
        (["--with", "cross-encoder", "--cross-encoder", "x", "--generator-weight", "0.5"], "weighs nothing"),
        (["--with", "cross-encoder", "--cross-encoder", "x", "--state-cache", "d"], "no passage states"),
        (["--with", "bm25"], "Choose one of cross-encoder, query-likelihood, jpr"),
        (["--with", "jpr", "--cross-encoder", "x", "--generator", "y", "--generator-weight", "1.5"], "between 0 and 1"),
        (["--with", "jpr", "--cross-encoder", "x", "--generator", "y", "--generator-weight", "nan"], "between 0 and 1"),
        (["--with", "cross-encoder", "--cross-encoder", "x", "--picture", "a.png"], "Give --explain QUERY_ID too"),
        (["--with", "cross-encoder", "--cross-encoder", "x", "--explain", "who", "--picture", "a.gif"], "suffix"),
        (["--with", "cross-encoder", "--cross-encoder", "x", "--explain", "none"], "has no query 'none'"),
    ],
)  # fmt: skip
def test_wrong_usage_is_named_before_a_model_is_opened(place: Path, options: list[str], complaint: str) -> None:
    out = [] if {"--explain", "--picture"} & set(options) and "Give" not in complaint else ["--out", "unused.trec"]
    result = retgen(
        "rerank", place / "bm25.trec", "--corpus", place / "index", "--queries", place / "queries.tsv", *options, *out
    )
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert result.stdout == ""


def test_nowhere_to_write(place: Path, models: tuple[Path, Path]) -> None:
    result = rerank(place, models)
    assert result.exit_code == 2
    assert "Give --out FILE" in result.stderr


def test_a_query_that_the_file_lacks_is_an_error(place: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    short = tmp_path / "short.tsv"
    short.write_text(f"who\t{TEXTS['who']}\n")
    result = retgen(
        "rerank", place / "bm25.trec", "--corpus", place / "index", "--queries", short, "--with", "cross-encoder",
        "--cross-encoder", models[0], "--out", tmp_path / "new.trec",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "5 of the run's 6 queries are not in" in result.stderr
    assert not (tmp_path / "new.trec").exists()


def test_a_run_of_another_corpus(place: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    write_run(place / "other.trec", Run(["who"], [["iron"]], [[1.0]], fingerprint="f" * 64))
    result = rerank(place, models, "--out", tmp_path / "new.trec", run="other.trec")
    assert result.exit_code == 1
    assert "made from another corpus" in result.stderr
    write_run(place / "strange.trec", Run(["who"], [["iron", "plutonium"]], [[2.0, 1.0]]))
    result = rerank(place, models, "--out", tmp_path / "new.trec", run="strange.trec")
    assert result.exit_code == 1
    assert "no document with id 'plutonium'" in result.stderr
    assert "strange.trec" in result.stderr


def test_a_run_over_documents_and_an_index_of_chunks(place: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    index = tmp_path / "chunks"
    assert retgen("index", place / "corpus.jsonl", "--out", index, "--chunk-words", "5").exit_code == 0
    searched = retgen("search", index, "--queries", place / "queries.tsv", "--out", tmp_path / "documents.trec")
    assert searched.exit_code == 0, searched.output
    arguments = [
        "rerank", tmp_path / "documents.trec", "--queries", place / "queries.tsv", "--with", "cross-encoder",
        "--cross-encoder", models[0], "--out", tmp_path / "new.trec", "--corpus",
    ]  # fmt: skip
    refused = retgen(*arguments, index)
    assert refused.exit_code == 1
    assert "holds them in chunks" in refused.stderr
    assert retgen(*arguments, place / "corpus.jsonl").exit_code == 0


def test_a_folder_without_a_model(place: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    result = rerank(place, (tmp_path / "nothing", models[1]), "--out", tmp_path / "new.trec", with_="cross-encoder")
    assert result.exit_code in (1, 2)
    assert "Error:" in result.stderr
    assert "Traceback" not in result.output


def test_bad_lines_can_be_left_out(place: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    bad = place / "bad.trec"
    bad.write_text("who Q0 iron 1 2.0 x\nwho Q0 oxygen two 1.0 x\n")
    result = rerank(place, models, "--out", tmp_path / "new.trec", run="bad.trec", with_="cross-encoder")
    assert result.exit_code == 1
    assert "bad.trec:2" in result.stderr
    left = rerank(place, models, "--out", tmp_path / "new.trec", "--skip-bad", run="bad.trec", with_="cross-encoder")
    assert left.exit_code == 0, left.output
    assert "1 bad record left out" in left.stderr
    assert read_run(tmp_path / "new.trec").doc_ids("who") == ["iron"]


def test_help_teaches() -> None:
    result = retgen("rerank", "--help")
    assert result.exit_code == 0
    for word in ("--generator-weight", "retgen tune", "--explain", "--state-cache"):
        assert word in result.stdout


def test_the_weight_that_was_tuned_is_read_from_its_file(
    place: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    weights = {"weights": {"cross_encoder": 0.25, "generator": 0.75}, "scale": "log_softmax"}
    (tmp_path / "weights.json").write_text(json.dumps(weights))
    for share, name in (("0.75", "number"), (str(tmp_path / "weights.json"), "file")):
        result = rerank(place, models, "--generator-weight", share, "--out", tmp_path / f"{name}.trec")
        assert result.exit_code == 0, result.output
    assert (tmp_path / "number.trec").read_text() == (tmp_path / "file.trec").read_text()
    (tmp_path / "weights.json").write_text(json.dumps({**weights, "scale": "z"}))
    result = rerank(place, models, "--generator-weight", tmp_path / "weights.json", "--out", tmp_path / "no.trec")
    assert result.exit_code == 2
    assert "not JPR's" in result.output
