"""A small collection, a BM25 over it, and a writer that reads both."""

from __future__ import annotations

import pytest

from retgen.connect import OfflineWriter, TermWeights
from retgen.lexical.bm25 import BM25
from retgen.types import Document

COLLECTION = (
    Document(
        "radium",
        "Radium is a silvery metal. Marie Curie discovered radium in 1898 with her husband Pierre. She isolated the "
        "metal in Paris twelve years later. Its most stable isotope has a half-life of 1,600 years.",
        "Radium",
    ),
    Document(
        "danube",
        "The Danube rises in the Black Forest of Germany. It flows through ten countries before it reaches the Black "
        "Sea. Four national capitals stand on its banks, among them Vienna and Budapest. The river is 2,850 km long.",
        "Danube",
    ),
    Document(
        "printing",
        "Johannes Gutenberg introduced movable type to Europe around 1450. His press in Mainz printed about 180 "
        "copies of the Bible. By 1500 printing had spread to more than 200 cities. Book prices fell by 85 percent.",
        "Printing press",
    ),
    Document(
        "rhine",
        "The Rhine rises in the Swiss Alps. The river flows north through Germany and reaches the North Sea in the "
        "Netherlands. Cologne is the largest city on its banks.",
        "Rhine",
    ),
)


@pytest.fixture(scope="session")
def documents() -> dict[str, Document]:
    return {document.id: document for document in COLLECTION}


@pytest.fixture(scope="session")
def writer(documents: dict[str, Document]) -> OfflineWriter:
    weights = TermWeights.from_documents(documents.values())
    return OfflineWriter(BM25.build(list(documents.values())), documents, weights=weights, passages=2, listed=3)
