"""What re-rankers learn from: a question's first-stage candidates, each labelled relevant or not.

Labels are gold (a collection's judgements), distant (a passage holds an accepted answer, as DPR counts it), or those of
a DPR training file.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from retgen.errors import UnknownDocumentError, UsageError
from retgen.formats.dpr import Example
from retgen.pipeline import check_fingerprint
from retgen.text import has_answer
from retgen.types import Document, DocumentSource, Qrels, Query, Run, Triplet

TOP_N = 32
"""Candidates of a question: the paper's number ("Training Details": the top 32 passages of BM25)."""

Progress = Callable[[int, int], None]
"""Called with (questions labelled, questions in all)."""


@dataclass(frozen=True, slots=True)
class LabelledCandidates:
    """A training question and its candidate passages.

    Args:
        query: the question.
        passages: ids of its candidates, each once, in the order of the first stage.
        labels: 1 for a relevant passage, 0 for another; as many as passages.

    Raises:
        UsageError: lengths differ, a passage occurs twice, or a label is neither 0 nor 1.
    """

    query: Query
    passages: tuple[str, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.passages) != len(self.labels):
            raise UsageError(
                f"question {self.query.id!r} has {len(self.passages)} candidates and {len(self.labels)} labels"
            )
        if len(set(self.passages)) != len(self.passages):
            raise UsageError(f"question {self.query.id!r} has a candidate twice")
        if not set(self.labels) <= {0, 1}:
            raise UsageError(f"question {self.query.id!r} has a label that is neither 0 nor 1")

    def __len__(self) -> int:
        return len(self.passages)

    @property
    def positives(self) -> tuple[str, ...]:
        """The relevant passages."""
        return tuple(passage for passage, label in zip(self.passages, self.labels, strict=True) if label)

    @property
    def negatives(self) -> tuple[str, ...]:
        """The other passages."""
        return tuple(passage for passage, label in zip(self.passages, self.labels, strict=True) if not label)


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """What labelling found.

    Args:
        questions: that were asked.
        without_positive: questions without a relevant candidate; they are kept out of training.
        added: questions whose gold passage was put among the candidates, as the first stage had missed it.
        positives: relevant candidates of the questions that are kept.
        negatives: their other candidates.
    """

    questions: int
    without_positive: int
    added: int
    positives: int
    negatives: int

    @property
    def kept(self) -> int:
        """Questions that are trained on."""
        return self.questions - self.without_positive

    def __str__(self) -> str:
        left = f"; {self.without_positive} left out, without a relevant candidate" if self.without_positive else ""
        added = f"; gold passage added to {self.added}" if self.added else ""
        return (
            f"{self.kept} questions with {self.positives} relevant and {self.negatives} other candidates{left}{added}"
        )


@dataclass(frozen=True, slots=True)
class TrainingCandidates:
    """The questions of a training, every one with a relevant candidate, and what was left out."""

    questions: tuple[LabelledCandidates, ...]
    statistics: LabelStatistics

    def __len__(self) -> int:
        return len(self.questions)

    def __iter__(self) -> Iterator[LabelledCandidates]:
        return iter(self.questions)


def from_qrels(
    queries: Iterable[Query], run: Run, qrels: Qrels, *, top_n: int = TOP_N, add_gold: bool = True
) -> TrainingCandidates:
    """Candidates with gold labels: relevant is what is judged 1 or higher, all else is not.

    Args:
        queries: the training questions.
        run: their first stage.
        qrels: the judgements; a question without any has no relevant candidate.
        top_n: candidates of a question at most, the best of the run.
        add_gold: where none of them is relevant, the best judged passage takes the last place. Where one is, nothing is
            added: the candidates stay such as the re-ranker will meet.

    Raises:
        UsageError: ``top_n`` below 1, a question twice, or one that the run lacks.

    Example:
        >>> run = Run.from_dict({"q": {"a": 3.0, "b": 2.0, "c": 1.0}})
        >>> found = from_qrels([Query("q", "who?")], run, {"q": {"z": 1}}, top_n=2)
        >>> found.questions[0].passages, found.questions[0].labels
        (('a', 'z'), (0, 1))
    """

    def label(query: Query) -> tuple[list[str], list[int], bool]:
        gold = {doc_id: grade for doc_id, grade in qrels.get(query.id, {}).items() if grade >= 1}
        ids = run.doc_ids(query.id)[:top_n]
        added = add_gold and bool(gold) and not any(doc_id in gold for doc_id in ids)
        if added:
            ids = [*ids[: top_n - 1], max(gold, key=gold.__getitem__)]
        return ids, [int(doc_id in gold) for doc_id in ids], added

    return _labelled(_checked(queries, run, top_n), label, None)


def from_answers(
    triplets: Iterable[Triplet],
    run: Run,
    documents: DocumentSource,
    *,
    top_n: int = TOP_N,
    add_gold: bool = True,
    progress: Progress | None = None,
) -> TrainingCandidates:
    """Candidates with distant labels: relevant is a passage whose text holds an accepted answer, exactly as DPR counts.

    Args:
        triplets: the training questions with their accepted answers.
        run: their first stage.
        documents: the corpus of the run.
        top_n: candidates of a question at most, the best of the run.
        add_gold: where no candidate holds an answer, the first of the triplet's own documents that does takes the last
            place.
        progress: called with (questions labelled, questions in all).

    Raises:
        UsageError: ``top_n`` below 1, a question twice, or one that the run lacks.
        UnknownDocumentError: a candidate is not among the documents.
        MismatchError: the run comes from another corpus.

    Reference:
        Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", 2020, Sec. 4 (distant
        supervision); the title is not searched there, nor here.
    """
    check_fingerprint(run.fingerprint, documents, "this run")
    triplets = list(triplets)
    asked = {triplet.query.id: triplet for triplet in triplets}

    def label(query: Query) -> tuple[list[str], list[int], bool]:
        answers = asked[query.id].answers
        ids = run.doc_ids(query.id)[:top_n]
        labels = [int(has_answer(answers, passage_of(documents, doc_id).text)) for doc_id in ids]
        missed = (
            doc_id for doc_id in asked[query.id].doc_ids if has_answer(answers, passage_of(documents, doc_id).text)
        )
        gold = next(missed, None) if add_gold and not any(labels) else None
        if gold is not None:
            ids, labels = [*ids[: top_n - 1], gold], [*labels[: top_n - 1], 1]
        return ids, labels, gold is not None

    return _labelled(_checked((triplet.query for triplet in triplets), run, top_n), label, progress)


def from_examples(
    examples: Iterable[Example], *, top_n: int = TOP_N, positives: int | None = None
) -> tuple[TrainingCandidates, dict[str, Document]]:
    """The candidates of a DPR training file, with the passages they name.

    A passage that is listed as positive and as negative is positive. Only the passages that become candidates are kept.

    Args:
        examples: of `retgen.formats.dpr.read_examples`; read once, as a stream.
        top_n: candidates of a question at most: its positives, then hard negatives, then negatives.
        positives: of a question at most; all by default, as long as there is room.

    Returns:
        The candidates, and passage id → passage.

    Raises:
        UsageError: ``top_n`` or ``positives`` below 1, or a question twice.
    """
    if positives is not None and positives < 1:
        raise UsageError(f"a question needs at least one positive passage; got positives={positives}")
    _check_top(top_n)
    found: dict[str, Document] = {}
    kept: list[LabelledCandidates] = []
    seen: set[str] = set()
    for example in examples:
        _check_new(example.query, seen)
        labels: dict[str, int] = {}
        first = example.positives[:positives]
        passages = {passage.id: passage for passage in first}
        labels.update(dict.fromkeys(list(passages)[:top_n], 1))
        known = {passage.id for passage in example.positives}
        for passage in (*example.hard_negatives, *example.negatives):
            if len(labels) < top_n and passage.id not in known:
                labels[passage.id] = 0
                passages.setdefault(passage.id, passage)
        candidates = LabelledCandidates(example.query, tuple(labels), tuple(labels.values()))
        kept.append(candidates)
        if candidates.positives:
            found.update({doc_id: passages[doc_id] for doc_id in labels})
    return _with_statistics(kept, 0), found


def passage_of(documents: DocumentSource, doc_id: str) -> Document:
    """A candidate's passage.

    Raises:
        UnknownDocumentError: it is not among the documents, also where these are a plain dict.
    """
    try:
        return documents[doc_id]
    except KeyError as error:
        raise UnknownDocumentError(doc_id) from error


def drawn(
    candidates: Iterable[LabelledCandidates], negatives: int, seed: int, epoch: int = 0
) -> list[LabelledCandidates]:
    """Every question with all its positives and so many negatives, drawn anew for every epoch.

    What is drawn follows from seed, epoch and the question's id alone, so that a resumed training draws the same.

    Args:
        candidates: of the training questions.
        negatives: of a question at most.
        seed: of the draw.
        epoch: which pass over the questions.

    Raises:
        UsageError: ``negatives`` below 1.
    """
    if negatives < 1:
        raise UsageError(f"a question needs at least one negative; got {negatives}")
    made = []
    for question in candidates:
        others = question.negatives
        if len(others) > negatives:
            chance = random.Random(f"{seed}/{epoch}/{question.query.id}")
            chosen = {*question.positives, *chance.sample(others, negatives)}
            pairs = [pair for pair in zip(question.passages, question.labels, strict=True) if pair[0] in chosen]
            question = replace(
                question, passages=tuple(doc_id for doc_id, _ in pairs), labels=tuple(label for _, label in pairs)
            )
        made.append(question)
    return made


def _checked(queries: Iterable[Query], run: Run, top_n: int) -> list[Query]:
    _check_top(top_n)
    asked, seen = [], set[str]()
    for query in queries:
        _check_new(query, seen)
        if query.id not in run:
            raise UsageError(
                f"the run lacks question {query.id!r}",
                mend="Give a run over these questions; a question without hits has an empty list in it",
            )
        asked.append(query)
    return asked


def _check_top(top_n: int) -> None:
    if top_n < 1:
        raise UsageError(f"a question needs at least one candidate; got top_n={top_n}")


def _check_new(query: Query, seen: set[str]) -> None:
    if query.id in seen:
        raise UsageError(f"the question id {query.id!r} occurs twice", mend="Give every question its own id")
    seen.add(query.id)


def _labelled(
    queries: Sequence[Query],
    label: Callable[[Query], tuple[list[str], list[int], bool]],
    progress: Progress | None,
) -> TrainingCandidates:
    made, added = [], 0
    for number, query in enumerate(queries, 1):
        ids, labels, was_added = label(query)
        made.append(LabelledCandidates(query, tuple(ids), tuple(labels)))
        added += was_added
        if progress is not None:
            progress(number, len(queries))
    return _with_statistics(made, added)


def _with_statistics(made: Sequence[LabelledCandidates], added: int) -> TrainingCandidates:
    kept = tuple(candidates for candidates in made if any(candidates.labels))
    positives = sum(sum(candidates.labels) for candidates in kept)
    return TrainingCandidates(
        kept,
        LabelStatistics(len(made), len(made) - len(kept), added, positives, sum(map(len, kept)) - positives),
    )
