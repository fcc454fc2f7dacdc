"""`retgen train query-generator` on a small folder, what is sampled of the model, and what can go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.formats import read_triplets
from retgen.models.generator_sources import load_saved_generator
from retgen.train import query_generator as training
from retgen.train.checkpoints import last_finished
from tests.cli.test_train import FACTS, failure, only_object, run
from tests.models.checkpoints import save_encoder

SMALL = ["--source", "scratch:tiny", "--steps", "12", "--batch-size", "8", "--learning-rate", "3e-3"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of documents and its index."""
    place = tmp_path_factory.mktemp("generator")
    (place / "docs").mkdir()
    for name, text in FACTS.items():
        (place / "docs" / f"{name}.txt").write_text(f"{text}\n")
    assert run("index", place / "docs", "--out", place / "index").exit_code == 0
    return place


@pytest.fixture(scope="module")
def trained(home: Path) -> dict[str, Any]:
    """What a training from the index said; the model stands at ``home/model``."""
    return only_object(run("train", "query-generator", home / "index", "--out", home / "model", *SMALL, "--json"))


def test_training_makes_held_out_questions_likelier(trained: dict[str, Any]) -> None:
    assert trained["pseudo"]
    assert trained["steps"] == 12
    assert trained["passages"] == len(FACTS)
    assert trained["trained_on"] > trained["held_out"] > 0
    assert 1 < trained["perplexity"]["after"] < trained["perplexity"]["before"] / 2
    assert trained["log_likelihood"]["before"] < trained["log_likelihood"]["after"] < 0


def test_the_model_is_kept_and_the_checkpoints_are_not(home: Path, trained: dict[str, Any]) -> None:
    assert run("verify", home / "model").exit_code == 0
    assert not (home / "model.training").exists()
    failure(1, "already", "train", "query-generator", home / "index", "--out", home / "model", *SMALL)


def test_questions_are_sampled_of_the_model(home: Path, trained: dict[str, Any]) -> None:
    asked = ["pseudo-queries", home / "docs", "--generator", home / "model", "-n", "3", "--json", "--out"]
    told = only_object(run(*asked, home / "sampled.jsonl"))
    triplets = list(read_triplets(home / "sampled.jsonl"))
    assert told["questions"] == len(triplets) > 0
    assert told["documents"] == len(FACTS)
    assert {doc_id for triplet in triplets for doc_id in triplet.doc_ids} <= {f"{name}.txt" for name in FACTS}
    assert all(triplet.answers == () and triplet.query.text.strip() for triplet in triplets)
    assert len({triplet.query.id for triplet in triplets}) == len(triplets)
    only_object(run(*asked, home / "again.jsonl"))
    assert (home / "again.jsonl").read_bytes() == (home / "sampled.jsonl").read_bytes()
    only_object(run(*asked, home / "other.jsonl", "--seed", "1"))
    assert (home / "other.jsonl").read_bytes() != (home / "sampled.jsonl").read_bytes()


def test_queries_with_judgements_are_questions(home: Path, tmp_path: Path) -> None:
    names = sorted(FACTS)
    lines = [json.dumps({"_id": f"q{i}", "text": f"what about {name}?"}) for i, name in enumerate(names)]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines) + "\n")
    # The first is not judged, and the second has nothing relevant.
    judged = [f"q{i} 0 {name}.txt {int(i > 1)}" for i, name in enumerate(names) if i]
    (tmp_path / "judged.trec").write_text("\n".join(judged) + "\n")
    asked = ["--questions", tmp_path / "queries.jsonl", "--qrels", tmp_path / "judged.trec"]
    told = only_object(
        run("train", "query-generator", home / "index", *asked, "--out", tmp_path / "model", *SMALL, "--json")
    )
    assert not told["pseudo"]
    assert told["trained_on"] + told["dev"] + told["held_out"] == len(names) - 2
    failure(
        2, "judgements without questions", "train", "query-generator", home / "index", "--qrels",
        tmp_path / "judged.trec", "--out", tmp_path / "no",
    )  # fmt: skip


def test_an_own_question_file_and_a_bert_like_encoder(home: Path, tmp_path: Path) -> None:
    save_encoder(
        tmp_path / "bert",
        BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40),
    )
    only_object(run("pseudo-queries", home / "docs", "-n", "4", "--out", tmp_path / "asked.jsonl", "--json"))
    more = ["--questions", tmp_path / "asked.jsonl", "--source", f"warm:{tmp_path / 'bert'}", "--batch-size", "8"]
    result = run("train", "query-generator", home / "docs", "--out", tmp_path / "m", *more, "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "before training" in result.stdout
    model, _ = load_saved_generator(tmp_path / "m")
    assert model.config.frozen_encoder
    assert model.config.copy_head
    # Trained further, thawed; with what a training before left.
    thawed = ["--source", tmp_path / "m", "--steps", "2", "--no-frozen-encoder", "--json"]
    told = only_object(run("train", "query-generator", home / "docs", "--out", tmp_path / "m2", *thawed))
    assert told["options"]["frozen_encoder"] is False
    assert not load_saved_generator(tmp_path / "m2")[0].config.frozen_encoder


def test_stopped_it_goes_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["train", "query-generator", str(home / "index"), "--out", str(tmp_path / "m"), *SMALL]
    real = training.pair_loss
    left = [8]

    def stopping(*arguments: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    monkeypatch.setattr(training, "pair_loss", stopping)
    stopped: Result = CliRunner().invoke(app, command)
    assert stopped.exit_code == 130
    assert "run the same command again" in stopped.stderr
    checkpoint = last_finished(tmp_path / "m.training" / "training")
    assert checkpoint is not None
    failure(1, "batch_size was 8", *command[:-4], "--batch-size", "4")
    monkeypatch.setattr(training, "pair_loss", real)
    went_on = run(*command)
    assert went_on.exit_code == 0, went_on.output
    assert "going on where it was stopped" in went_on.stderr
    assert not (tmp_path / "m.training").exists()


@pytest.mark.parametrize(
    ("status", "said", "arguments"),
    [
        (2, "Give one", ["--steps", "3", "--epochs", "1"]),
        (2, "more than 0", ["--epochs", "0"]),
        (2, "unknown prompt format", ["--preset", "mine"]),
        (2, "above 0", ["--learning-rate", "0"]),
        (2, "unknown preset", ["--source", "scratch:huge"]),
        (2, "no option 'copy_head'", ["--source", "scratch:tiny", "--copy-head"]),
        (1, "no model", ["--source", "NOWHERE"]),
        (1, "has a relevant document", ["--questions", "ANSWERS"]),
    ],
)
def test_what_cannot_be_trained(status: int, said: str, arguments: list[str], home: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    lines = [{"id": str(n), "question": f"who is number {n}?", "answers": ["x"]} for n in range(20)]
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    places = {"NOWHERE": str(tmp_path / "nowhere"), "ANSWERS": str(answers)}
    filled = [places.get(argument, argument) for argument in arguments]
    failure(status, said, "train", "query-generator", home / "index", "--out", tmp_path / "m", *filled)
    assert not (tmp_path / "m").exists()


def test_offline_questions_are_not_sampled(home: Path, tmp_path: Path) -> None:
    failure(2, "--top-k", "pseudo-queries", home / "docs", "--out", tmp_path / "o.jsonl", "--top-k", "3")
