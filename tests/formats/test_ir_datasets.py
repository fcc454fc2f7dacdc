"""Collections of ir_datasets, read through the package itself from a collection registered here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from retgen.errors import FormatError, MissingExtraError, RecordError
from retgen.formats import Skipped, read_corpus, read_qrels, read_queries, read_triplets
from retgen.types import Document, Query


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    for read in (read_corpus, read_queries, read_qrels):
        with pytest.raises(MissingExtraError, match=r"'ir_datasets', which is not installed.*pip install"):
            read("ir_datasets:vaswani")


@pytest.fixture
def registered() -> Iterator[str]:
    ir_datasets = pytest.importorskip("ir_datasets")
    from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, GenericDoc, GenericQuery, TrecQrel

    class TitledDoc(NamedTuple):
        doc_id: str
        title: str
        body: str

        def default_text(self) -> str:
            return f"{self.title} {self.body}"

    class Docs(BaseDocs):  # type: ignore[misc]
        def docs_iter(self) -> Iterator[object]:
            return iter([GenericDoc("d1", "Tea is hot."), TitledDoc("d2", "Ice", "Ice is cold."), GenericDoc("d3", "")])

    class Queries(BaseQueries):  # type: ignore[misc]
        def queries_iter(self) -> Iterator[object]:
            return iter([GenericQuery("q1", "what is hot?")])

    class Qrels(BaseQrels):  # type: ignore[misc]
        def qrels_iter(self) -> Iterator[object]:
            return iter([TrecQrel("q1", "d1", 2, "0")])

    name = "retgen-test"
    ir_datasets.registry.register(name, ir_datasets.Dataset(Docs(), Queries(), Qrels()))
    ir_datasets.registry.register(f"{name}/bare", ir_datasets.Dataset(Queries()))
    yield f"ir_datasets:{name}"
    for key in (name, f"{name}/bare"):
        del ir_datasets.registry._registered[key]


def test_documents_queries_and_judgements(registered: str) -> None:
    skipped = Skipped()
    assert list(read_corpus(registered, skipped=skipped)) == [
        Document("d1", "Tea is hot."),
        Document("d2", "Ice is cold.", "Ice"),
    ]
    assert (skipped.count, skipped.errors[0].line) == (1, 3)
    with pytest.raises(RecordError, match="neither text nor title"):
        list(read_corpus(registered))
    assert list(read_queries(registered)) == [Query("q1", "what is hot?")]
    assert read_qrels(registered) == {"q1": {"d1": 2}}


def test_what_a_collection_lacks_is_named(registered: str) -> None:
    with pytest.raises(FormatError, match="no docs"):
        read_corpus(f"{registered}/bare")
    with pytest.raises(FormatError, match="no collection 'nowhere'"):
        read_corpus("ir_datasets:nowhere")
    with pytest.raises(FormatError, match="no questions with answers"):
        read_triplets(registered)
