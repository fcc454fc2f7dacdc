"""A later round without a writer reads what there is, and no more than it is allowed."""

from __future__ import annotations

import pytest

from retgen.connect.concatenated import Concatenation
from retgen.errors import UsageError
from retgen.types import Answer, Document, Query

QUERIES = [Query("q1", "Which metal rusts?"), Query("q2", "Which river is long?")]
DOCUMENTS = [
    [Document("iron", "Iron is a grey metal that rusts in wet air.", "Iron"), Document("gold", "Gold does not rust.")],
    [],
]


def test_question_answer_and_texts_stand_in_this_order() -> None:
    first, second = Concatenation().enhance(QUERIES, DOCUMENTS, [Answer("q1", "iron"), "the Nile"], words=6, round=2)
    assert first.text == "Which metal rusts? iron Iron is a Gold does not"
    assert second.text == "Which river is long? the Nile"
    assert (first.writer, first.round) == ("concatenation", 2)


def test_an_empty_answer_leaves_no_gap() -> None:
    (first,) = Concatenation().enhance(QUERIES[:1], DOCUMENTS[:1], [""], words=2)
    assert first.text == "Which metal rusts? Iron Gold"


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UsageError, match="2 questions, 1 lists of documents, 2 answers"):
        Concatenation().enhance(QUERIES, DOCUMENTS[:1], ["", ""])
    with pytest.raises(UsageError, match="0 words"):
        Concatenation().enhance(QUERIES, DOCUMENTS, ["", ""], words=0)
