"""The questions of a collection: given, or made from it; those to train on, and those held out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from retgen.connect.pseudo import PSEUDO_PER_DOCUMENT, held_out, pseudo_questions
from retgen.corpus import Corpus
from retgen.errors import MismatchError, UsageError
from retgen.text import has_answer
from retgen.types import Triplet


@dataclass(frozen=True, slots=True)
class CollectionQuestions:
    """The questions of a training.

    Args:
        train: what is trained on.
        held_out: what is never trained on, and what nothing is chosen by.
        pseudo: whether they were made from the documents.
        dev: of the training share, neither trained on nor in ``train``: what is measured while training, and what the
            best weights are chosen by.
    """

    train: Sequence[Triplet]
    held_out: Sequence[Triplet]
    pseudo: bool
    dev: Sequence[Triplet] = ()


def collection_questions(
    corpus: Corpus,
    triplets: Sequence[Triplet] | None,
    *,
    per_document: int = PSEUDO_PER_DOCUMENT,
    seed: int = 0,
    dev_questions: int = 0,
) -> CollectionQuestions:
    """Given questions, or pseudo questions where there are none; 80 % to train on, by the hash of their ids.

    In a chunked corpus a relevant document becomes those of its chunks that hold an answer, or all of them where none
    does.

    Args:
        corpus: the collection.
        triplets: given questions, or None.
        per_document: K of the paper, pseudo questions of a document at most.
        seed: of the pseudo questions.
        dev_questions: at most so many are put aside for dev, and a tenth of the training share at most (one of few),
            by the hash of their ids. Only those with a relevant document, which retrieval is measured by.

    Raises:
        UsageError: none is left to train on.
        MismatchError: a given question's relevant document is not in the corpus.
    """
    if triplets is None:
        made = pseudo_questions(corpus, per_document, seed)
    else:
        made = [_over_passages(triplet, corpus) for triplet in triplets]
    split = held_out(made)
    if not split.train:
        raise UsageError(
            f"of {len(made)} questions none is left to train on",
            mend="Give more questions with --questions" if triplets is None else "Give more questions",
        )
    dev = _dev(split.train, dev_questions)
    aside = {triplet.query.id for triplet in dev}
    train = [triplet for triplet in split.train if triplet.query.id not in aside]
    return CollectionQuestions(train, [*split.dev, *split.test], triplets is None, dev)


def _dev(train: Sequence[Triplet], most: int) -> list[Triplet]:
    if most < 1 or len(train) < 2:
        return []
    judged = [triplet for triplet in train if triplet.doc_ids]
    # Not the order that a training takes the first of its questions by: dev questions are a sample of all.
    judged.sort(key=lambda triplet: zlib.crc32(f"dev {triplet.query.id}".encode()))
    return judged[: min(most, max(1, len(train) // 10))]


def _over_passages(triplet: Triplet, corpus: Corpus) -> Triplet:
    passages: list[str] = []
    for doc_id in triplet.doc_ids:
        found = [doc_id] if doc_id in corpus else _chunks_of(doc_id, corpus)
        if not found:
            raise MismatchError(
                f"question {triplet.query.id!r} names the document {doc_id!r}, which the collection does not have",
                where=corpus.path,
                mend="Give the questions of this collection",
            )
        if len(found) > 1:
            found = [chunk for chunk in found if has_answer(triplet.answers, corpus[chunk].text)] or found
        passages += found
    return replace(triplet, doc_ids=tuple(dict.fromkeys(passages)))


def _chunks_of(doc_id: str, corpus: Corpus) -> list[str]:
    found: list[str] = []
    while corpus.chunked and (chunk := f"{doc_id}::{len(found)}") in corpus:
        found.append(chunk)
    return found
