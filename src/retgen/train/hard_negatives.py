"""Training questions with passages that look right and are not: the hard negatives of DPR and ANCE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retgen.errors import UsageError
from retgen.text import has_answer
from retgen.train.candidates import LabelledCandidates, passage_of
from retgen.types import DocumentSource, Triplet


def with_negatives(
    triplets: Sequence[Triplet],
    found: Mapping[str, Sequence[str]],
    documents: DocumentSource,
    *,
    depth: int = 100,
    answers_are_relevant: bool = True,
) -> list[LabelledCandidates]:
    """Every question's relevant passages, and those of a search that are not, best first.

    A question without labelled passages takes the first found one that holds an answer (distant supervision), and is
    left out where there is none.

    Args:
        triplets: the training questions.
        found: question id → ids that a search found, best first.
        documents: the corpus, where answers are looked for.
        depth: of what was found, so many from the top.
        answers_are_relevant: a passage that holds an accepted answer is no negative, as in DPR.

    Raises:
        UsageError: no question has a relevant passage, or the search lacks a question.
        UnknownDocumentError: a passage is not among the documents.

    Reference:
        Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", 2020, Sec. 3.2 and 4.2.

    Example:
        >>> from retgen.types import Document, Query
        >>> documents = {name: Document(name, text) for name, text in (("a", "in 1774"), ("b", "1774?"), ("c", "no"))}
        >>> asked = [Triplet(Query("q", "when?"), ("1774",), ("a",))]
        >>> with_negatives(asked, {"q": ["b", "a", "c"]}, documents)[0].negatives
        ('c',)
    """
    made = []
    for triplet in triplets:
        if triplet.query.id not in found:
            raise UsageError(f"the search lacks question {triplet.query.id!r}")
        ranked = list(found[triplet.query.id])[:depth]
        holding = {
            doc_id
            for doc_id in ranked
            if triplet.answers and has_answer(triplet.answers, passage_of(documents, doc_id).text)
        }
        positives = triplet.doc_ids or tuple(doc_id for doc_id in ranked if doc_id in holding)[:1]
        if not positives:
            continue
        beside = holding if answers_are_relevant else set()
        negatives = tuple(doc_id for doc_id in ranked if doc_id not in beside and doc_id not in positives)
        for doc_id in positives:
            passage_of(documents, doc_id)
        labels = (1,) * len(positives) + (0,) * len(negatives)
        made.append(LabelledCandidates(triplet.query, (*positives, *negatives), labels))
    if not made:
        raise UsageError(
            "no training question has a relevant passage",
            mend="Give questions with doc_ids, or with answers that the passages hold",
        )
    return made
