"""Fixtures for all rooms: where the real collections lie, and one model server, as starting it outlasts most tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

_CANDIDATES = (
    Path(os.environ["RETGEN_SHARED_DATA"]) if "RETGEN_SHARED_DATA" in os.environ else None,
    Path(__file__).resolve().parents[2] / "shared" / "data",
)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real collections beside the checkout; tests that need it skip, and say so, where it is missing."""
    for candidate in _CANDIDATES:
        if candidate is not None and candidate.is_dir():
            return candidate
    pytest.skip("the real collections are not beside this checkout (../shared/data; or set RETGEN_SHARED_DATA)")


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved causal model with a chat template, tiny and with random weights."""
    from tests.llm.serving import save_chat_model

    folder = tmp_path_factory.mktemp("chat-model")
    save_chat_model(folder)
    return folder


@pytest.fixture(scope="session")
def model_url(chat_model: Path) -> Iterator[str]:
    """Where `chat_model` is served."""
    from tests.llm.serving import served

    with served(chat_model) as url:
        yield url


@pytest.fixture(scope="session")
def keyed_url(chat_model: Path) -> Iterator[str]:
    """Where `chat_model` is served to those with the key ``sk-right`` alone."""
    from tests.llm.serving import served

    with served(chat_model, "--key", "sk-right") as url:
        yield url
