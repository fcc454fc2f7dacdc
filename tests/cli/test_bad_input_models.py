"""Bad input where a model is trained and asked: bad records left out, no words, one document, beams to spare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app

ONE_STEP = ["--source", "scratch:tiny", "--steps", "1", "--pretraining-steps", "0", "--batch-size", "2"]
FACTS = {
    "radium": "Radium was found by Marie Curie in Paris. The metal glows blue. It was named after the ray in 1898.",
    "peru": "Lima is the capital of Peru. Potatoes were first grown there. The country counts 34 million people.",
    "zuse": "Konrad Zuse built a computer in Berlin in 1941. It weighed 1000 kilograms. Bombs destroyed the machine.",
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def only_object(result: Result) -> dict[str, Any]:
    """Standard output, which must be one JSON object and nothing else."""
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection and a file of questions, each with one record that is none, and a model trained on the rest."""
    place = tmp_path_factory.mktemp("bad")
    rows = [{"_id": name, "text": text} for name, text in FACTS.items()]
    (place / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"_id": "torn"}]))
    questions = [
        {"id": f"{name}-{number}", "question": f"{what} {name}?", "answers": [text.split()[0]], "positives": [name]}
        for name, text in FACTS.items()
        for number, what in enumerate(("Who knows", "Where lies", "When was", "What is", "Which is"))
    ]
    (place / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*questions, {"id": "torn"}]))
    assert run("index", place / "corpus.jsonl", "--out", place / "index", "--skip-bad").exit_code == 0
    return place


@pytest.fixture(scope="module")
def model(home: Path) -> Path:
    files = [home / "corpus.jsonl", "--questions", home / "questions.jsonl"]
    trained = run("train", "unigen", *files, "--out", home / "model", *ONE_STEP, "--skip-bad", "--json")
    said = only_object(trained)
    assert said["passages"] == len(FACTS)
    assert said["trained_on"] + said["dev"] + said["held_out"] == 5 * len(FACTS)
    assert trained.stderr.count("1 bad record left out:") == 2
    assert "corpus.jsonl:4" in trained.stderr
    assert "questions.jsonl:16" in trained.stderr
    return home / "model"


@pytest.mark.parametrize("bad", ["corpus.jsonl:4", "questions.jsonl:16"])
def test_a_bad_record_stops_the_training_before_it_begins(bad: str, home: Path, tmp_path: Path) -> None:
    corpus = home / "corpus.jsonl" if bad.startswith("corpus") else home / "index"
    result = run(
        "train", "unigen", corpus, "--questions", home / "questions.jsonl", "--out", tmp_path / "new", *ONE_STEP
    )
    assert result.exit_code == 1
    assert bad in result.stderr
    assert "--skip-bad" in result.stderr
    assert not any(tmp_path.iterdir())


def test_a_question_without_words(home: Path, model: Path) -> None:
    for rounds in ("0", "1"):
        answer = only_object(run("ask", home / "index", "?!", "--model", model, "--rounds", rounds, "--json"))
        assert {passage["doc_id"] for passage in answer["passages"]} <= FACTS.keys()
    (home / "queries.tsv").write_text("a\t?!\n")
    result = run("search", home / "index", "--queries", home / "queries.tsv", "--with", "unigen", "--model", model)
    assert result.exit_code == 0, result.output


def test_fewer_documents_than_beams(home: Path, model: Path) -> None:
    answer = only_object(run("ask", home / "index", "Who found radium?", "--model", model, "-k", "50", "--json"))
    assert [passage["rank"] for passage in answer["passages"]] == list(range(1, len(FACTS) + 1))
    assert {passage["doc_id"] for passage in answer["passages"]} == FACTS.keys()


def test_one_document(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps({"_id": "zuse", "text": FACTS["zuse"]}) + "\n")
    assert run("index", tmp_path / "one.jsonl", "--out", tmp_path / "index").exit_code == 0
    made = run("train", "unigen", tmp_path / "index", "--out", tmp_path / "model", *ONE_STEP, "--json")
    assert only_object(made)["passages"] == 1
    arguments = ["ask", tmp_path / "index", "Who built it?", "--model", tmp_path / "model", "--rounds", "1", "--json"]
    assert [passage["doc_id"] for passage in only_object(run(*arguments))["passages"]] == ["zuse"]


def test_a_document_longer_than_a_docid_may_be(tmp_path: Path) -> None:
    """Docids are cut at the limit: documents that then share one are both found, with one score."""
    title = " ".join(f"w{number}" for number in range(200))
    rows = [{"_id": str(number), "title": title, "text": text} for number, text in enumerate(FACTS.values())]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("index", tmp_path / "long.jsonl", "--out", tmp_path / "index").exit_code == 0
    made = run("train", "unigen", tmp_path / "index", "--docids", "title", "--out", tmp_path / "model", *ONE_STEP)
    assert made.exit_code == 0, made.output
    answer = only_object(run("ask", tmp_path / "index", "Who?", "--model", tmp_path / "model", "--json"))
    assert {passage["doc_id"] for passage in answer["passages"]} == {"0", "1", "2"}
