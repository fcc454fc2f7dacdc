"""Docid schemes: every document gets one text, in corpus order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.docids.schemes import SCHEMES, ConnectorScheme, LeadScheme, TitleScheme, docid_scheme, permuted
from retgen.errors import UsageError
from retgen.types import Document

titles = st.sampled_from(["", "Mars", "Mars 2", "Mars  2 ", "Io", "Io 2 2"])
bodies = st.text("ab \n\t", max_size=12)
corpora = st.lists(st.tuples(titles, bodies), max_size=15).map(
    lambda rows: [Document(f"d{n}", text, title) for n, (title, text) in enumerate(rows)]
)


@given(corpus=corpora)
def test_every_document_gets_one_text_on_one_line_in_order(corpus: list[Document]) -> None:
    connectors = {document.id: f"about\n {document.text}" for document in corpus}
    rows = np.random.default_rng(0).normal(size=(len(corpus), 4))
    given_too = {"semantic": {"vectors": rows}, "pq": {"vectors": rows, "groups": 2, "codes": 2}}
    for name in SCHEMES:
        if name == "pq" and len(corpus) == 1:
            continue  # two codes cannot be learnt from one document
        named = list(docid_scheme(name, **given_too.get(name, {}))(corpus, connectors))
        assert [doc_id for doc_id, _ in named] == [document.id for document in corpus]
        assert all(text == " ".join(text.split()) for _, text in named)


@given(corpus=corpora)
def test_numbered_titles_are_unique_and_first_ones_stay(corpus: list[Document]) -> None:
    named = dict(TitleScheme(disambiguate="number")(corpus))
    with_title = [document for document in corpus if document.title]
    texts = [named[document.id] for document in with_title]
    assert len(set(texts)) == len(texts)
    first: dict[str, str] = {}
    for document in with_title:
        first.setdefault(" ".join(document.title.split()), document.id)
    assert all(named[doc_id] == title for title, doc_id in first.items())
    assert all(named[document.id] == "" for document in corpus if not document.title)


def test_lead_words_are_added_to_repeated_titles_only_also_from_an_iterator() -> None:
    corpus = [Document("a", "one two", "Mars"), Document("b", "three", "Io"), Document("c", "four", "Mars")]
    scheme = TitleScheme(disambiguate="lead", words=1)
    expected = [("a", "Mars one"), ("b", "Io"), ("c", "Mars four")]
    assert list(scheme(corpus)) == list(scheme(iter(corpus))) == expected


def test_lead_takes_the_text_or_title_and_text() -> None:
    corpus = [Document("a", " one\ttwo three ", "The Title"), Document("b", "four")]
    assert list(LeadScheme(words=2)(corpus)) == [("a", "one two"), ("b", "four")]
    assert list(LeadScheme(words=3, title=True)(corpus)) == [("a", "The Title one"), ("b", "four")]
    assert list(LeadScheme(words=None)(corpus)) == [("a", "one two three"), ("b", "four")]


def test_a_missing_connector_is_named() -> None:
    with pytest.raises(UsageError, match="'b' has no connector"):
        list(ConnectorScheme()([Document("a", ""), Document("b", "")], {"a": "x"}))
    with pytest.raises(UsageError, match="needs a connector for every document"):
        list(ConnectorScheme()([Document("a", "")]))


@given(count=st.integers(2, 30), seed=st.integers(0, 99))
def test_permuted_keeps_the_docids_and_gives_nobody_his_own(count: int, seed: int) -> None:
    docids = [(f"d{n}", f"text {n}") for n in range(count)]
    exchanged = list(permuted(iter(docids), seed))
    assert [doc_id for doc_id, _ in exchanged] == [doc_id for doc_id, _ in docids]
    assert sorted(text for _, text in exchanged) == sorted(text for _, text in docids)
    assert not set(exchanged) & set(docids)
    assert list(permuted(docids, seed)) == exchanged


def test_permutations_differ_between_seeds() -> None:
    docids = [(f"d{n}", str(n)) for n in range(20)]
    assert len({tuple(permuted(docids, seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("count", [0, 1])
def test_one_document_cannot_be_permuted(count: int) -> None:
    with pytest.raises(UsageError, match="at least two"):
        list(permuted([("a", "x")][:count], 0))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("urls", {}, "There is: connector, lead, title, url, integer, semantic, pq"),
        ("lead", {"characters": 3}, "'lead' cannot take these options"),
        ("lead", {"words": 0}, "at least one word"),
        ("title", {"disambiguate": "colour"}, "not 'colour'"),
    ],
)
def test_wrong_schemes_say_what_there_is(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        docid_scheme(name, **options)
