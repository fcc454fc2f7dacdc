"""Indexes and models that the tests of the server share, and a server over the plain index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from retgen import almanac
from retgen.index import Index
from tests.server.serving import Client, opened, running, save_models


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 passages of the almanac."""
    path = tmp_path_factory.mktemp("served") / "index"
    Index.build(almanac.documents()[:60], path)
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of a cross-encoder and a generator."""
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def plain(index: Path) -> Iterator[Client]:
    """A client of a server over the index alone. No test changes its documents."""
    with running(opened(index)) as (url, _):
        yield Client(url)


@pytest.fixture(scope="session")
def joint(index: Path, models: tuple[str, str]) -> Iterator[Client]:
    """A client of a server with JPR over 10 candidates."""
    with running(opened(index, cross_encoder=models[0], generator=models[1], candidates=10)) as (url, _):
        yield Client(url)
