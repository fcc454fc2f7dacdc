"""`retgen train unigen` on a small folder, what `ask` and `search` do with the model, and all that can go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.generative import UniGen
from retgen.index import Index
from retgen.text import has_answer
from tests.models.checkpoints import save_encoder, save_seq2seq

FACTS = {
    "oxygen": "Oxygen was discovered by Joseph Priestley in 1774. It boils at 90 kelvin. Plants give it off by day.",
    "radium": "Radium was found by Marie Curie in Paris. The metal glows blue. It was named after the ray in 1898.",
    "nile": "The Nile flows north through Egypt. It is about 6650 kilometres long. Cairo lies on its eastern bank.",
    "danube": "The Danube rises in Germany. It passes through Vienna and Budapest. Barges bring 90 tons a day.",
    "mars": "Mars has two moons, Phobos and Deimos. Its day lasts 24 hours. Olympus Mons is its highest mountain.",
    "venus": "Venus turns backwards once in 243 days. Its clouds hold acid. The probe Venera landed there in 1970.",
    "bell": "Alexander Bell patented the telephone in 1876. He taught the deaf in Boston. His firm became rich.",
    "zuse": "Konrad Zuse built a computer in Berlin in 1941. It weighed 1000 kilograms. Bombs destroyed the machine.",
    "peru": "Lima is the capital of Peru. Potatoes were first grown there. The country counts 34 million people.",
    "japan": "Tokyo is the capital of Japan. The yen is its currency. Mount Fuji rises to 3776 metres near the city.",
    "whale": "The blue whale weighs 150 tonnes. It feeds on krill in the Southern Ocean. Norway hunted it until 1966.",
    "bee": "A bee visits 1000 flowers a day. Karl von Frisch read its dance in Munich. One hive makes 30 kilograms.",
}
SMALL = ["--source", "scratch:tiny", "--steps", "10", "--pretraining-steps", "6", "--batch-size", "4"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def only_object(result: Result) -> dict[str, Any]:
    """Standard output, which must be one JSON object and nothing else."""
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def failure(status: int, said: str, *arguments: str | Path) -> None:
    """The command ends with this status, says this on standard error in one block, and nothing on standard output."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of documents, its index, and another folder's index."""
    place = tmp_path_factory.mktemp("train")
    (place / "docs").mkdir()
    for name, text in FACTS.items():
        (place / "docs" / f"{name}.txt").write_text(f"{text}\n")
    assert run("index", place / "docs", "--out", place / "index").exit_code == 0
    shutil.copytree(place / "docs", place / "others")
    (place / "others" / "bee.txt").unlink()
    assert run("index", place / "others", "--out", place / "other-index").exit_code == 0
    return place


@pytest.fixture(scope="module")
def trained(home: Path) -> dict[str, Any]:
    """What a training from the index said; the model stands at ``home/model``."""
    return only_object(run("train", "unigen", home / "index", "--out", home / "model", *SMALL, "--json"))


class TestTraining:
    def test_every_measure_is_compared_with_the_first_minute(self, trained: dict[str, Any]) -> None:
        assert set(trained["measures"]) == {"R@1", "R@10", "MRR@10", "EM", "F1"}
        for name, gain in trained["measures"].items():
            assert 0 <= gain["before"] <= 1
            assert 0 <= gain["after"] <= 1
            assert gain["low"] <= gain["after"] - gain["before"] <= gain["high"]
            assert 0 <= gain["p_value"] <= 1
            assert gain["questions"] == trained["held_out"]
            assert gain["verdict"] in {"improved", "no clear difference", "worse"}
            assert name in trained["summary"]

    def test_pseudo_questions_stand_in_for_labels(self, trained: dict[str, Any]) -> None:
        assert trained["pseudo"]
        assert trained["passages"] == len(FACTS)
        assert trained["trained_on"] > trained["held_out"] > 0

    def test_what_a_writer_wrote_names_the_passages(self, home: Path, tmp_path: Path) -> None:
        names = tmp_path / "names.jsonl"
        connect = ("connect", home / "index", "--job", "summarise", "--words", "4", "--out", names)
        assert run(*connect).exit_code == 0
        train = ("train", "unigen", home / "index", "--out", tmp_path / "named", *SMALL, "--connectors", names)
        failure(2, "passages have one name", *train, "--docids", "title")
        assert only_object(run(*train, "--json"))["docids"]["documents"] == len(FACTS)
        table = UniGen.open(tmp_path / "named").table
        written = {row["id"]: row["text"] for row in map(json.loads, names.read_text().splitlines())}
        assert {doc_id: table.text(table.number(doc_id)) for doc_id in written} == written
        assert table.make_up.scheme == "connector"
        names.write_text("".join(names.read_text().splitlines(keepends=True)[1:]))
        failure(2, "no connector", *train, "--overwrite")

    def test_dev_questions_are_asked_as_it_goes_on(self, home: Path, trained: dict[str, Any]) -> None:
        assert trained["dev"] >= 1
        history = json.loads((home / "model" / "history.json").read_text())
        asked = [row for row in history if "eval_MRR@10" in row]
        assert [(row["stage"], row["step"]) for row in asked] == [(1, step) for step in (2, 4, 6, 8, 10)]
        assert all(0 <= row[name] <= 1 for row in asked for name in ("eval_MRR@10", "eval_EM"))
        assert {row["stage"] for row in history} == {0, 1}
        said = only_object(run("curves", home / "model", "--out", home / "curves.svg", "--json"))
        assert said["models"] == [str(home / "model")]
        assert [point["values"] for point in said["MRR@10"]] == [[row["eval_MRR@10"]] for row in asked]
        assert (home / "curves.svg").read_text().startswith("<?xml")
        failure(2, "not rounds or stages", "curves", "--iterations", home / "model", "--out", home / "c.svg")

    def test_the_best_on_dev_questions_is_kept_when_asked_for(self, home: Path, tmp_path: Path) -> None:
        few = ["--source", "scratch:tiny", "--steps", "4", "--pretraining-steps", "0", "--batch-size", "4"]
        result = run("train", "unigen", home / "index", "--out", tmp_path / "best", *few, "--keep-best")
        assert result.exit_code == 0, result.output
        assert "to ask meanwhile" in result.stderr
        assert "dev questions: MRR@10" in result.stderr
        assert "Docids of 12 passages: none shares one with another; 0 cut" in result.stderr
        # Of other settings: no seed of the same training.
        system = UniGen.open(tmp_path / "best", device="cpu")
        system.settings = replace(system.settings, num_beams=3)
        system.save(tmp_path / "other")
        failure(
            1, "not trained as the first", "curves", tmp_path / "best", tmp_path / "other", "--out", tmp_path / "c.svg"
        )

    def test_dev_questions_may_be_left_out(self, home: Path, tmp_path: Path) -> None:
        few = ["--source", "scratch:tiny", "--steps", "1", "--pretraining-steps", "0", "--batch-size", "2"]
        arguments = ["train", "unigen", home / "index", "--out", tmp_path / "plain", *few, "--eval-steps", "0"]
        assert only_object(run(*arguments, "--json"))["dev"] == 0
        failure(2, "measured no dev questions", "curves", tmp_path / "plain", "--out", tmp_path / "c.svg")
        failure(2, "eval_steps above 0", *arguments, "--keep-best", "--overwrite")

    def test_docids_that_passages_share_are_counted(self, tmp_path: Path) -> None:
        rows = [{"_id": name, "title": "Rivers", "text": text} for name, text in FACTS.items()]
        rows[0]["title"] = "Gas"
        (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        few = ["--source", "scratch:tiny", "--steps", "1", "--pretraining-steps", "0", "--batch-size", "2"]
        named = ["--docids", "title", "--eval-steps", "0", "--json"]
        result = run("train", "unigen", tmp_path / "corpus.jsonl", "--out", tmp_path / "model", *few, *named)
        assert only_object(result)["docids"] == {"documents": 12, "sharing": 11, "groups": 1, "cut": 0}
        assert "11 share one with another, in 1 group; 0 cut" in result.stderr

    def test_the_model_is_kept_and_the_checkpoints_are_not(self, home: Path, trained: dict[str, Any]) -> None:
        assert run("verify", home / "model").exit_code == 0
        assert not (home / "model.training").exists()
        settings = json.loads((home / "model" / "settings.json").read_text())
        assert settings["context"] == "offline:bm25-context"
        assert settings["answer_strategy"] == "span"
        assert (settings["context_passages"], settings["context_listed"]) == (2, 10)

    def test_an_own_question_file(self, home: Path, trained: dict[str, Any]) -> None:
        made = only_object(run("pseudo-queries", home / "docs", "-n", "4", "--out", home / "asked.jsonl", "--json"))
        few = ["--steps", "2", "--pretraining-steps", "1", "--batch-size", "4", "--docids", "title"]
        result = run(
            "train",
            "unigen",
            home / "docs",
            "--out",
            home / "labelled",
            "--questions",
            home / "asked.jsonl",
            *["--source", "scratch:tiny", "--answer-strategy", "free"],
            *few,
        )
        assert result.exit_code == 0, result.output
        assert "| UniGen " in result.stdout
        assert "Against the first-minute answerer, training" in result.stdout.splitlines()[-1]
        assert "questions to train on" in result.stderr
        assert f'retgen ask INDEX "your question" --model {home / "labelled"}' in result.stderr
        assert made["questions"] == len((home / "asked.jsonl").read_text().splitlines())
        # A corpus and an index of it are one collection.
        assert only_object(run("ask", home / "index", "Who?", "--model", home / "labelled", "--json"))["passages"]

    @pytest.mark.parametrize("kind", ["t5", "warm"])
    def test_weights_from_a_folder(self, kind: str, home: Path, tmp_path: Path) -> None:
        if kind == "t5":
            save_seq2seq(tmp_path / "weights", "v1.1")
            source = str(tmp_path / "weights")
        else:
            shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
            save_encoder(tmp_path / "weights", BertConfig(**shape))
            source = f"warm:{tmp_path / 'weights'}"
        few = ["--steps", "2", "--pretraining-steps", "1", "--batch-size", "4"]
        arguments = ["train", "unigen", home / "index", "--out", tmp_path / "model", "--source", source, *few]
        assert only_object(run(*arguments, "--json"))["options"]["source"] == source
        assert only_object(run("ask", home / "index", "Who?", "--model", tmp_path / "model", "--json"))["passages"]


class TestUse:
    def test_ask_shows_what_was_retrieved_alongside(self, home: Path, trained: dict[str, Any]) -> None:
        question = "Who discovered oxygen?"
        answer = only_object(run("ask", home / "index", question, "--model", home / "model", "-k", "5", "--json"))
        assert answer["source"] is None
        assert answer["answer"] in answer["context"]
        assert answer["score"] <= 0
        assert [passage["rank"] for passage in answer["passages"]] == [1, 2, 3, 4, 5]
        corpus = Index.open(home / "index").corpus
        for passage in answer["passages"]:
            assert passage["score"] <= 0
            assert passage["answer_in_passage"] == has_answer([answer["answer"]], corpus[passage["doc_id"]].text)

    def test_it_never_speaks_of_a_source(self, home: Path, trained: dict[str, Any]) -> None:
        shown = run("ask", home / "index", "Where was radium found?", "--model", home / "model")
        assert shown.exit_code == 0
        assert "Retrieved alongside" in shown.stdout
        assert "holds the answer" in shown.stdout or "does not hold the answer" in shown.stdout
        assert "source" not in shown.stdout

    def test_rounds_are_all_told(self, home: Path, trained: dict[str, Any]) -> None:
        arguments = ["ask", home / "index", "How long is the Nile?", "--model", home / "model", "--rounds", "2"]
        answer = only_object(run(*arguments, "--json"))
        assert [each["round"] for each in answer["rounds"]] == [0, 1, 2]
        assert answer["rounds"][-1]["answer"] == answer["answer"]
        assert f"answer: {answer['rounds'][1]['answer']}" in answer["context"]
        shown = run(*arguments)
        assert "round 0: " in shown.stdout
        assert "UniGen, round 2" in shown.stdout

    def test_search_finds_with_it(self, home: Path, trained: dict[str, Any]) -> None:
        run_file = home / "run.trec"
        found = run("search", home / "index", "Which moons has Mars?", "--with", "unigen", "--model", home / "model")
        assert found.exit_code == 0
        assert found.stdout.splitlines()[0].lstrip().startswith("1 ")
        (home / "queries.tsv").write_text("a\tWhich moons has Mars?\nb\tWhat is the capital of Peru?\n")
        written = run(
            *["search", home / "index", "--queries", home / "queries.tsv", "--with", "unigen"],
            *["--model", home / "model", "-k", "12", "--out", run_file],
        )
        assert written.exit_code == 0, written.output
        # More hits than the model's own beams: as many beams as hits are taken.
        assert len(run_file.read_text().splitlines()) == 2 * len(FACTS)


class TestTrouble:
    def test_a_model_of_another_corpus(self, home: Path, trained: dict[str, Any]) -> None:
        failure(1, "another corpus", "ask", home / "other-index", "Who?", "--model", home / "model")
        failure(
            1, "another corpus", "search", home / "other-index", "Who?", "--with", "unigen", "--model", home / "model"
        )

    def test_folders_that_are_no_model(self, home: Path, trained: dict[str, Any]) -> None:
        failure(1, "no such folder", "ask", home / "index", "Who?", "--model", home / "nowhere")
        failure(1, "retgen did not make it", "ask", home / "index", "Who?", "--model", home / "docs")
        failure(1, "holds an index, not a unigen", "ask", home / "index", "Who?", "--model", home / "index")

    def test_a_truncated_model(self, home: Path, trained: dict[str, Any], tmp_path: Path) -> None:
        shutil.copytree(home / "model", tmp_path / "torn")
        weights = tmp_path / "torn" / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        failure(1, "model.safetensors", "ask", home / "index", "Who?", "--model", tmp_path / "torn")

    @pytest.mark.parametrize(
        ("status", "said", "arguments"),
        [
            (1, "nothing that can be read as a corpus", ["EMPTY", "--out", "NEW"]),
            (1, "holds a corpus, not an index", ["PART", "--out", "NEW"]),
            (2, "unknown preset 'huge'", ["INDEX", "--out", "NEW", "--source", "scratch:huge"]),
            (1, "no/such/checkpoint", ["INDEX", "--out", "NEW", "--source", "no/such/checkpoint"]),
            (2, "unknown answer_strategy 'magic'", ["INDEX", "--out", "NEW", "--answer-strategy", "magic"]),
            (2, "--docids", ["INDEX", "--out", "NEW", "--docids", "isbn"]),
            (2, "--steps", ["INDEX", "--out", "NEW", "--steps", "0"]),
            (1, "an index stands there", ["INDEX", "--out", "INDEX"]),
            (1, "did not make", ["INDEX", "--out", "DOCS"]),
            (1, "no such file", ["INDEX", "--out", "NEW", "--questions", "NEW"]),
            (1, "'d-7', which the collection does not have", ["INDEX", "--out", "NEW", "--questions", "FOREIGN"]),
            (2, "none is left to train on", ["WORDLESS", "--out", "NEW"]),
        ],
    )
    def test_what_cannot_be_trained(
        self, status: int, said: str, arguments: list[str], home: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "wordless.jsonl").write_text('{"_id": "a", "text": "?!"}\n')
        (tmp_path / "foreign.jsonl").write_text(
            '{"id": "q", "question": "Who?", "answers": ["x"], "positives": ["d-7"]}\n'
        )
        places = {
            "INDEX": str(home / "index"),
            "PART": str(home / "index" / "corpus"),
            "DOCS": str(home / "docs"),
            "EMPTY": str(tmp_path / "empty"),
            "WORDLESS": str(tmp_path / "wordless.jsonl"),
            "FOREIGN": str(tmp_path / "foreign.jsonl"),
            "NEW": str(tmp_path / "new"),
        }
        filled = [
            "/".join([places.get(part.split("/")[0], part.split("/")[0]), *part.split("/")[1:]]) for part in arguments
        ]
        source = [] if "--source" in filled else ["--source", "scratch:tiny"]
        result = run("train", "unigen", *filled, *source)
        assert result.exit_code == status, result.output
        assert said in result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("said", "arguments"),
        [
            ("rounds need a trained model", ["ask", "INDEX", "Who?", "--rounds", "1"]),
            ("finds passages itself", ["ask", "INDEX", "Who?", "--model", "MODEL", "--with", "dense"]),
            ("go together", ["search", "INDEX", "Who?", "--with", "unigen"]),
            ("go together", ["search", "INDEX", "Who?", "--model", "MODEL"]),
            ("has no explanation", ["search", "INDEX", "Who?", "--with", "unigen", "--model", "MODEL", "--explain"]),
            ("cannot use the device", ["ask", "INDEX", "Who?", "--model", "MODEL", "--device", "abacus"]),
        ],
    )
    def test_wrong_usage_of_a_model(self, said: str, arguments: list[str], home: Path, trained: dict[str, Any]) -> None:
        places = {"INDEX": str(home / "index"), "MODEL": str(home / "model")}
        failure(2, said, *[places.get(argument, argument) for argument in arguments])

    def test_a_model_is_not_replaced_unasked(self, home: Path, trained: dict[str, Any]) -> None:
        failure(1, "stands there already", "train", "unigen", home / "index", "--out", home / "model", *SMALL)


class TestStoppedAndStartedAgain:
    @pytest.mark.slow
    def test_it_goes_on_and_ends_with_the_same_weights(
        self, home: Path, trained: dict[str, Any], tmp_path: Path
    ) -> None:
        stopped = tmp_path / "stopped"
        killed = start(home, stopped)
        when(lambda: finished_checkpoints(stopped, "pre-training"), killed)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert not stopped.exists()

        interrupted = start(home, stopped)
        when(lambda: finished_checkpoints(stopped, "training"), interrupted)
        interrupted.send_signal(signal.SIGINT)
        said = interrupted.communicate(timeout=60)[1]
        assert interrupted.returncode == 130, said
        assert "run the same command again to go on" in said
        assert not stopped.exists()

        longer = ["train", "unigen", home / "index", "--out", stopped, *SMALL, "--steps", "11"]
        failure_of_plan = run(*longer)
        assert failure_of_plan.exit_code == 1
        assert "steps was 10" in failure_of_plan.stderr

        said = finish(start(home, stopped))
        assert "going on where it was stopped" in said
        assert not (tmp_path / "stopped.training").exists()
        weights = Path("model") / "model.safetensors"
        assert (stopped / weights).read_bytes() == (home / "model" / weights).read_bytes()

    def test_it_begins_anew_when_asked_to(self, home: Path, tmp_path: Path) -> None:
        place = tmp_path / "model.training"
        place.mkdir()
        (place / "plan.json").write_text('{"steps": 7}')
        few = ["--source", "scratch:tiny", "--steps", "1", "--pretraining-steps", "0", "--batch-size", "2"]
        arguments = ["train", "unigen", home / "index", "--out", tmp_path / "model", *few]
        refused = run(*arguments)
        assert refused.exit_code == 1
        assert "begin anew with --no-resume" in refused.stderr
        assert run(*arguments, "--no-resume").exit_code == 0

    def test_a_foreign_folder_is_left_alone(self, home: Path, tmp_path: Path) -> None:
        place = tmp_path / "model.training"
        place.mkdir()
        (place / "thesis.tex").write_text("years of work")
        arguments = ["train", "unigen", home / "index", "--out", tmp_path / "model", *SMALL]
        for option in ([], ["--no-resume"]):
            assert run(*arguments, *option).exit_code == 1
        assert (place / "thesis.tex").read_text() == "years of work"


def start(home: Path, out: Path) -> subprocess.Popen[str]:
    retgen = [sys.executable, "-c", "from retgen.cli import main; main()"]
    return subprocess.Popen(
        [*retgen, "train", "unigen", str(home / "index"), "--out", str(out), *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As many threads as here: sums in another order are other sums.
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def finished_checkpoints(out: Path, stage: str) -> list[Path]:
    return list(out.with_name(f"{out.name}.training").glob(f"{stage}/checkpoint-*/finished"))


def when(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
