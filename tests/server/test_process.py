"""The process as users start it: it says where it listens, finishes what it took, and wrong options end it at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from retgen import almanac
from retgen.cli import app
from retgen.cli.running import WRONG_USAGE
from retgen.errors import ArtefactError, FormatError, UsageError
from retgen.index import Index
from retgen.server import read_settings
from tests.server.serving import Client, at_once

KEY = "sk-test-key-1"


@contextlib.contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``retgen serve`` as a process of its own, and its URL."""
    command = [sys.executable, "-m", "retgen", "serve", "--port", "0", "--json", *options]
    environment = {**os.environ, "RETGEN_API_KEY": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr is not None else ""
        yield process, json.loads(line)["url"]
    finally:
        process.kill()
        process.communicate()


def test_a_stopped_server_finishes_what_it_took_on(tmp_path: Path) -> None:
    documents = almanac.documents()[:20]
    Index.build(documents, tmp_path / "index")
    with started(str(tmp_path / "index")) as (process, url):
        client = Client(url)
        assert client.get("/readyz") == {"status": "ready"}
        begun = threading.Event()

        def add(number: int) -> int:
            if number == 0:
                begun.set()
            body = {"documents": [{"id": f"new-{number}", "text": f"wombat {number}"}]}
            try:
                return int(client.http.post("/v1/documents", json=body).status_code)
            except httpx2.TransportError:
                return 0  # it came when nobody listened any more

        def stop() -> int:
            assert begun.wait(60)
            process.send_signal(signal.SIGTERM)
            return process.wait(90)

        *statuses, code = at_once([*(lambda n=n: add(n) for n in range(6)), stop])
        assert code in (0, -signal.SIGTERM)
        assert set(statuses) <= {201, 503, 0}
        _, errors = process.communicate()
    logged = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert "Traceback" not in errors
    assert sum(line.get("status") == 201 for line in logged) == statuses.count(201)
    held = Index.open(tmp_path / "index", verify=True)
    # What was promised is kept; what was not may have been done all the same, never by half.
    assert all(held.holds(f"new-{number}") for number, status in enumerate(statuses) if status == 201)
    assert len(held) >= len(documents) + statuses.count(201)


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["serve", *arguments], env={"RETGEN_API_KEY": "", "COLUMNS": "200"})
    assert done.exit_code == WRONG_USAGE, done.output
    return done.stderr


def test_others_are_let_in_with_a_key_only(index: Path, tmp_path: Path) -> None:
    assert "no API key" in refused(str(index), "--host", "0.0.0.0")
    (tmp_path / "keys").write_text("short\n")
    assert "8 characters" in refused(str(index), "--api-key-file", str(tmp_path / "keys"))


def test_wrong_options_end_it_at_once(index: Path, models: tuple[str, str]) -> None:
    assert "no retriever 'dense'" in refused(str(index), "--with", "dense", "--port", "0")
    assert "needs a model" in refused(str(index), "--with", "unigen")
    assert "unknown preset" in refused(str(index), "--cross-encoder", models[0], "--preset", "no-such", "--port", "0")


def test_help_teaches() -> None:
    text = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for word in ("curl", "--cross-encoder", "--api-key-file", "--read-only", "RETGEN_API_KEY", "docs/serve.md"):
        assert word in text


def test_a_yaml_names_the_pipeline_from_its_own_folder(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    (tmp_path / "ce").mkdir()
    file.write_text("index: idx\ncross_encoder: ce\ngenerator: org/model\ncandidates: 7\nlimits: {queue: 3}\n")
    made = read_settings(file, {"candidates": 9, "device": None})
    assert made.pipeline.index == tmp_path / "idx"
    assert made.pipeline.cross_encoder == str(tmp_path / "ce")
    assert made.pipeline.generator == "org/model"
    assert (made.pipeline.reranker, made.pipeline.candidates, made.limits.queue) == ("jpr", 9, 3)
    for text, error, words in (
        ("index: i\ncross_encodr: x\n", UsageError, "cross_encodr"),
        ("index: i\ngenerator_weight: 2\n", UsageError, "generator_weight"),
        ("index: i\nlimits: {queue: 0}\n", UsageError, "limits.queue"),
        ("index: i\nlimits: 3\n", UsageError, "limits"),
        ("index: i\nmodel: m\nreader: r\n", UsageError, "one of the two"),
        ("candidates: 3\n", FormatError, "needs an index"),
        ("- a\n", FormatError, "mapping"),
        ("index: [\n", FormatError, "not YAML"),
    ):
        file.write_text(text)
        with pytest.raises(error, match=words):
            read_settings(file)
    with pytest.raises(ArtefactError, match="no such folder"):
        read_settings(tmp_path / "nowhere")
