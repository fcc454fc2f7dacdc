"""Two re-rankers without any model, for tests of what is built on re-rankers."""

from __future__ import annotations

import numpy as np

from retgen.rerank.candidates import CandidateReranker, Candidates, Progress
from retgen.text import words
from retgen.types import Document, Explanation, FloatArray, Query


class WordOverlap(CandidateReranker):
    """How many words of the query the passage has."""

    def __init__(self, component: str = "overlap") -> None:
        self.component = component

    def score_pairs(self, candidates: Candidates, progress: Progress | None = None) -> FloatArray:
        scores = [_overlap(candidates.queries[q], candidates.passages[p]) for q, p in candidates.pairs]
        if progress is not None:
            progress(len(scores), len(scores))
        return np.array(scores, dtype=np.float64)


class Brevity(CandidateReranker):
    """Short passages first; says what each word of the query gives."""

    component = "brevity"

    def score_pairs(self, candidates: Candidates, progress: Progress | None = None) -> FloatArray:
        scores = [-0.1 * len(words(candidates.passages[p].contents)) for _, p in candidates.pairs]
        if progress is not None:
            progress(len(scores), len(scores))
        return np.array(scores, dtype=np.float64)

    def explain(self, query: Query, document: Document) -> Explanation:
        score = -0.1 * len(words(document.contents))
        tokens = tuple((word, score / (1 + n)) for n, word in enumerate(words(query.text)))
        return Explanation(query.id, document.id, {"brevity": score, "length": -10 * score}, tokens)


def _overlap(query: Query, document: Document) -> float:
    return float(len({*words(query.text.lower())} & {*words(document.contents.lower())}))
