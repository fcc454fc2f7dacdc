"""The best span on real questions: SQuAD's development file, the questions of split "dev", over BM25's passages."""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen.answer import BestSpan
from retgen.corpus import Corpus
from retgen.evaluate import evaluate_answers
from retgen.formats import read_corpus, read_triplets
from retgen.lexical import BM25
from retgen.types import question_split


@pytest.mark.slow
def test_exact_match_and_f1_on_dev_questions(shared_data: Path) -> None:
    source = shared_data / "squad" / "dev-v1.1.json"
    asked = [item for item in read_triplets(source) if question_split(item.query.id) == "dev"]
    corpus = Corpus.from_documents(read_corpus(source))
    _, answers = (BM25() >> BestSpan()).over(corpus)([item.query for item in asked], k=10)
    scores = evaluate_answers(
        {answer.query_id: answer.text for answer in answers}, {item.query.id: item.answers for item in asked}
    ).means
    # Measured .297 and .370; the floor is two standard errors below.
    assert scores["EM"] >= 0.27
    assert scores["F1"] >= 0.34
