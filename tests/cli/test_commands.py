"""The command line's contract: results on standard output, the rest on standard error, exit status 0, 1, 2 or 130."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen import __version__
from retgen.cli import app
from retgen.corpus import Corpus
from retgen.index import Index
from retgen.types import Document

COMMANDS = [
    *("index", "search", "ask", "eval", "verify", "demo", "pseudo-queries", "run", "report", "curves", "mcp"),
    *("train unigen", "train bi-encoder"),
]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def objects(result: Result) -> list[dict[str, Any]]:
    """Standard output, every line of which must be one JSON object."""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "rivers").mkdir(parents=True)
    (folder / "oxygen.md").write_text(
        "# Oxygen\n\nOxygen is a gas. It was discovered by Joseph Priestley in 1774, in England.\n"
    )
    (folder / "rivers" / "nile.txt").write_text(
        "The Nile flows north through Egypt into the Mediterranean Sea. It is about 6,650 kilometres long.\n"
    )
    (folder / "café.txt").write_text("Crème brûlée is served in the café [at noon].\n", encoding="utf-8")
    return folder


@pytest.fixture
def index(docs: Path, tmp_path: Path) -> Path:
    made = run("index", docs, "--out", tmp_path / "index")
    assert made.exit_code == 0, made.output
    return tmp_path / "index"


def test_index_then_ask(index: Path) -> None:
    result = run("ask", index, "Who discovered oxygen?")
    assert result.exit_code == 0
    assert result.stdout.startswith("Joseph Priestley")
    assert "Oxygen" in result.stdout
    assert "oxygen.md" in result.stdout


def test_ask_as_json(index: Path) -> None:
    (answer,) = objects(run("ask", index, "How long is the Nile?", "--json"))
    assert answer["answer"] == "6,650 kilometres"
    assert answer["source"] == "rivers/nile.txt"
    first = answer["passages"][0]
    text = Index.open(index).corpus[first["doc_id"]].text
    assert text[first["start"] : first["end"]] == first["span"] == "6,650 kilometres"
    assert "6,650 kilometres" in first["snippet"]
    assert first["title"] == "nile"


def test_search_shows_ranked_documents(index: Path) -> None:
    result = run("search", index, "river Nile Egypt", "-k", "1", "--explain")
    assert result.exit_code == 0
    assert "rivers/nile.txt" in result.stdout
    assert "egypt" in result.stdout


def test_search_as_json_explains(index: Path) -> None:
    hits = objects(run("search", index, "oxygen Egypt", "--json", "--explain"))
    assert [hit["rank"] for hit in hits] == [1, 2]
    for hit in hits:
        assert sum(term["score"] for term in hit["terms"]) == pytest.approx(hit["score"], rel=1e-5)


def test_brackets_in_documents_are_text_not_markup(index: Path) -> None:
    assert "[at noon]" in run("search", index, "café").stdout
    assert "[at noon]" in run("ask", index, "When is the café open?").stdout


def test_search_filters_by_metadata(index: Path) -> None:
    everything = objects(run("search", index, "gas sea served", "--json"))
    assert len(everything) == 3
    kept = objects(run("search", index, "gas sea served", "--filter", "suffix=.md", "--json"))
    assert [hit["doc_id"] for hit in kept] == ["oxygen.md"]


def test_queries_from_a_file_to_a_run_to_its_scores(index: Path, tmp_path: Path) -> None:
    queries = tmp_path / "queries.tsv"
    queries.write_text("a\twho discovered oxygen\nb\twhere does the Nile flow\nc\t?!\n")
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\na\toxygen.md\t1\nb\trivers/nile.txt\t1\nc\toxygen.md\t1\n")
    made = run("search", index, "--queries", queries, "--out", tmp_path / "run.trec")
    assert made.exit_code == 0
    assert made.stdout == ""
    scored = objects(run("eval", tmp_path / "run.trec", "--qrels", qrels, "-m", "RR@10", "-m", "R@1", "--json"))
    assert scored == [
        {"measure": "RR@10", "value": pytest.approx(2 / 3), "queries": 3},
        {"measure": "R@1", "value": pytest.approx(2 / 3), "queries": 3},
    ]
    shown = run("eval", tmp_path / "run.trec", "--qrels", qrels, "-m", "RR@10")
    assert shown.stdout.split()[:2] == ["RR@10", "0.6667"]


def test_answers_are_scored(tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    rows = [
        {"id": "a", "question": "who?", "answers": ["Joseph Priestley", "Priestley"], "positives": ["oxygen.md"]},
        {"id": "b", "question": "where?", "answers": ["Egypt"], "positives": ["nile"]},
    ]
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"query_id": "a", "text": "priestley"}\n{"query_id": "b", "text": "Sudan"}\n')
    whole = tmp_path / "whole.json"
    whole.write_text('{"a": "priestley", "b": "Sudan"}')
    for predictions in (lines, whole):
        scored = objects(run("eval", "--answers", predictions, "--gold", gold, "--json"))
        assert {row["measure"]: row["value"] for row in scored} == {"EM": 0.5, "F1": 0.5}


def test_chunks_name_their_documents(docs: Path, tmp_path: Path) -> None:
    (made,) = objects(
        run("index", docs, "--out", tmp_path / "i", "--chunk-words", "5", "--chunk-overlap", "1", "--json")
    )
    assert made["chunks"] > 3
    hits = objects(run("search", tmp_path / "i", "Nile kilometres", "--json"))
    assert [hit["doc_id"] for hit in hits] == ["rivers/nile.txt"]
    assert hits[0]["passage_id"].startswith("rivers/nile.txt::")
    (answer,) = objects(run("ask", tmp_path / "i", "How long is the Nile?", "--json"))
    assert answer["passages"][0]["document_id"] == "rivers/nile.txt"


def test_fields_and_language(docs: Path, tmp_path: Path) -> None:
    made = run("index", docs, "--out", tmp_path / "i", "--fields", "title=2,text", "--language", "french", "--json")
    assert made.exit_code == 0
    bm25 = Index.open(tmp_path / "i").retriever("bm25")
    assert bm25.settings.fields == {"title": 2.0, "text": 1.0}  # type: ignore[attr-defined]


def test_a_question_without_words_has_no_answer(index: Path) -> None:
    (answer,) = objects(run("ask", index, "?!", "--json"))
    assert (answer["answer"], answer["passages"]) == ("", [])
    assert "No passage" in run("ask", index, "?!").stdout
    assert objects(run("search", index, "?!", "--json")) == []


def test_verify(index: Path) -> None:
    (state,) = objects(run("verify", index, "--json"))
    assert (state["kind"], state["whole"]) == ("index", True)
    victim = index / "corpus" / "documents.arrow"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    result = run("verify", index)
    assert result.exit_code == 1
    assert "documents.arrow" in result.stderr


def failure(status: int, said: str, *arguments: str | Path) -> None:
    """The command ends with this status, says this on standard error in one block, and nothing on standard output."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_an_empty_corpus(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    failure(1, "nothing that can be read as a corpus", "index", tmp_path / "empty", "--out", tmp_path / "i")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    failure(1, "this file is empty", "index", tmp_path / "empty.jsonl", "--out", tmp_path / "i")
    failure(1, "there is no such file", "index", tmp_path / "nowhere", "--out", tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_one_document(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("Only this: gold was found in 1848.")
    assert run("index", tmp_path / "one", "--out", tmp_path / "i").exit_code == 0
    (answer,) = objects(run("ask", tmp_path / "i", "When was gold found?", "--json"))
    assert answer["answer"] == "1848"


def test_a_document_without_text(docs: Path, tmp_path: Path) -> None:
    (docs / "empty.txt").write_text("")
    failure(1, "empty.txt", "index", docs, "--out", tmp_path / "i")
    result = run("index", docs, "--out", tmp_path / "i", "--skip-bad", "--json")
    assert result.exit_code == 0
    assert objects(result)[0]["skipped"] == 1
    assert "empty.txt" in result.stderr


def test_a_file_that_is_not_utf8(docs: Path, tmp_path: Path) -> None:
    (docs / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
    failure(1, "latin.txt", "index", docs, "--out", tmp_path / "i")
    assert run("index", docs, "--out", tmp_path / "i", "--skip-bad").exit_code == 0


def test_repeated_ids(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "a", "text": "x"}\n{"_id": "b", "text": "y"}\n{"_id": "a", "text": "z"}\n')
    failure(1, "corpus.jsonl:3", "index", corpus, "--out", tmp_path / "i")
    assert run("index", corpus, "--out", tmp_path / "i", "--skip-bad").exit_code == 0
    queries = tmp_path / "queries.tsv"
    queries.write_text("q\tone\nq\ttwo\n")
    failure(1, "queries.tsv:2", "search", tmp_path / "i", "--queries", queries)


def test_folders_that_are_no_index(index: Path, docs: Path, tmp_path: Path) -> None:
    failure(1, "no such folder", "ask", tmp_path / "nowhere", "who?")
    failure(1, "retgen did not make it", "ask", docs, "who?")
    failure(1, "holds a corpus, not a", "ask", index / "corpus", "who?")
    Corpus.build([Document("a", "x")], tmp_path / "corpus")
    failure(1, "holds a corpus, not a", "search", tmp_path / "corpus", "who?")


def test_a_truncated_index(index: Path) -> None:
    victim = index / "bm25" / "field-0" / "data.csc.index.npy"
    victim.write_bytes(victim.read_bytes()[:-3])
    failure(1, "data.csc.index.npy", "ask", index, "who?")
    failure(1, "data.csc.index.npy", "verify", index)


def test_an_index_put_together_from_two(index: Path, tmp_path: Path) -> None:
    # Both parts whole, and the manifest in order: only the fingerprints tell.
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"_id": str(n), "text": "gold"}) + "\n" for n in range(3)))
    assert run("index", other, "--out", tmp_path / "other").exit_code == 0
    from retgen import store

    with store.create(tmp_path / "mixed", kind="index", made_by={"retrievers": ["bm25"]}) as staging:
        shutil.copytree(index / "corpus", staging / "corpus")
        shutil.copytree(tmp_path / "other" / "bm25", staging / "bm25")
    failure(1, "another corpus", "ask", tmp_path / "mixed", "who?")


def test_an_index_is_not_replaced_unasked(docs: Path, index: Path) -> None:
    failure(1, "stands there already", "index", docs, "--out", index)
    assert run("index", docs, "--out", index, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "INDEX"], "give a question"),
        (["search", "INDEX", "q", "--queries", "f"], "not both"),
        (["search", "INDEX", "q", "--with", "magic"], "no retriever 'magic'"),
        (["search", "INDEX", "q", "--filter", "year"], "KEY=VALUE"),
        (["search", "INDEX", "q", "-k", "0"], "-k"),
        (["ask", "INDEX", "  "], "empty"),
        (["ask", "INDEX"], "question"),
        (["index", "DOCS", "--out", "NEW", "--language", "klingon"], "klingon"),
        (["index", "DOCS", "--out", "NEW", "--fields", "title=x"], "--fields"),
        (["index", "DOCS", "--out", "NEW", "--fields", "title=0"], "above 0"),
        (["index", "DOCS", "--out", "NEW", "--chunk-overlap", "3"], "--chunk-words"),
        (["index", "DOCS", "--out", "NEW", "--chunk-words", "3", "--chunk-overlap", "3"], "overlap"),
        (["eval"], "nothing to score"),
        (["eval", "RUN"], "needs judgements"),
        (["eval", "--answers", "A"], "--gold"),
        (["eval", "--answers", "A", "--gold", "G", "-m", "nDCG@10"], "needs a run"),
        (["eval", "RUN", "--qrels", "Q", "-m", "EM"], "needs answers"),
        (["bogus"], "bogus"),
        (["search", "INDEX", "q", "--bogus"], "--bogus"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, index: Path, docs: Path, tmp_path: Path) -> None:
    places = {"INDEX": str(index), "DOCS": str(docs), "NEW": str(tmp_path / "new")}
    failure(2, said, *[places.get(argument, argument) for argument in arguments])
    assert not (tmp_path / "new").exists()


def test_bad_files_of_eval(tmp_path: Path) -> None:
    qrels, trec = tmp_path / "qrels", tmp_path / "run"
    qrels.write_text("q 0 d 1\n")
    trec.write_text("q Q0 d 1 1.0 tag\n")
    failure(2, "no-such", "eval", trec, "--qrels", qrels, "-m", "no-such@10")
    trec.write_text("q Q0 d one 1.0 tag\n")
    failure(1, "run:1", "eval", trec, "--qrels", qrels)
    answers = tmp_path / "answers"
    answers.write_text('{"query_id": "a"}\n')
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"id": "a", "question": "who?", "answers": ["x"]}\n')
    failure(1, "answers:1", "eval", "--answers", answers, "--gold", gold)
    answers.write_text('{"a": 1}')
    failure(1, "not a text", "eval", "--answers", answers, "--gold", gold)
    failure(1, "cannot be read", "eval", "--answers", tmp_path / "nowhere", "--gold", gold)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"retgen {command}" in result.stdout.split("Example", 1)[1]


def test_version_and_no_arguments() -> None:
    assert run("--version").stdout == f"retgen {__version__}\n"
    assert "first minute" in run("--help").stdout


def _loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.partition(".")[0] for line in done.stdout.splitlines()}


HEAVY = {"torch", "transformers", "sentence_transformers", "faiss"}


def test_help_loads_nothing_heavy() -> None:
    assert not _loaded("import retgen.cli") & (HEAVY | {"bm25s", "pyarrow", "ir_measures"})


def test_asking_loads_no_model_library(index: Path) -> None:
    code = (
        "from typer.testing import CliRunner; from retgen.cli import app\n"
        f"assert CliRunner().invoke(app, ['ask', {str(index)!r}, 'who discovered oxygen?']).exit_code == 0"
    )
    assert not _loaded(code) & HEAVY


def test_the_installed_command_keeps_the_contract(index: Path, tmp_path: Path) -> None:
    """As a process: exit status, streams, and an interruption."""
    retgen = [sys.executable, "-c", "from retgen.cli import main; main()"]
    done = subprocess.run([*retgen, "ask", str(index), "who discovered oxygen?", "--json"], capture_output=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["answer"] == "Joseph Priestley"
    assert subprocess.run([*retgen, "ask", str(tmp_path), "x"], capture_output=True).returncode == 1
    assert subprocess.run([*retgen, "ask"], capture_output=True).returncode == 2

    pipe = tmp_path / "endless.jsonl"
    os.mkfifo(pipe)  # queries that never come
    waiting = subprocess.Popen(
        [*retgen, "search", str(index), "--queries", str(pipe)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    writer = _open_for_writing(pipe, waiting)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(timeout=60) == 130
    os.close(writer)


def _open_for_writing(pipe: Path, reader: subprocess.Popen[bytes]) -> int:
    """The pipe's other end, as soon as the reader has opened its own."""
    while reader.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # no reader yet
            time.sleep(0.05)
    raise AssertionError(f"the command ended before it read its queries: {reader.communicate()}")
