"""What a generative retriever learns its docids from, as data: kinds of ⟨text → docid⟩ pairs, and how they are mixed.

DSI reads the beginnings of documents, DSI-QG questions made from them, NCI both and random chunks besides, Ultron
passages and their telling words first and questions later: all are lists of `Pairs`. When each list is trained on is
`retgen.train.stages`' business. UniGen's own pairs, which have a context, are in `retgen.train.examples`.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from typing import Literal

from pydantic import ConfigDict

from retgen.connect.terms import TermWeights
from retgen.docids.table import DocidTable
from retgen.errors import UsageError
from retgen.train.examples import UniGenExample, finetuning_examples
from retgen.types import Document, Query, Triplet

PairKind = Literal["lead", "title", "chunks", "terms", "pseudo", "questions"]

_WORDS = {"lead": 32, "chunks": 64, "terms": 20}
_PER_DOCUMENT = {"chunks": 10}


@dataclass(frozen=True, slots=True)
class Pairs:
    """One kind of pairs, the text of each read by the encoder, the docid written by the retrieval decoder.

    Args:
        kind: ``lead``: the document's first words (DSI: 32 tokens). ``title``: its title, where it has one.
            ``chunks``: runs of its words from random places (NCI: ten of 64; one that is shorter is read whole, once).
            ``terms``: its words of the highest tf·idf, best first (Ultron). ``pseudo``: questions made from it
            (DSI-QG). ``questions``: labelled questions.
        words: of a lead, a chunk, or how many terms; 0: 32, 64 and 20.
        per_document: chunks of a document; or the most pseudo questions of one; 0: ten, and all.
        share: of the stage's pairs, against the other kinds'. Kinds that fall short are read again and again until
            their share is right, as in DSI, whose mix has up to 32 documents for a question. 0 for all kinds reads
            every pair once.
        answers: with the answers of ``pseudo`` and ``questions``, for a network that writes answers too.

    Raises:
        UsageError: negative numbers, or answers of a kind that has none.

    Example:
        >>> Pairs("lead", share=32), Pairs("questions", share=1).kind
        (Pairs(kind='lead', words=0, per_document=0, share=32, answers=False), 'questions')
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: PairKind
    words: int = 0
    per_document: int = 0
    share: float = 0.0
    answers: bool = False

    def __post_init__(self) -> None:
        if self.kind not in MAKERS:
            raise UsageError(f"no pairs of the kind {self.kind!r}", mend=f"There is: {', '.join(MAKERS)}")
        if min(self.words, self.per_document, self.share) < 0:
            raise UsageError(f"pairs cannot have negative numbers: {self}")
        if self.answers and self.kind not in ("pseudo", "questions"):
            raise UsageError(f"pairs of the kind {self.kind!r} have no answers")


@dataclass(frozen=True)
class Material:
    """What pairs are made from.

    Args:
        documents: the collection, in corpus order.
        table: their docids.
        questions: labelled training questions.
        queries: the same with the inputs that the model is to read; the questions themselves where None.
        pseudo: questions made from the documents, one relevant document each.
        seed: of random chunks.
    """

    documents: Sequence[Document]
    table: DocidTable
    questions: Sequence[Triplet] = ()
    queries: Sequence[Query] | None = None
    pseudo: Sequence[Triplet] = ()
    seed: int = 0

    @cached_property
    def weights(self) -> TermWeights:
        """Of the collection's words."""
        return TermWeights.from_documents(self.documents)


def mixed_examples(pairs: Sequence[Pairs], material: Material) -> list[UniGenExample]:
    """Examples of several kinds of pairs, in their shares. Titles are left out where the collection has none.

    Raises:
        UsageError: no pairs, a kind of which the material has none, or shares of some kinds only.
    """
    if not pairs:
        raise UsageError("a stage needs pairs to be trained on", mend="Give at least one kind")
    made = [(each, list(MAKERS[each.kind](each, material))) for each in pairs]
    for each, examples in made:
        # Many collections have no titles at all.
        if not examples and (each.kind != "title" or len(made) == 1):
            raise UsageError(
                f"there are no pairs of the kind {each.kind!r} in this collection",
                mend="Leave the kind out, or give the questions or texts it is made from",
            )
    made = [(each, examples) for each, examples in made if examples]
    shares = [each.share for each, _ in made]
    if not any(shares):
        return [example for _, examples in made for example in examples]
    if not all(shares):
        raise UsageError("either all pairs of a stage have a share or none has", mend="Give each kind a share")
    unit = max(len(examples) / each.share for each, examples in made)
    return [example for each, examples in made for example in islice(cycle(examples), round(unit * each.share))]


def _lead(pairs: Pairs, material: Material) -> Iterator[UniGenExample]:
    words = pairs.words or _WORDS["lead"]
    for document in material.documents:
        yield from _named(document, " ".join(document.text.split()[:words]), material.table)


def _title(pairs: Pairs, material: Material) -> Iterator[UniGenExample]:
    for document in material.documents:
        yield from _named(document, " ".join(document.title.split()), material.table)


def _chunks(pairs: Pairs, material: Material) -> Iterator[UniGenExample]:
    size = pairs.words or _WORDS["chunks"]
    for document in material.documents:
        words = document.text.split()
        # Of each document by itself: others that come or go change none of its chunks.
        chance = random.Random(zlib.crc32(f"{material.seed}:{document.id}".encode()))
        places = len(words) - size + 1
        starts = [0] if places <= 1 else [chance.randrange(places) for _ in range(_per_document(pairs))]
        for start in starts:
            yield from _named(document, " ".join(words[start : start + size]), material.table)


def _terms(pairs: Pairs, material: Material) -> Iterator[UniGenExample]:
    for document in material.documents:
        found = material.weights.key_words(document.contents, pairs.words or _WORDS["terms"])
        yield from _named(document, " ".join(found), material.table)


def _pseudo(pairs: Pairs, material: Material) -> Iterator[UniGenExample]:
    met: dict[str, int] = {}
    for triplet in material.pseudo:
        for doc_id in triplet.doc_ids:
            met[doc_id] = met.get(doc_id, 0) + 1
            if pairs.per_document and met[doc_id] > pairs.per_document:
                continue
            yield _asked(triplet.query.text, doc_id, triplet.answers if pairs.answers else (), material.table)


def _questions(pairs: Pairs, material: Material) -> Iterator[UniGenExample]:
    queries = material.queries
    if queries is None:
        queries = [triplet.query for triplet in material.questions]
    for example in finetuning_examples(material.questions, queries, material.table):
        if pairs.answers:
            yield example
        elif example.docid:
            yield UniGenExample(example.input_text, example.docid, (), example.docid_text)


def _per_document(pairs: Pairs) -> int:
    return pairs.per_document or _PER_DOCUMENT[pairs.kind]


def _named(document: Document, text: str, table: DocidTable) -> Iterator[UniGenExample]:
    if text:
        yield _asked(text, document.id, (), table)


def _asked(text: str, doc_id: str, answers: tuple[str, ...], table: DocidTable) -> UniGenExample:
    number = table.number(doc_id)
    return UniGenExample(text, tuple(table.token_ids(number)), answers, table.text(number))


MAKERS: Mapping[str, Callable[[Pairs, Material], Iterator[UniGenExample]]] = {
    "lead": _lead,
    "title": _title,
    "chunks": _chunks,
    "terms": _terms,
    "pseudo": _pseudo,
    "questions": _questions,
}
"""What makes the pairs of a kind."""
