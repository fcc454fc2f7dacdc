"""`retgen train cross-encoder` from a small collection to a model that `retgen rerank` can use, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.formats import read_run
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.train.rerank_collection import MEASURES
from retgen.types import question_split
from tests.train.toy_pairs import DOCUMENTS, saved_toy

pytest.importorskip("sentence_transformers")
QUICK = ("--steps", "4", "--batch-size", "8", "--top", "5", "--negatives", "3", "--device", "cpu")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, questions, judgements and an untrained model in a folder."""
    place = tmp_path_factory.mktemp("cross-encoder")
    (place / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": d.id, "title": d.title, "text": d.text}) + "\n" for d in DOCUMENTS.values())
    )
    questions, queries, judged = [], [], ["query-id\tcorpus-id\tscore"]
    for number in range(60):
        document = list(DOCUMENTS.values())[number % len(DOCUMENTS)]
        text = f"what is {document.text.split()[0]} number {number}?"
        answer = document.text.split()[0]
        questions.append({"id": str(number), "question": text, "answers": [answer], "doc_ids": [document.id]})
        queries.append({"_id": str(number), "text": text})
        judged.append(f"{number}\t{document.id}\t1")
    (place / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (place / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (place / "qrels.tsv").write_text("\n".join(judged) + "\n")
    saved_toy(place / "model")
    return place


def trained(home: Path, out: str, *more: str | Path) -> Result:
    return run(
        "train", "cross-encoder", home / "corpus.jsonl", "--questions", home / "questions.jsonl",
        "--source", home / "model", "--out", home / out, *QUICK, *more,
    )  # fmt: skip


def only_object(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def failure(status: int, said: str, result: Result) -> None:
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_it_trains_measures_and_fits_for_reranking(home: Path) -> None:
    said = only_object(trained(home, "made", "--json"))
    splits = [question_split(str(number)) for number in range(60)]
    held_out = sum(split != "train" for split in splits)
    assert said["steps"] == 4
    assert said["held_out"] == held_out > 0
    assert said["dev"] + said["candidates"]["questions"] == 60 - held_out
    assert said["dev"] > 0
    assert not said["pseudo"]
    assert set(said["measures"]) == set(MEASURES)
    for gain in said["measures"].values():
        assert 0 <= gain["before"] <= 1
        assert gain["questions"] == held_out
    assert not (home / "made.training").exists()
    assert CrossEncoder.from_pretrained(home / "made", device="cpu").max_length == 64
    (home / "first.trec").write_text("1 Q0 d0 1 2.0 a\n1 Q0 d1 2 1.0 a\n")
    result = run(
        "rerank", home / "first.trec", "--corpus", home / "corpus.jsonl", "--queries", home / "queries.jsonl",
        "--with", "cross-encoder", "--cross-encoder", home / "made", "--device", "cpu", "--out", home / "second.trec",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert set(read_run(home / "second.trec").doc_ids("1")) == {"d0", "d1"}


def test_the_table_names_both_orders_and_a_sentence_says_what_changed(home: Path) -> None:
    result = trained(home, "told", "--objective", "ranking", "--keep-best")
    assert result.exit_code == 0, result.output
    assert "| BM25 " in result.stdout
    assert "| cross-encoder " in result.stdout
    assert "Against BM25, training" in result.stdout
    assert "held out" in result.stderr


def test_beir_judgements_and_distant_labels(home: Path) -> None:
    by_qrels = only_object(
        run(
            "train", "cross-encoder", home / "corpus.jsonl", "--questions", home / "queries.jsonl", "--qrels",
            home / "qrels.tsv", "--source", home / "model", "--out", home / "judged", *QUICK, "--json",
        )
    )  # fmt: skip
    distant = only_object(trained(home, "distant", "--labels", "has-answer", "--json"))
    assert by_qrels["candidates"]["questions"] == distant["candidates"]["questions"]
    # Many passages hold an answer, one is judged.
    assert by_qrels["candidates"]["positives"] < distant["candidates"]["positives"]


def test_pseudo_questions_where_none_are_given(home: Path) -> None:
    facts = [
        "Oxygen was discovered by Joseph Priestley in 1774. It boils at 90 kelvin. Plants give it off by day.",
        "Radium was found by Marie Curie in Paris. The metal glows blue. It was named after the ray in 1898.",
        "The Nile flows north through Egypt. It is about 6650 kilometres long. Cairo lies on its eastern bank.",
        "Mars has two moons, Phobos and Deimos. Its day lasts 24 hours. Olympus Mons is its highest mountain.",
    ]
    (home / "facts").mkdir()
    for number, text in enumerate(facts):
        (home / "facts" / f"{number}.txt").write_text(text)
    result = run(
        "train", "cross-encoder", home / "facts", "--source", "scratch:tiny", "--out", home / "pseudo", *QUICK, "--json"
    )
    said = only_object(result)
    assert said["pseudo"]
    assert "pseudo questions" in result.stderr


def test_interrupted_it_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("retgen.train.rerank_collection.gained", stop)
    result = trained(home, "stopped")
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr
    assert list((home / "stopped.training").glob("checkpoint-*"))
    assert not (home / "stopped").exists()
    monkeypatch.undo()
    result = trained(home, "stopped", "--json")
    assert only_object(result)["steps"] == 4
    assert "going on where it was stopped" in result.stderr


def test_what_goes_wrong_is_said(home: Path) -> None:
    failure(2, "unknown labels", trained(home, "no", "--labels", "other"))
    failure(2, "unknown objective", trained(home, "no", "--objective", "other"))
    failure(1, "no model", trained(home, "no", "--source", home / "nowhere"))
    alone = run("train", "cross-encoder", home / "corpus.jsonl", "--qrels", home / "qrels.tsv", "--out", home / "no")
    failure(2, "judgements without questions", alone)
    (home / "taken").mkdir(exist_ok=True)
    (home / "taken" / "file").write_text("mine")
    failure(1, "taken", trained(home, "taken"))
    assert (home / "taken" / "file").read_text() == "mine"
    (home / "full.training").mkdir()
    failure(1, "no cross-encoder training", trained(home, "full", "--no-resume"))
    assert not (home / "no").exists()
