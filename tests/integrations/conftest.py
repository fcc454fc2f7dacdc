"""A small index of the almanac, and the network switched off for packages that would call home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read when the packages are imported.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LANGSMITH_TRACING"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PT_TEST_TRANSFORMER_REPORTS"] = "0"

from retgen import almanac
from retgen.index import Index


@pytest.fixture(scope="session")
def index_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fourth passage of the almanac."""
    folder = tmp_path_factory.mktemp("integrations") / "index"
    Index.build(almanac.documents()[::4], folder)
    return folder


@pytest.fixture(scope="session")
def index(index_folder: Path) -> Index:
    return Index.open(index_folder)


@pytest.fixture(scope="session")
def asked(index: Index) -> almanac.AlmanacQuestion:
    """A question whose passage is in the index, is found first, and holds the answer in so many words."""
    from retgen.types import Query

    for question in almanac.questions("dev"):
        if question.doc_id in index.corpus and question.answers[0] in index.corpus[question.doc_id].text:
            run = index.search([Query("q", question.text)], 1)
            if run.doc_ids("q") == [question.doc_id]:
                return question
    raise AssertionError("no question of the almanac is answered by every fourth passage")
