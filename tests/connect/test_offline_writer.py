"""The offline writer: limits, determinism, answers that are spans, contexts that know question and corpus only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.connect import OfflineWriter, TermWeights, Writer, render
from retgen.errors import UsageError
from retgen.lexical.bm25 import BM25
from retgen.types import Answer, Connector, Document, Query, Run

RADIUM = Query("q1", "When did Marie Curie discover radium?")
RIVER = Query("q2", "Which river rises in the Black Forest?")


def test_it_is_a_writer(writer: OfflineWriter) -> None:
    assert isinstance(writer, Writer)
    assert writer.name == "offline"


def test_context_structure(writer: OfflineWriter) -> None:
    [connector] = writer.contextualise([RIVER])
    [blocks] = writer.blocks([RIVER])
    assert connector == Connector(render(blocks, RIVER.text), "offline:bm25-context", 0)
    assert connector.text.startswith(f"{RIVER.text} | The Danube rises in the Black Forest of » ")
    assert blocks[0].doc_id == "danube"
    assert len(blocks) <= 3
    assert [bool(block.sentences) for block in blocks[:3]] == [True, True, False][: len(blocks)]


@pytest.mark.parametrize("words", [1, 5, 20, 60, 500])
def test_context_keeps_its_word_budget(writer: OfflineWriter, words: int) -> None:
    for blocks in writer.blocks([RADIUM, RIVER], words):
        assert 0 < sum(len(sentence.split()) for block in blocks for sentence in block.sentences) <= words


def test_blocks_open_with_the_given_docid_text(documents: dict[str, Document], writer: OfflineWriter) -> None:
    named = OfflineWriter(writer.retriever, documents, {"danube": "long river of Europe"}, lead_words=2)
    [blocks] = named.blocks([RIVER])
    assert [block.docid_text for block in blocks[:2]] == ["long river of Europe", "The Rhine"]


def test_context_depends_on_the_question_alone(writer: OfflineWriter) -> None:
    """No gold leaks in: id, connector, and the other questions of the batch change nothing."""
    [alone] = writer.contextualise([RADIUM])
    told = dataclasses.replace(RADIUM, id="other", connector=Connector("radium: the answer is 1898", "someone"))
    assert [alone, alone] == writer.contextualise([told, RADIUM])
    assert writer.contextualise([RIVER, RADIUM])[1] == alone


class _ReadsConnectors:
    """A retriever that would betray an earlier connector."""

    def search(self, queries: Sequence[Query], k: int = 100) -> Run:
        found = ["radium" if query.connector is not None else "rhine" for query in queries]
        return Run([query.id for query in queries], [[doc_id] for doc_id in found], [[1.0]] * len(queries))


def test_the_retriever_never_sees_an_earlier_connector(documents: dict[str, Document]) -> None:
    writer = OfflineWriter(_ReadsConnectors(), documents)
    [blocks] = writer.blocks([RADIUM.with_connector(Connector("gold", "someone", 2))])
    assert [block.doc_id for block in blocks] == ["rhine"]


@pytest.mark.parametrize("text", ["", "   ", "?!", "the of and", "zzzz"])
def test_a_question_that_finds_nothing_stays_a_question(writer: OfflineWriter, text: str) -> None:
    [connector] = writer.contextualise([Query("q", text)])
    assert connector.text == text.strip()


@pytest.mark.parametrize(
    "document",
    [
        Document("one", "Iron is a metal."),
        Document("one", "iron"),
        Document("one", "", "Iron"),
        Document("one", "  \n ", "iron"),
        Document("one", "Ir\u00f6n — 鉄 iron είναι μέταλλο. Iron 🙂."),
    ],
)
def test_a_collection_of_one_document(document: Document) -> None:
    writer = OfflineWriter(BM25.build([document]), {"one": document})
    [blocks] = writer.blocks([Query("q", "Which metal is iron?")])
    assert [block.doc_id for block in blocks] == ["one"]
    assert blocks[0].docid_text
    [connector] = writer.enhance([Query("q", "iron?")], [[document]], [""])
    assert connector.text.startswith("iron? | ")
    assert writer.summarise([document])[0] != ""


def test_a_document_with_neither_text_nor_title() -> None:
    empty = Document("one", "")
    writer = OfflineWriter()
    assert writer.summarise([empty]) == [""]
    assert writer.answer([RADIUM], [empty]) == [""]
    assert writer.enhance_blocks([RADIUM], [[empty]], [""])[0][0].docid_text == "one"


def test_no_items_give_no_items(writer: OfflineWriter) -> None:
    assert writer.summarise([]) == []
    assert writer.contextualise([]) == []
    assert writer.answer([], []) == []
    assert writer.enhance([], [], []) == []


@pytest.mark.parametrize("words", [1, 7, 30])
def test_summaries_are_short_and_in_order(documents: dict[str, Document], writer: OfflineWriter, words: int) -> None:
    for document, summary in zip(
        documents.values(), writer.summarise(list(documents.values()), words=words), strict=True
    ):
        remaining = iter(document.text.split())
        assert 1 <= len(summary.split()) <= words
        assert all(word in remaining for word in summary.split())


@given(st.text(), st.text(), st.text())
@settings(max_examples=200)
def test_answers_are_short_spans_of_the_document(question: str, body: str, tail: str) -> None:
    document = Document("d", f"{body} Radium was found in 1898 by Curie. {tail}")
    [answer] = OfflineWriter().answer([Query("q", question)], [document])
    assert answer
    assert answer in document.text
    assert len(answer.split()) <= 6


@pytest.mark.parametrize(
    ("question", "doc_id", "expected"),
    [
        ("When did Marie Curie discover radium?", "radium", "1898"),
        ("Who discovered radium in 1898?", "radium", "Marie Curie"),
        ("Who introduced movable type to Europe?", "printing", "Johannes Gutenberg"),
        ("By what percentage did the price of books fall?", "printing", "85 percent"),
        ("How many countries does the Danube flow through?", "danube", "ten"),
        ("Where does the Danube rise?", "danube", "Black Forest of Germany"),
    ],
)
def test_answers_of_the_kind_that_is_asked_for(
    documents: dict[str, Document], writer: OfflineWriter, question: str, doc_id: str, expected: str
) -> None:
    assert writer.answer([Query("q", question)], [documents[doc_id]]) == [expected]


def test_enhance_puts_the_answer_beside_the_question_and_reads_it(
    documents: dict[str, Document], writer: OfflineWriter
) -> None:
    query = Query("q", "What happened to prices?")
    found = [documents["printing"], documents["radium"], documents["rhine"]]
    answer = Answer("q", "180 copies\n of the Bible")
    [connector] = writer.enhance([query], [found], [answer], words=14, round=2)
    [blocks] = writer.enhance_blocks([query], [found], [answer], words=14)
    assert connector == Connector(render(blocks, query.text), "offline:enhance", 2)
    head = f"{query.text} answer: 180 copies of the Bible | "
    assert connector.text.startswith(f"{head}Johannes Gutenberg ")
    assert "copies of the Bible" in " ".join(blocks[1].sentences)
    assert [block.doc_id for block in blocks] == ["", "printing", "radium", "rhine"]
    assert blocks[3].sentences == ()


def test_enhance_without_an_answer_is_the_context_of_those_documents(
    documents: dict[str, Document], writer: OfflineWriter
) -> None:
    [blocks] = writer.blocks([RIVER])
    found = [documents[block.doc_id] for block in blocks]
    assert writer.enhance_blocks([RIVER], [found], [" "]) == [blocks]
    assert writer.enhance([RIVER], [[]], [""])[0].text == RIVER.text


def test_two_writers_write_the_same(documents: dict[str, Document], writer: OfflineWriter) -> None:
    weights = TermWeights.from_documents(reversed(list(documents.values())))
    twin = OfflineWriter(BM25.build(list(documents.values())), documents, weights=weights, passages=2, listed=3)
    queries = [RADIUM, RIVER]
    assert writer.contextualise(queries) == twin.contextualise(queries)
    assert writer.summarise(list(documents.values())) == twin.summarise(list(documents.values()))


def test_misuse_is_named(documents: dict[str, Document], writer: OfflineWriter) -> None:
    with pytest.raises(UsageError, match="retriever"):
        OfflineWriter(documents=documents).contextualise([RADIUM])
    with pytest.raises(UsageError, match="1 queries and 0 documents"):
        writer.answer([RADIUM], [])
    with pytest.raises(UsageError, match="2 answers"):
        writer.enhance([RADIUM], [[]], ["a", "b"])
    with pytest.raises(UsageError, match="0 words"):
        writer.summarise([], words=0)
    with pytest.raises(UsageError, match="passages"):
        OfflineWriter(passages=5, listed=3)
    with pytest.raises(UsageError, match="lead_words"):
        OfflineWriter(lead_words=0)
