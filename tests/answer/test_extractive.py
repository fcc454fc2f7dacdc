"""The best span: it is where it says it is, in a passage of the run, and it follows the question's cue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.answer import BestSpan
from retgen.corpus import Corpus
from retgen.errors import MismatchError, UsageError
from retgen.types import Document, Query, Run
from tests.conformance import CORPUS, QUERIES, first_run

PASSAGE = Document(
    "radium",
    "Radium is a metal. Marie Curie found radium in 1898 with her husband in Paris. It took 4 years and cost $50. "
    "Some 12 percent of the ore was lost.",
    "Radium",
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who found radium?", "Marie Curie"),
        ("In what year was radium found?", "1898"),
        ("When did Marie Curie find radium?", "1898"),
        ("Where did Curie and her husband find radium?", "Paris"),
        ("What percentage of the ore was lost?", "12 percent"),
    ],
)
def test_the_cue_decides_what_is_taken(question: str, expected: str) -> None:
    answer = BestSpan().answer([Query("q", question)], Run.from_dict({"q": {"radium": 2.0}}), {"radium": PASSAGE})[0]
    assert answer.text == expected


def test_a_span_is_where_it_says_it_is() -> None:
    for answer in BestSpan().answer(QUERIES, first_run(), CORPUS):
        if answer.source is None:
            assert answer.text == ""
            continue
        text = CORPUS[answer.source].text
        start, end = answer.details["start"], answer.details["end"]
        assert isinstance(start, int)
        assert isinstance(end, int)
        assert text[start:end] == answer.text
        assert str(answer.details["sentence"]) in text
        assert answer.text in str(answer.details["sentence"])


@given(st.text(max_size=80), st.lists(st.text(max_size=200), min_size=1, max_size=4))
def test_any_text_can_be_asked(question: str, bodies: list[str]) -> None:
    documents = {str(n): Document(str(n), body) for n, body in enumerate(bodies)}
    run = Run(["q"], [list(documents)], [[float(-n) for n in range(len(bodies))]])
    answer = BestSpan().answer([Query("q", question)], run, documents)[0]
    if answer.source is not None:
        assert answer.text
        assert answer.text in documents[answer.source].text


def test_only_the_first_passages_are_read() -> None:
    documents = {"a": Document("a", "nothing here"), "b": PASSAGE}
    run = Run(["q"], [["a", "b"]], [[2.0, 1.0]])
    query = Query("q", "Who found radium?")
    assert BestSpan(1).answer([query], run, documents)[0].text != "Marie Curie"
    assert BestSpan(2).answer([query], run, documents)[0].text == "Marie Curie"
    assert [span.doc_id for span in BestSpan(2).spans(query, run, documents)][-1] == "b"


def test_bad_input_is_refused() -> None:
    query = Query("q", "Who?")
    with pytest.raises(UsageError, match="retrieved passages"):
        BestSpan().answer([query], None, CORPUS)
    with pytest.raises(UsageError, match="lacks the query 'q'"):
        BestSpan().answer([query], Run([], [], []), CORPUS)
    with pytest.raises(UsageError, match="passages=0"):
        BestSpan(0)
    corpus = Corpus.from_documents([PASSAGE])
    with pytest.raises(MismatchError):
        BestSpan().answer([query], Run(["q"], [["radium"]], [[1.0]], fingerprint="0" * 64), corpus)
