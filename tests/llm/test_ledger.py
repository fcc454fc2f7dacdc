"""The ledger: first completion stays, any number of writers, what was put survives a kill, and it tells when torn."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.errors import ArtefactError, RecordError, UsageError
from retgen.llm.ledger import Ledger, LedgerEntry
from retgen.llm.ledger_exchange import export_jsonl, import_jsonl, stats, verify
from retgen.llm.requests import CompletionRequest

JSON = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.lists(st.integers(0, 3), max_size=2)
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
REQUESTS = st.builds(
    CompletionRequest, TEXT, TEXT, st.dictionaries(TEXT, JSON, max_size=3), st.sampled_from(["chat", "prompt-logprobs"])
)


def entry(number: int, completion: str | None = None, model: str = "m") -> LedgerEntry:
    request = CompletionRequest(model, f"prompt {number}", {"temperature": 0, "seed": number})
    text = f"completion {number}" if completion is None else completion
    return LedgerEntry(request, text, "stop", 10, 5, 0.25, "http://host/v1", 1000.0 + number, 0.5)


@UNHURRIED
@given(st.lists(REQUESTS, max_size=8, unique_by=lambda request: request.key), TEXT)
def test_what_is_put_is_found_and_nothing_else(requests: list[CompletionRequest], text: str) -> None:
    ledger = Ledger(":memory:")
    for request in requests[1:]:
        ledger.put(LedgerEntry(request, text + request.prompt))
    for request in requests[1:]:
        found = ledger.get(request)
        assert found is not None
        assert (found.request, found.completion) == (request, text + request.prompt)
    assert all(ledger.get(request) is None for request in requests[:1])
    assert verify(ledger) == []


@UNHURRIED
@given(REQUESTS, REQUESTS)
def test_keys_are_equal_exactly_where_requests_are(first: CompletionRequest, second: CompletionRequest) -> None:
    def content(request: CompletionRequest) -> tuple[str, ...]:
        return request.kind, request.model, request.prompt, json.dumps(dict(request.parameters), sort_keys=True)

    assert (first.key == second.key) == (content(first) == content(second))


def test_the_first_completion_stays() -> None:
    ledger = Ledger(":memory:")
    assert ledger.put(entry(1)).completion == "completion 1"
    assert ledger.put(entry(1, "another")).completion == "completion 1"
    assert len(ledger) == 1


def _put_many(path: str, begin: int) -> None:
    with Ledger(path) as ledger:
        for number in range(begin, begin + 60):
            ledger.put(entry(number))
            assert ledger.get(entry(number).request) is not None


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_put_many, args=(path, 20 * number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    with Ledger(path) as ledger:
        assert len(ledger) == 120
        assert verify(ledger) == []


def test_many_threads_share_one_ledger_and_forked_processes_open_their_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    threads = [
        threading.Thread(target=lambda n=number: [ledger.put(entry(n * 50 + i)) for i in range(50)])
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process = multiprocessing.get_context("fork").Process(target=ledger.put, args=(entry(900),))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert len(ledger) == len(pickle.loads(pickle.dumps(ledger))) == 201


def test_what_was_put_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    code = (
        "import itertools, sys\n"
        "from retgen.llm.ledger import Ledger, LedgerEntry\n"
        "from retgen.llm.requests import CompletionRequest\n"
        f"ledger = Ledger({str(path)!r})\n"
        "for number in itertools.count():\n"
        "    ledger.put(LedgerEntry(CompletionRequest('m', str(number)), 'x' * 500))\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.readlines()
    process.wait()
    with Ledger(path) as ledger:
        assert len(ledger) >= len([line for line in told if line.endswith("\n")]) >= 200
        assert verify(ledger) == []


@pytest.mark.parametrize("column", ["completion", "prompt", "parameters", "model"])
def test_a_change_behind_its_back_is_found(column: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        for number in range(5):
            ledger.put(entry(number))
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE completions SET {column} = '{{}}' WHERE number = 3")
    with Ledger(path) as ledger:
        (fault,) = verify(ledger)
    assert fault.startswith(entry(2).request.key)
    shown = CliRunner().invoke(app, ["ledger", "verify", str(path)])
    assert shown.exit_code == 1
    assert entry(2).request.key in shown.output


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database, and long enough to have a header " * 9)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    newer = tmp_path / "newer.sqlite"
    Ledger(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    for path, said in ((text, "not a ledger"), (other, "not a ledger"), (newer, "Update retgen")):
        before = path.read_bytes()
        with pytest.raises(ArtefactError, match=said):
            Ledger(path)
        assert path.read_bytes() == before
    with pytest.raises(ArtefactError, match="no ledger here"):
        Ledger(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["ledger", *map(str, arguments)])


def test_export_and_import_give_the_same_ledger(tmp_path: Path) -> None:
    first, second, file = tmp_path / "a.sqlite", tmp_path / "b.sqlite", tmp_path / "ledger.jsonl"
    with Ledger(first) as ledger:
        for number in range(7):
            ledger.put(entry(number, "ünï “quoted”\n\x00" if number == 3 else None))
    assert run("export", first, "--out", file).exit_code == 0
    with Ledger(second) as ledger:
        ledger.put(entry(0, "another"))
    told = json.loads(run("import", second, file, "--json").stdout)
    assert told == {"added": 6, "known": 1, "different": 1}
    with Ledger(first) as one, Ledger(second) as two:
        kept = list(one.entries())
        assert list(two.entries()) == [entry(0, "another"), *kept[1:]]
        assert export_jsonl(two, tmp_path / "again.jsonl") == 7
    assert (tmp_path / "again.jsonl").read_text().splitlines()[1:] == file.read_text().splitlines()[1:]


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace("prompt 1", "prompt 9"),
        lambda line: line[:40],
        lambda line: line.replace('"completion": "', '"completion": 3, "x": "'),
        lambda line: "[]",
    ],
)
def test_a_bad_line_is_named_and_those_before_it_are_kept(change, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "ledger.jsonl"
    with Ledger(":memory:") as ledger:
        for number in range(3):
            ledger.put(entry(number))
        export_jsonl(ledger, file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], change(lines[1]), lines[2]]))
    target = Ledger(":memory:")
    with pytest.raises(RecordError, match=r"ledger\.jsonl:2"):
        import_jsonl(target, file)
    assert len(target) == 1


def test_stats_are_sums_by_model(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        for number in range(6):
            ledger.put(entry(number, "" if number == 5 else None, "b" if number % 3 else "a"))
        a, b = stats(ledger)
    assert (a.model, a.completions, a.prompt_tokens, a.completion_tokens, a.cost, a.empty) == ("a", 2, 20, 10, 0.5, 0)
    assert (b.model, b.completions, b.empty, b.first, b.last) == ("b", 4, 1, 1001.0, 1005.0)
    rows = [json.loads(line) for line in run("stats", path, "--json").stdout.splitlines()]
    assert [row["completions"] for row in rows] == [2, 4]
    assert "1970-01-01" in run("stats", path).stdout
    assert run("verify", path).exit_code == 0
    assert run("stats", tmp_path / "nowhere").exit_code == 1


def test_requests_that_cannot_be_sent_are_refused() -> None:
    with pytest.raises(UsageError, match="JSON"):
        CompletionRequest("m", "p", {"temperature": float("nan")})
    with pytest.raises(UsageError, match="not a text that can be sent"):
        CompletionRequest("m", "half a pair \ud83d")
