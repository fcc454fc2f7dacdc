"""Another server than ours: `transformers serve`, where what it needs is installed, over the same saved model."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from retgen.connect.chat import ChatWriter
from retgen.connect.prompted import Sampling
from retgen.llm import Endpoint, EndpointClient
from retgen.types import Query

pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn")
pytest.importorskip("uvicorn", reason="transformers serve needs fastapi and uvicorn")


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", str(folder), "--port", str(port)]
    command += ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1"]
    process = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.2)
        assert process.poll() is None, "transformers serve did not start"
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_connectors_from_transformers_serve(chat_model: Path, model_url: str) -> None:
    queries = [Query(f"q{number}", f"What is {number}?") for number in range(5)]
    sampling = Sampling(max_tokens=8)
    with _serving(chat_model) as url:
        client = EndpointClient(Endpoint(url), concurrency=1)
        found = ChatWriter(client, str(chat_model), sampling=sampling).contextualise(queries)
    expected = ChatWriter(EndpointClient(Endpoint(model_url)), "tiny", sampling=sampling).contextualise(queries)
    assert [each.text for each in found] == [each.text for each in expected]
