"""One model server for all tests of language models: starting it takes longer than the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.llm.serving import save_chat_model, served


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat-model")
    save_chat_model(folder)
    return folder


@pytest.fixture(scope="session")
def model_url(chat_model: Path) -> Iterator[str]:
    with served(chat_model) as url:
        yield url
