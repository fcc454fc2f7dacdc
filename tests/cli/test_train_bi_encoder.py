"""`retgen train bi-encoder` from a small collection to an index that is searched with it, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.dense.encoder import load_encoder
from retgen.index import Index
from tests.train.toy_retrieval import DOCUMENTS, toy_triplets

pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.slow  # sentence-transformers takes seconds to import
QUICK = ("--steps", "4", "--batch-size", "4", "--source", "scratch:tiny", "--device", "cpu")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bi-encoder")
    (place / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": d.id, "title": d.title, "text": d.text}) + "\n" for d in DOCUMENTS.values())
    )
    rows = [
        {"id": f"{triplet.query.id}/{n}", "question": f"{triplet.query.text} {n}", "doc_ids": list(triplet.doc_ids)}
        for triplet in toy_triplets()
        for n in range(2)
    ]
    (place / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def trained(home: Path, out: str, *more: str | Path) -> Result:
    return run(
        "train", "bi-encoder", home / "corpus.jsonl", "--questions", home / "questions.jsonl", "--out", home / out,
        *QUICK, *more,
    )  # fmt: skip


def only_object(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def test_it_trains_measures_and_fits_for_an_index(home: Path) -> None:
    said = only_object(trained(home, "made", "--rounds", "2", "--round-steps", "3", "--json"))
    assert said["steps"] == 4 + 2 * 3
    assert set(said["measures"]) == {"R@1", "R@10", "MRR@10"}
    assert said["trained_on"] + said["dev"] + next(iter(said["measures"].values()))["questions"] == 50
    assert not (home / "made.training").exists()
    load_encoder(str(home / "made"), "cpu")
    result = run(
        "index", home / "corpus.jsonl", "--out", home / "index",
        "--dense", home / "made", "--dense-index", "hnsw:depth=64",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = run("search", home / "index", "an azure vessel", "--with", "dense", "-k", "3", "--json")
    assert len(found.stdout.splitlines()) == 3
    assert Index.open(home / "index").manifest.made_by["dense_index"] == "hnsw:depth=64"
    verified = run("verify", home / "index")
    assert verified.exit_code == 0, verified.output


def test_the_table_names_both_and_a_sentence_says_what_changed(home: Path) -> None:
    result = trained(home, "told", "--keep-best")
    assert result.exit_code == 0, result.output
    assert "| BM25 " in result.stdout
    assert "| bi-encoder " in result.stdout
    assert "Against BM25, training" in result.stdout
    assert "retgen index" in result.stderr


def test_stopped_it_goes_on_with_the_same_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retgen.train import dense_collection

    real = dense_collection.train_ance

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dense_collection, "train_ance", interrupted)
    stopped = trained(home, "again", "--rounds", "1")
    assert stopped.exit_code == 130
    assert "run the same command again" in stopped.stderr
    monkeypatch.setattr(dense_collection, "train_ance", real)
    other = trained(home, "again", "--rounds", "1", "--top", "9")
    assert (other.exit_code, "depth was 20" in other.stderr) == (1, True)
    assert trained(home, "again", "--rounds", "1").exit_code == 0
    assert (home / "again").exists()
    assert not (home / "again.training").exists()


@pytest.mark.parametrize(
    ("status", "said", "more"),
    [
        (2, "towers", ["--towers", "3"]),
        (2, "pooling", ["--pooling", "max"]),
        (1, "no bi-encoder", ["--source", "NOWHERE"]),
        (2, "nothing to tell apart", ["--batch-size", "1", "--negatives", "0"]),
        (1, "no such file", ["--questions", "NOWHERE"]),
    ],
)
def test_what_cannot_be_trained(home: Path, status: int, said: str, more: list[str], tmp_path: Path) -> None:
    result = trained(home, "never", *[str(tmp_path / "nowhere") if part == "NOWHERE" else part for part in more])
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (home / "never").exists()
