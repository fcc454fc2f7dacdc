"""Sanity on real text: contexts hold answers, foreign ones do not, and pseudo questions find their own passages."""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen.connect import OfflineWriter, TermWeights, foreign_context, pseudo_questions, render
from retgen.formats.squad import read_documents, read_questions
from retgen.lexical.bm25 import BM25
from retgen.text import has_answer, normalise_answer
from retgen.types import Document, Query, Triplet, question_split

PASSAGES = 500


@pytest.fixture(scope="module")
def squad(shared_data: Path) -> tuple[dict[str, Document], list[Triplet]]:
    """The file's first passages, and their dev questions."""
    path = shared_data / "squad" / "dev-v1.1.json"
    documents = {document.id: document for document in list(read_documents(path))[:PASSAGES]}
    questions = [
        triplet
        for triplet in read_questions(path)
        if triplet.doc_ids[0] in documents and question_split(triplet.query.id) == "dev"
    ]
    return documents, questions


@pytest.fixture(scope="module")
def writer(squad: tuple[dict[str, Document], list[Triplet]]) -> OfflineWriter:
    documents, _ = squad
    weights = TermWeights.from_documents(documents.values())
    return OfflineWriter(BM25.build(list(documents.values())), documents, weights=weights)


def test_contexts_hold_answers_and_foreign_ones_do_not(
    squad: tuple[dict[str, Document], list[Triplet]], writer: OfflineWriter
) -> None:
    _, questions = squad
    queries = [triplet.query for triplet in questions]
    shares = {}
    for words in (60, 150):
        contexts = writer.blocks(queries, words)
        held = [has_answer(t.answers, render(blocks)) for t, blocks in zip(questions, contexts, strict=True)]
        shares[words] = sum(held) / len(held)
    foreign = foreign_context(contexts, seed=0)
    held = [has_answer(t.answers, render(blocks)) for t, blocks in zip(questions, foreign, strict=True)]
    assert shares[60] > 0.72
    assert shares[150] > max(0.82, shares[60])
    assert sum(held) / len(held) < 0.15


def test_answers_from_the_gold_passage(squad: tuple[dict[str, Document], list[Triplet]], writer: OfflineWriter) -> None:
    documents, questions = squad
    answers = writer.answer([t.query for t in questions], [documents[t.doc_ids[0]] for t in questions])
    exact = [
        normalise_answer(answer) in {normalise_answer(gold) for gold in t.answers}
        for answer, t in zip(answers, questions, strict=True)
    ]
    assert sum(exact) / len(exact) > 0.2


def test_pseudo_questions_find_their_passages(
    squad: tuple[dict[str, Document], list[Triplet]], writer: OfflineWriter
) -> None:
    documents, _ = squad
    pseudo = pseudo_questions(list(documents.values())[::10])
    assert writer.retriever is not None
    assert len(pseudo) > 8 * (PASSAGES // 10)
    queries = [Query(str(number), triplet.query.text) for number, triplet in enumerate(pseudo)]
    run = writer.retriever.search(queries, k=10)
    found = [t.doc_ids[0] in run.doc_ids(q.id) for t, q in zip(pseudo, queries, strict=True)]
    assert sum(found) / len(found) > 0.85
