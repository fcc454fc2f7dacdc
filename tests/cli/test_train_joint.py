"""`retgen train joint` from a folder of small models to two that `retgen rerank` can use, and what goes wrong."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.formats import read_run
from retgen.models.generator_sources import load_saved_generator, save_generator
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.types import question_split
from tests.train.joint_toy import DOCUMENTS, QUESTIONS, toy_cross_encoder, toy_generator

MEASURES = {"Success@1", "Success@5", "Success@10", "score", "kl"}
QUICK = ("--steps", "4", "--batch-size", "2", "--candidates", "3", "--top", "5", "--alpha", "0.5", "--device", "cpu")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ids(split: str, number: int) -> list[str]:
    """Question ids that the hash puts into a split."""
    return [name for name in map(str, range(400)) if question_split(name) == split][:number]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, questions, judgements and two models in a folder."""
    place = tmp_path_factory.mktemp("joint")
    rows = [{"id": d.id, "title": d.title, "text": d.text or "nothing"} for d in DOCUMENTS.values()]
    (place / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [(split, name) for split, number in (("train", 6), ("dev", 3), ("test", 2)) for name in ids(split, number)]
    lines, judged = [], ["query-id\tcorpus-id\tscore"]
    for number, (_, name) in enumerate(asked):
        question = QUESTIONS[number % len(QUESTIONS)]
        answers = ["tin"] if number % 2 else ["1774"]
        row = {"id": name, "question": question.query.text, "answers": answers, "doc_ids": list(question.positives)}
        lines.append(json.dumps(row))
        judged += [f"{name}\t{gold}\t1" for gold in question.positives]
    (place / "questions.jsonl").write_text("\n".join(lines) + "\n")
    (place / "qrels.tsv").write_text("\n".join(judged) + "\n")
    queries = [json.dumps({"_id": name, "text": QUESTIONS[n % 6].query.text}) for n, (_, name) in enumerate(asked)]
    (place / "queries.jsonl").write_text("\n".join(queries) + "\n")
    reader, tokenizer = toy_cross_encoder()
    CrossEncoder(reader, tokenizer, device="cpu", dtype="fp32").save(place / "reader")
    save_generator(*toy_generator("warm, copying"), place / "writer")
    return place


def trained(home: Path, out: str, *more: str | Path) -> Result:
    return run(
        "train", "joint", home / "corpus.jsonl", "--questions", home / "questions.jsonl", "--cross-encoder",
        home / "reader", "--generator", home / "writer", "--out", home / out, *QUICK, *more,
    )  # fmt: skip


def only_object(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def test_both_models_are_trained_measured_and_fit_for_reranking(home: Path) -> None:
    rates = ("--learning-rate", "1e-3", "--generator-learning-rate", "1e-3")
    said = only_object(trained(home, "made", "--json", "--keep-last", *rates))
    assert said["steps"] == 4
    assert said["dev_questions"] == 3
    assert said["candidates"]["questions"] == 6
    assert said["options"]["alpha"] == 0.5
    for when in ("before", "after"):
        assert set(said[when]) == MEASURES
        assert said[when]["kl"] >= 0
    assert not (home / "made.training").exists()
    for name in ("cross-encoder", "query-generator"):
        assert run("verify", home / "made" / name).exit_code == 0
    before, after = (load_saved_generator(home / name)[0] for name in ("writer", "made/query-generator"))
    changed = [name for name, value in before.state_dict().items() if not value.equal(after.state_dict()[name])]
    assert changed

    assert run("index", home / "corpus.jsonl", "--out", home / "index").exit_code == 0
    asked = ("--queries", home / "queries.jsonl")
    assert run("search", home / "index", *asked, "-k", "4", "--out", home / "bm25.trec").exit_code == 0
    again = run(
        "rerank", home / "bm25.trec", "--corpus", home / "index", *asked, "--with", "jpr", "--cross-encoder",
        home / "made" / "cross-encoder", "--generator", home / "made" / "query-generator", "--device", "cpu",
        "--out", home / "jpr.trec",
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    assert {"cross_encoder", "generator", "joint"} <= set(read_run(home / "jpr.trec").component_names)


def test_judgements_distant_labels_and_the_table(home: Path) -> None:
    judged = only_object(
        run(
            "train", "joint", home / "corpus.jsonl", "--questions", home / "queries.jsonl", "--qrels",
            home / "qrels.tsv", "--cross-encoder", home / "reader", "--generator", home / "writer", "--out",
            home / "judged", *QUICK, "--json",
        )
    )  # fmt: skip
    assert judged["candidates"]["positives"] > 0
    distant = trained(home, "distant", "--labels", "has-answer", "--steps", "1")
    assert distant.exit_code == 0, distant.output
    assert "KL (nats)" in distant.stdout
    assert "Success@10" in distant.stdout
    assert "→" in distant.stdout
    assert "dev questions" in distant.stderr


def test_what_stands_there_is_kept(home: Path) -> None:
    assert trained(home, "twice", "--steps", "1").exit_code == 0
    refused = trained(home, "twice", "--steps", "1")
    assert refused.exit_code == 1
    assert "twice" in refused.stderr
    assert refused.stdout == ""
    assert trained(home, "twice", "--steps", "1", "--overwrite").exit_code == 0
    (home / "mine.training").mkdir()
    (home / "mine.training" / "thesis.txt").write_text("years of work")
    refused = trained(home, "mine", "--no-resume")
    assert refused.exit_code == 1
    assert "no joint training" in refused.stderr
    assert (home / "mine.training" / "thesis.txt").exists()


def test_an_interrupted_training_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def listening(stop_at: int) -> Any:
        @contextlib.contextmanager
        def progress(_: object) -> Iterator[Any]:
            def listen(what: str, done: int, total: int, said: str) -> None:
                if what == "Train":
                    seen.append(done)
                    if done == stop_at:
                        raise KeyboardInterrupt

            yield listen

        return progress

    command = importlib.import_module("retgen.cli.train.joint")
    monkeypatch.setattr(command, "training_progress", listening(3))
    stopped = trained(home, "stopped", "--json")
    assert stopped.exit_code == 130, stopped.output
    assert "run the same command again" in stopped.stderr
    assert stopped.stdout == ""
    assert (home / "stopped.training").exists()
    assert not (home / "stopped").exists()
    monkeypatch.setattr(command, "training_progress", listening(99))
    assert only_object(trained(home, "stopped", "--json"))["steps"] == 4
    assert seen == [1, 2, 3, 3, 4]
    assert not (home / "stopped.training").exists()


@pytest.mark.parametrize(
    ("wrong", "said", "status"),
    [
        (("--labels", "silver"), "silver", 2),
        (("--alpha", "-1"), "alpha", 2),
        (("--generator-weight", "1.5"), "between 0 and 1", 2),
        (("--objective", "pairwise"), "pairwise", 2),
        (("--negatives", "easy"), "easy", 2),
        (("--preset", "upr"), "sums", 2),
        (("--preset", "haiku"), "haiku", 2),
        (("--cross-encoder", "nowhere"), "nowhere", 1),
        (("--questions", "nowhere.jsonl"), "nowhere", 1),
        (("--steps", "0", "--epochs", "0"), "epochs", 2),
    ],
)
def test_what_cannot_be_done_is_said(home: Path, wrong: tuple[str, ...], said: str, status: int) -> None:
    result = trained(home, "wrong", *wrong)
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not (home / "wrong").exists()
