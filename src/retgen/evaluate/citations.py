"""What answers stand on: does the answer stand in the passages shown with it, and does its source hold a right one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retgen.errors import UsageError
from retgen.text import has_answer
from retgen.types import Answer, DocumentSource

CITATION_MEASURES = ("answer_in_passages", "answer_in_source", "citation_precision")
"""What `evaluate_citations` measures."""


@dataclass(frozen=True, slots=True)
class CitationResult:
    """How answers are grounded, in [0, 1].

    Args:
        means: measure → mean over the answers it can be asked of; missing where there are none.
        per_question: measure → question id → 0 or 1.
        num_answers: answers that are not empty.
        cited: those with a source.
    """

    means: dict[str, float]
    per_question: dict[str, dict[str, float]] = field(repr=False)
    num_answers: int
    cited: int


def evaluate_citations(
    answers: Sequence[Answer], gold: Mapping[str, Sequence[str]], documents: DocumentSource
) -> CitationResult:
    """How the answers are grounded in the passages they came with. Empty answers are left out.

    ``answer_in_passages``: the answer stands in one of the passages shown with it, over answers with passages.
    ``answer_in_source``: it stands in its source, over answers that name one. ``citation_precision``: the source holds
    an accepted answer, whatever was answered; over answers that name a source and whose question has accepted ones. All
    match token for token, as `retgen.text.has_answer`, in a passage's text.

    Args:
        answers: of one system; a question once.
        gold: question id → accepted answers; of every answer's question.
        documents: of the passages.

    Raises:
        UsageError: an answer's question has no gold, or a question is answered twice.
        UnknownDocumentError: a passage is not among the documents.

    Example:
        >>> from retgen.types import Document
        >>> said = [Answer("q", "Nepal", passages=("a", "b"), source="b")]
        >>> documents = {"a": Document("a", "It lies in Nepal."), "b": Document("b", "It is high.")}
        >>> evaluate_citations(said, {"q": ["Nepal"]}, documents).means
        {'answer_in_passages': 1.0, 'answer_in_source': 0.0, 'citation_precision': 0.0}
    """
    found: dict[str, dict[str, float]] = {name: {} for name in CITATION_MEASURES}
    said = [answer for answer in answers if answer.text]
    if len({answer.query_id for answer in answers}) != len(answers):
        raise UsageError("a question is answered twice", mend="Measure one system at a time")
    for answer in said:
        if answer.query_id not in gold:
            raise UsageError(f"there are no gold answers of question {answer.query_id!r}")
        texts = {doc_id: documents[doc_id].text for doc_id in answer.passages}
        if texts:
            found["answer_in_passages"][answer.query_id] = float(
                any(has_answer([answer.text], text) for text in texts.values())
            )
        if answer.source is not None:
            source = texts[answer.source] if answer.source in texts else documents[answer.source].text
            found["answer_in_source"][answer.query_id] = float(has_answer([answer.text], source))
            if gold[answer.query_id]:
                found["citation_precision"][answer.query_id] = float(has_answer(gold[answer.query_id], source))
    means = {name: sum(values.values()) / len(values) for name, values in found.items() if values}
    return CitationResult(means, found, len(said), sum(answer.source is not None for answer in said))
