"""`retgen connect` through a real endpoint: it can be killed at any moment, and says clearly why it cannot go on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.connect.files import read_texts
from retgen.formats import read_triplets
from retgen.llm.ledger import Ledger
from tests.llm.serving import MODEL, delivered, spoiled

DOCUMENTS = 40
KILLS = 3
"""In this suite; ``benchmarks/bench_llm_throughput.py`` kills 20 times."""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "corpus.jsonl"
    rows = ({"id": f"d{n}", "title": f"Metal {n}", "text": f"Metal {n} melts at {n} °C."} for n in range(DOCUMENTS))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def arguments(corpus: Path, job: str, *more: object, out: str = "out.jsonl") -> list[str]:
    folder = corpus.parent
    made = ["connect", corpus, "--job", job, "--out", folder / out, "--ledger", folder / "ledger.sqlite", *more]
    return [str(each) for each in made]


def chat(url: str) -> list[object]:
    return ["--writer", "chat", "--endpoint", url, "--model", MODEL, "--max-tokens", "8"]


def run(*given: str) -> Result:
    return CliRunner().invoke(app, list(given))


@pytest.mark.slow
def test_killed_at_random_moments_the_output_is_that_of_an_uninterrupted_run(
    model_url: str, corpus: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with spoiled(model_url, log, "--delay", "0.1") as proxy:
        command = [sys.executable, "-m", "retgen", *arguments(corpus, "summarise", *chat(proxy), "--concurrency", 2)]
        chance = random.Random(7)
        kills = 0
        out = tmp_path / "out.jsonl"
        while not out.exists():
            before = len(delivered(log))
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            wanted = before + chance.randint(1, 9)
            while process.poll() is None and (kills >= KILLS or len(delivered(log)) < wanted):
                time.sleep(0.01)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            _, said = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), said.decode()
    assert kills >= 2
    assert len(delivered(log)) == DOCUMENTS
    # At most what was on its way at a kill was asked again.
    assert sum(delivered(log).values()) <= DOCUMENTS + 2 * kills
    fresh = arguments(corpus, "summarise", *chat(model_url), out="fresh.jsonl")
    fresh[fresh.index("--ledger") + 1] = str(tmp_path / "fresh.sqlite")
    assert run(*fresh).exit_code == 0
    assert out.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()


def test_each_job_with_each_writer(model_url: str, corpus: Path, tmp_path: Path) -> None:
    queries, asked = tmp_path / "queries.jsonl", tmp_path / "asked.jsonl"
    queries.write_text('{"_id": "q0", "text": "What melts at 3 °C?"}\n{"_id": "q1", "text": "Which metal?"}\n')
    asked.write_text('{"id": "p0", "question": "What melts at 3 °C?", "doc_ids": ["d3"]}\n')
    (tmp_path / "run.trec").write_text("q0 Q0 d3 1 2.0 x\nq0 Q0 d4 2 1.0 x\nq1 Q0 d1 1 1.0 x\n")
    (tmp_path / "answers.json").write_text('{"q0": "metal 3", "q1": ""}')
    enhance = ["--queries", queries, "--run", tmp_path / "run.trec", "--answers", tmp_path / "answers.json"]
    for writer, name in ((["--writer", "offline"], "offline"), (chat(model_url), MODEL)):
        for job, more, ids in (
            ("summarise", [], [f"d{n}" for n in range(DOCUMENTS)]),
            ("contextualise", ["--queries", queries], ["q0", "q1"]),
            ("enhance", [*enhance, "--round", "2"], ["q0", "q1"]),
        ):
            result = run(*arguments(corpus, job, *writer, *more, "--json"))
            assert result.exit_code == 0, result.output
            assert json.loads(result.stdout)["items"] == len(ids)
            texts = read_texts(tmp_path / "out.jsonl")
            assert list(texts) == ids
            assert all(each.text and each.writer.startswith(name) for each in texts.values())
            assert {each.round for each in texts.values()} == {2 if job == "enhance" else 0}
        assert run(*arguments(corpus, "answer", *writer, "--queries", asked)).exit_code == 0
        (triplet,) = read_triplets(tmp_path / "out.jsonl")
        assert triplet.doc_ids == ("d3",)
        assert len(triplet.answers) == 1
    assert "melts at 3" in read_texts_about(tmp_path, corpus)


def read_texts_about(tmp_path: Path, corpus: Path) -> str:
    assert run(*arguments(corpus, "contextualise", "--queries", tmp_path / "queries.jsonl")).exit_code == 0
    texts = read_texts(tmp_path / "out.jsonl")
    assert texts["q0"].writer == "offline:bm25-context"
    return texts["q0"].about


def test_prompts_that_fail_are_named_and_the_others_wait_in_the_ledger(
    model_url: str, corpus: Path, tmp_path: Path
) -> None:
    with corpus.open("a") as out:
        out.write(json.dumps({"id": "long", "text": "word " * 900}) + "\n")
    result = run(*arguments(corpus, "summarise", *chat(model_url)))
    assert result.exit_code == 1
    assert "1 item of 41 got no text, the first 'long'" in result.output
    assert not (tmp_path / "out.jsonl").exists()
    failed = tmp_path / "out.jsonl.failed.jsonl"
    assert json.loads(failed.read_text())["id"] == "long"
    result = run(*arguments(corpus, "summarise", *chat(model_url), "--partial", "--json"))
    assert result.exit_code == 0, result.output
    assert len(read_texts(tmp_path / "out.jsonl")) == DOCUMENTS
    told = json.loads(result.stdout)
    assert (told["failed"], told["cached"], told["completion_tokens"]) == (1, DOCUMENTS, 0)


def test_a_budget_stops_and_the_same_command_goes_on(model_url: str, corpus: Path, tmp_path: Path) -> None:
    command = arguments(corpus, "summarise", *chat(model_url), "--price", "1", "2")
    result = run(*command, "--budget-money", "0.002")
    assert result.exit_code == 1
    assert "the budget is spent" in result.output
    assert f"of {DOCUMENTS} prompts have their completion in the ledger" in result.output
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        kept = len(ledger)
        assert sum(entry.cost or 0 for entry in ledger.entries()) <= 0.002
    result = run(*command, "--json")
    assert json.loads(result.stdout)["cached"] == kept > 0


def test_a_wrong_key_is_named_and_never_shown(
    keyed_url: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-and-secret")
    result = CliRunner().invoke(app, ["-v", *arguments(corpus, "summarise", *chat(keyed_url))])
    assert result.exit_code == 1
    assert "the endpoint refuses the key in OPENAI_API_KEY" in result.output
    assert "sk-wrong-and-secret" not in result.output
    assert all(b"sk-wrong-and-secret" not in file.read_bytes() for file in tmp_path.iterdir() if file.is_file())


@pytest.mark.parametrize("why", ["budget", "rate", "key", "model", "host"])
def test_each_reason_to_stop_is_one_message_and_the_same_command_goes_on(
    why: str, keyed_url: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half is done, something is wrong, it is put right: the output is that of a run that was never stopped."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
    right = arguments(corpus, "summarise", *chat(keyed_url))
    fresh = [*right]
    fresh[fresh.index("--out") + 1] = str(tmp_path / "fresh.jsonl")
    fresh[fresh.index("--ledger") + 1] = str(tmp_path / "fresh.sqlite")
    assert run(*fresh).exit_code == 0
    assert run(*right, "--budget-tokens", "3000").exit_code == 1
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        kept = len(ledger)
    assert 0 < kept < DOCUMENTS

    wrong, said, with_proxy = [*right], "", contextlib.nullcontext(keyed_url)
    if why == "budget":
        wrong, said = [*right, "--budget-tokens", "10"], "the budget is spent: 0 of 10 tokens"
    elif why == "rate":
        options = ("--faults", "1", "--kinds", "refuse", "--retry-after", "3600")
        with_proxy, said = spoiled(keyed_url, tmp_path / "log", *options), "the endpoint asks to wait 3600 s"  # type: ignore[assignment]
    elif why == "key":
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-and-secret")
        said = "the endpoint refuses the key in OPENAI_API_KEY"
    elif why == "model":
        wrong[wrong.index("--model") + 1] = "another"
        said, kept = "the endpoint does not know the model 'another'", 0
    else:
        with_proxy, said = contextlib.nullcontext("http://127.0.0.1:9/v1"), "the endpoint cannot be reached"
    with with_proxy as address:
        wrong[wrong.index("--endpoint") + 1] = address
        result = run(*wrong)
    assert result.exit_code == 1
    assert result.output.count("Error:") == 1
    assert said in result.output
    counted = re.search(rf"At least (\d+) of {DOCUMENTS} prompts have their completion in the ledger", result.output)
    assert counted
    assert int(counted[1]) <= kept
    assert "Traceback" not in result.output
    assert "sk-" not in result.output
    assert not (tmp_path / "out.jsonl").exists()

    monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
    done = run(*right, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["cached"] >= kept
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()


def test_docids_are_measured_beside_the_documents_first_words(model_url: str, corpus: Path, tmp_path: Path) -> None:
    told = json.loads(run(*arguments(corpus, "summarise", *chat(model_url), "--json")).stdout)["quality"]
    kept = json.loads((tmp_path / "out.jsonl.quality.json").read_text())
    assert kept["docids"] == told
    texts = Counter(each.text.lower() for each in read_texts(tmp_path / "out.jsonl").values())
    shared = sum(count for count in texts.values() if count > 1)
    assert (told["documents"], told["unit"], told["sharing"]) == (DOCUMENTS, "words", shared)
    assert kept["lead"]["overlap"] == 1.0
    shown = run(*arguments(corpus, "summarise", "--words", "3", "--tokenizer", str(tmp_path / "nowhere")))
    assert shown.exit_code == 1
    assert "nowhere" in shown.output
    by_words = run(*arguments(corpus, "summarise", "--words", "3"))
    # "Metal 1 melts", "Metal 2 melts", …: the second word tells them apart.
    assert "unique after 2.0 words" in by_words.output.replace("\n", " ")
    refused = run(*arguments(corpus, "contextualise", "--queries", str(corpus), "--tokenizer", "x"))
    assert refused.exit_code == 2


def test_a_batch_endpoint_by_files(model_url: str, corpus: Path, tmp_path: Path) -> None:
    """What a provider does with the file is done here by sending its lines to the server one by one."""
    import urllib.request

    requests = tmp_path / "requests.jsonl"
    command = arguments(corpus, "summarise", *chat(model_url))
    assert run(*command, "--batch-file", str(requests)).exit_code == 0
    lines = [json.loads(line) for line in requests.read_text().splitlines()]
    assert len(lines) == DOCUMENTS
    answers = []
    for line in reversed(lines[1:]):
        body = json.dumps(line["body"]).encode()
        asked = urllib.request.Request(model_url.removesuffix("/v1") + line["url"], body)
        with urllib.request.urlopen(asked) as answer:
            response = {"status_code": 200, "body": json.loads(answer.read())}
        answers.append({"custom_id": line["custom_id"], "response": response, "error": None})
    answers.append({"custom_id": lines[0]["custom_id"], "response": None, "error": {"code": "batch_expired"}})
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    collect = ["ledger", "collect", str(tmp_path / "ledger.sqlite"), str(requests), str(tmp_path / "answers.jsonl")]
    told = json.loads(run(*collect, "--price", "1", "2", "--json").stdout)
    (sums,) = map(json.loads, run("ledger", "stats", str(tmp_path / "ledger.sqlite"), "--json").stdout.splitlines())
    assert sums["cost"] > 0
    assert sums["cost"] == pytest.approx((sums["prompt_tokens"] + 2 * sums["completion_tokens"]) / 1e6)
    assert (told["added"], told["known"], list(told["failed"])) == (DOCUMENTS - 1, 0, [lines[0]["custom_id"]])
    assert json.loads(run(*command, "--json").stdout)["cached"] == DOCUMENTS - 1
    assert "has everything" in run(*command, "--batch-file", str(requests)).stdout


@pytest.mark.parametrize(
    ("status", "said", "given"),
    [
        (2, "unknown job", ["--job", "greet"]),
        (2, "needs --queries", ["--job", "contextualise"]),
        (2, "makes no use of --run", ["--job", "summarise", "--run", "x"]),
        (2, "unknown writer", ["--job", "summarise", "--writer", "nobody"]),
        (2, "needs --model", ["--job", "summarise", "--writer", "chat"]),
        (2, "makes no use of --endpoint", ["--job", "summarise", "--endpoint", "http://host/v1"]),
        (2, "needs prices", ["--job", "summarise", "--writer", "chat", "--model", "m", "--budget-money", "1"]),
        (2, "NAME=JSON", ["--job", "summarise", "--writer", "chat", "--model", "m", "--parameter", "top_p"]),
        (1, "cannot be reached", ["--job", "summarise", "--writer", "chat", "--model", "m", "--attempts", "1",
                                  "--endpoint", "http://127.0.0.1:9/v1"]),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(status: int, said: str, given: list[str], corpus: Path, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger.sqlite")
    result = run("connect", str(corpus), *given, "--out", str(tmp_path / "out.jsonl"), "--ledger", ledger)
    assert result.exit_code == status, result.output
    assert said in result.output
    assert not (tmp_path / "out.jsonl").exists()
