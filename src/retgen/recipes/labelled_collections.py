"""Stages that reduce published collections to their labelled passages, as UniGen's tables do (§ "Datasets").

What the papers leave open is decided here by hashes of question ids, so that it is the same everywhere: which questions
of a published dev file are dev and which are test, and which stay where a corpus is to be smaller than all labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retgen.corpus import Corpus
from retgen.errors import UsageError
from retgen.formats import dpr, msmarco_qna
from retgen.recipes.collections import write_questions
from retgen.recipes.context import StageContext
from retgen.recipes.stages import stage
from retgen.types import Document, Query, Triplet


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A question with its answers and the whole passages that answer it."""

    query: Query
    answers: tuple[str, ...]
    passages: tuple[Document, ...]

    def triplet(self, passages: _Passages) -> Triplet:
        return Triplet(self.query, self.answers, passages.add(self.passages))


@dataclass(frozen=True, slots=True)
class _Limits:
    passages: int
    train: int
    test: int
    test_share: float

    def __post_init__(self) -> None:
        if min(self.passages, self.train, self.test) < 0:
            raise UsageError("limits of a collection are not negative", mend="Give 0 for all")
        if not 0.0 < self.test_share < 1.0:
            raise UsageError(f"the share of test questions is between 0 and 1, not {self.test_share}")


@stage("msmarco-qna-collection", version="1", needs=[])
def msmarco_qna_collection(
    context: StageContext,
    train: str = "train_v2.1.json.gz",
    dev: str = "dev_v2.1.json.gz",
    limit_passages: int = 0,
    train_questions: int = 0,
    test_questions: int = 0,
    test_share: float = 0.5,
) -> None:
    """MS MARCO QnA: its selected passages, and the questions that have an answer and such a passage.

    Both files are streamed: of the ten passages of a question, only the selected ones are ever held. Passages of the
    same text are one document.

    Args:
        context: of the stage.
        train: the published training file; gzip is accepted, here and below.
        dev: the published dev file, which gives dev and test: the published test file has no answers.
        limit_passages: of the corpus, at most: those of dev and test questions, then those of training questions in the
            order of a hash of their ids, until the next would not fit; 0 keeps all.
        train_questions: at most so many, in the same order; 0 takes all.
        test_questions: at most so many of dev and of test each, in the same order; 0 takes all.
        test_share: of the dev file's questions that are test questions, by another hash of their ids.
    """
    limits = _Limits(limit_passages, train_questions, test_questions, test_share)
    left = _Left()
    held_out = list(_msmarco(context, context.data_file(dev), left))
    questions = list(_msmarco(context, context.data_file(train), left))
    _write(context, questions, *_halves(held_out, limits), limits, left)


@stage("dpr-labelled-collection", version="1", needs=[])
def dpr_labelled_collection(
    context: StageContext,
    train: str = "biencoder-nq-train.json",
    dev: str = "biencoder-nq-dev.json",
    test: str = "",
    positives: int = 0,
    limit_passages: int = 0,
    train_questions: int = 0,
    test_questions: int = 0,
    test_share: float = 0.5,
) -> None:
    """Open-domain questions as DPR published them, over their own positive passages of 100 words.

    The question ids are ``train:<n>``, ``dev:<n>``, ``test:<n>``: file and number, as the files number from 0 each.

    Args:
        context: of the stage.
        train: the training file (JSON with positive passages).
        dev: the dev file, likewise.
        test: a test file, likewise. Without one the dev file gives both: the published ``nq-test.csv`` has answers and
            no passages, so that nothing in it says which passage is right.
        positives: of a question, its first so many; DPR's first is the annotated one, the others were found by BM25 and
            hold the answer. 0 takes all.
        limit_passages: as of `msmarco_qna_collection`.
        train_questions: likewise.
        test_questions: likewise.
        test_share: likewise, where there is no test file.
    """
    limits = _Limits(limit_passages, train_questions, test_questions, test_share)
    left = _Left()
    held_out = list(_dpr(context, dev, "dev", positives, left))
    parts = (held_out, list(_dpr(context, test, "test", positives, left))) if test else _halves(held_out, limits)
    _write(context, list(_dpr(context, train, "train", positives, left)), *parts, limits, left)


@dataclass(slots=True)
class _Left:
    """Questions that were left out, for want of what."""

    answer: int = 0
    passage: int = 0

    def keeps(self, question: _Labelled) -> bool:
        self.answer += not question.answers
        self.passage += bool(question.answers) and not question.passages
        return bool(question.answers and question.passages)


def _msmarco(context: StageContext, path: Path, left: _Left) -> Iterator[_Labelled]:
    for number, example in enumerate(msmarco_qna.read_examples(path), 1):
        question = _Labelled(example.query, _filled(example.answers), example.selected)
        if left.keeps(question):
            yield question
        if number % 10_000 == 0:
            context.progress(number, 0, f"questions of {path.name}")


def _dpr(context: StageContext, name: str, split: str, positives: int, left: _Left) -> Iterator[_Labelled]:
    path = context.data_file(name)
    if path.suffix == ".csv":
        raise UsageError(
            f"{path.name} has questions and answers, and no passages to find",
            where=context.name,
            mend="Leave it out, and the dev file is split in two, or give a file with positive_ctxs",
        )
    for number, example in enumerate(dpr.read_examples(path), 1):
        query = Query(f"{split}:{example.query.id}", example.query.text)
        # What a retriever made of a passage is no part of it.
        found = {passage.id: Document(passage.id, passage.text, passage.title) for passage in example.positives}
        passages = tuple(found.values())[: positives or None]
        question = _Labelled(query, _filled(example.answers), passages)
        if left.keeps(question):
            yield question
        if number % 10_000 == 0:
            context.progress(number, 0, f"questions of {path.name}")


def _filled(answers: Iterable[str]) -> tuple[str, ...]:
    return tuple(answer for answer in answers if answer.strip())


def _halves(questions: Sequence[_Labelled], limits: _Limits) -> tuple[list[_Labelled], list[_Labelled]]:
    dev: list[_Labelled] = []
    test: list[_Labelled] = []
    for question in questions:
        (test if _place("test", question.query.id) < limits.test_share else dev).append(question)
    return dev, test


def _place(what: str, question_id: str) -> float:
    """A number in [0, 1) that depends on nothing but the two."""
    digest = hashlib.blake2b(f"{what}\0{question_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _in_order(questions: Sequence[_Labelled], most: int) -> list[_Labelled]:
    """Questions in the order of a hash; more of them are the fewer and others behind."""
    ordered = sorted(questions, key=lambda question: (_place("order", question.query.id), question.query.id))
    return ordered[: most or None]


@dataclass(slots=True)
class _Passages:
    """The documents of a corpus to be; passages of the same title and text are one, under the id that came first."""

    documents: dict[str, Document] = field(default_factory=dict)
    unlike: int = 0
    _by_text: dict[bytes, str] = field(default_factory=dict)

    def add(self, passages: Iterable[Document]) -> tuple[str, ...]:
        """The ids under which they stand, each once."""
        ids: dict[str, None] = {}
        for passage in passages:
            known = self._known(passage)
            if known is None:
                known = passage.id
                self.documents[known] = passage
                self._by_text[_digest(passage)] = known
            elif self.documents[known].contents != passage.contents:
                self.unlike += 1
            ids[known] = None
        return tuple(ids)

    def with_new(self, passages: Iterable[Document]) -> int:
        """How many documents there are with these."""
        return len(self.documents) + len({_digest(each) for each in passages if self._known(each) is None})

    def _known(self, passage: Document) -> str | None:
        return passage.id if passage.id in self.documents else self._by_text.get(_digest(passage))


def _digest(passage: Document) -> bytes:
    return hashlib.blake2b(f"{passage.title}\0{passage.text}".encode(), digest_size=16).digest()


def _write(
    context: StageContext,
    train: Sequence[_Labelled],
    dev: Sequence[_Labelled],
    test: Sequence[_Labelled],
    limits: _Limits,
    left: _Left,
) -> None:
    _check_ids(context, train, dev, test)
    passages = _Passages()
    written = {
        "dev": [question.triplet(passages) for question in _in_order(dev, limits.test)],
        "test": [question.triplet(passages) for question in _in_order(test, limits.test)],
    }
    if limits.passages and len(passages.documents) > limits.passages:
        raise UsageError(
            f"the dev and test questions alone have {len(passages.documents)} passages, more than {limits.passages}",
            where=context.name,
            mend="Raise limit_passages, or limit test_questions",
        )
    written["train"] = []
    for question in _in_order(train, limits.train):
        if limits.passages and passages.with_new(question.passages) > limits.passages:
            break
        written["train"].append(question.triplet(passages))
    for split, triplets in written.items():
        if not triplets:
            raise UsageError(
                f"no question with an answer and a passage is left for {split}",
                where=context.name,
                mend="Check the files and the limits",
            )
        write_questions(context.folder, split, triplets)
    Corpus.build(passages.documents.values(), context.folder / "corpus")
    labels = {f"{split}_labels": sum(len(t.doc_ids) for t in triplets) for split, triplets in written.items()}
    counts = {f"{split}_questions": len(triplets) for split, triplets in written.items()}
    context.report({"passages": len(passages.documents), **counts, **labels})
    context.log(
        f"{len(passages.documents)} passages; questions: "
        + ", ".join(f"{len(triplets)} {split}" for split, triplets in written.items())
        + f"; left out: {left.answer} without an answer, {left.passage} without a passage"
        + (f"; {passages.unlike} passages had another text under an id that was taken" if passages.unlike else "")
    )


def _check_ids(context: StageContext, *splits: Sequence[_Labelled]) -> None:
    met: set[str] = set()
    for questions in splits:
        ids = {question.query.id for question in questions}
        if both := met & ids:
            raise UsageError(
                f"the question id {min(both)!r} stands in two splits", where=context.name, mend="Check the files"
            )
        met |= ids
