"""Docid schemes that write codes: numbers of documents, clusters of their embeddings, product quantisation.

They are given embeddings, one row for each document in corpus order; making these is the caller's work. Such docids
name only the documents that they were made for: one that is added later has no code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from retgen.docids.clustering import cluster_codes, product_codes
from retgen.docids.codes import POSITION, Code, CodeAlphabet, check_alphabet
from retgen.errors import UsageError
from retgen.types import Document


@dataclass(frozen=True, slots=True)
class CodedDocids:
    """Docids that are codes.

    Args:
        pairs: document id and docid text of every document, in corpus order.
        alphabet: that they are written in; its ``tokens()`` are what a tokenizer must hold.
    """

    pairs: list[tuple[str, str]]
    alphabet: CodeAlphabet


@runtime_checkable
class CodedScheme(Protocol):
    """A docid scheme whose docids are codes."""

    def coded(self, documents: Iterable[Document], /) -> CodedDocids:
        """Docids of documents, with their alphabet."""
        ...


@dataclass(frozen=True, slots=True)
class IntegerScheme:
    """The docid is the document's number in the corpus, digit by digit: a name without any meaning.

    Written in the tokenizer's own digits, as DSI's "naively structured" ids are, here set apart: one token a digit in
    tokenizers that have one for each, whatever they would make of a whole number.

    Reference:
        Tay et al., "Transformer Memory as a Differentiable Search Index", 2022, "Naively Structured String
        Identifiers"; Zhuang et al., "Bridging the Gap Between Indexing and Retrieval for Differentiable Search Index
        with Query Generation", 2022 (DSI-QG).

    Example:
        >>> list(IntegerScheme()([Document(f"d{n}", "") for n in range(11)]))[-2:]
        [('d9', '9'), ('d10', '1 0')]
    """

    name = "integer"

    def __call__(
        self, documents: Iterable[Document], connectors: Mapping[str, str] | None = None, /
    ) -> Iterator[tuple[str, str]]:
        """Document id and docid text of every document."""
        for number, document in enumerate(documents):
            yield document.id, " ".join(str(number))


@dataclass(frozen=True, slots=True, eq=False)
class SemanticScheme:
    """The docid is the path down a tree of clusters: near documents share its beginning.

    Args:
        vectors: ``(documents, d)`` embeddings, in corpus order.
        clusters: k, the children of a cluster.
        leaf: c, the most documents of a leaf, where the docid's last number tells them apart.
        seed: of k-means.
        alphabet: ``position`` (NCI) or ``digits`` (DSI); see `retgen.docids.codes`.

    Raises:
        UsageError: no vectors, or not one for each document; and see `cluster_codes`.

    Reference:
        Tay et al., 2022, "Semantically Structured Identifiers" (k = 10, c = 100); Wang et al., "A Neural Corpus Indexer
        for Document Retrieval", 2022 (NCI; both 30).

    Example:
        >>> documents = [Document(f"d{n}", "") for n in range(3)]
        >>> named = dict(SemanticScheme([[0.0], [9.0], [0.1]], clusters=2, leaf=2)(documents))
        >>> named["d0"][:5] == named["d2"][:5] != named["d1"][:5]
        True
    """

    vectors: npt.ArrayLike | None = None
    clusters: int = 10
    leaf: int = 100
    seed: int = 0
    alphabet: str = POSITION
    name = "semantic"

    def __post_init__(self) -> None:
        check_alphabet(self.alphabet)

    def __call__(
        self, documents: Iterable[Document], connectors: Mapping[str, str] | None = None, /
    ) -> Iterator[tuple[str, str]]:
        """Document id and docid text of every document."""
        yield from self.coded(documents).pairs

    def coded(self, documents: Iterable[Document], /) -> CodedDocids:
        """Docids of documents, with their alphabet."""
        ids = [document.id for document in documents]
        vectors = _one_each(self.vectors, ids, self.name)
        codes = cluster_codes(vectors, clusters=self.clusters, leaf=self.leaf, seed=self.seed) if ids else []
        places = max(map(len, codes), default=1)
        return _written(ids, codes, CodeAlphabet((self.clusters,) * places, self.alphabet, last=self.leaf))


@dataclass(frozen=True, slots=True, eq=False)
class ProductScheme:
    """The docid is the embedding's product quantisation: near documents share most of its numbers.

    All docids are equally long. Ultron's end there; ours are followed by EOS as all docids are, one step more.

    Args:
        vectors: ``(documents, d)`` embeddings, in corpus order.
        groups: of dimensions, and places of the docid.
        codes: of a group.
        seed: of k-means.
        distinct: tell documents with equal codes apart by a number at one place more, in corpus order from 0. False
            lets them share their docid: they are found together, and counted as collisions.
        alphabet: ``position`` (Ultron) or ``digits``.

    Raises:
        UsageError: no vectors, or not one for each document; and see `product_codes`.

    Reference:
        Zhou et al., "Ultron: An Ultimate Retriever on Corpus with a Model-based Indexer", 2022 (24 groups of 256). Its
        public code shuffles equal codes at random instead.
    """

    vectors: npt.ArrayLike | None = None
    groups: int = 24
    codes: int = 256
    seed: int = 0
    distinct: bool = False
    alphabet: str = POSITION
    name = "pq"

    def __post_init__(self) -> None:
        check_alphabet(self.alphabet)

    def __call__(
        self, documents: Iterable[Document], connectors: Mapping[str, str] | None = None, /
    ) -> Iterator[tuple[str, str]]:
        """Document id and docid text of every document."""
        yield from self.coded(documents).pairs

    def coded(self, documents: Iterable[Document], /) -> CodedDocids:
        """Docids of documents, with their alphabet."""
        ids = [document.id for document in documents]
        vectors = _one_each(self.vectors, ids, self.name)
        if not ids:
            return CodedDocids([], CodeAlphabet((self.codes,) * self.groups, self.alphabet))
        found = product_codes(vectors, groups=self.groups, codes=self.codes, seed=self.seed)
        codes: list[Code] = [tuple(row) for row in found.codes.tolist()]
        sizes = [self.codes] * self.groups
        if self.distinct:
            codes = _told_apart(codes)
            sizes.append(max(code[-1] for code in codes) + 1)
        return _written(ids, codes, CodeAlphabet(tuple(sizes), self.alphabet))


def _written(ids: Sequence[str], codes: Sequence[Code], alphabet: CodeAlphabet) -> CodedDocids:
    return CodedDocids(list(zip(ids, map(alphabet.text, codes), strict=True)), alphabet)


def _told_apart(codes: Sequence[Code]) -> list[Code]:
    met: Counter[Code] = Counter()
    longer = []
    for code in codes:
        longer.append((*code, met[code]))
        met[code] += 1
    return longer


def _one_each(vectors: npt.ArrayLike | None, ids: Sequence[str], scheme: str) -> npt.ArrayLike:
    if vectors is None:
        raise UsageError(
            f"the docid scheme {scheme!r} needs an embedding of every document",
            mend="Give vectors=…, one row for each document in corpus order",
        )
    rows = np.shape(vectors)[0] if np.ndim(vectors) else 0
    if rows != len(ids):
        raise UsageError(
            f"there are {rows} embeddings for {len(ids)} documents",
            mend="Give one row for each document, in corpus order",
        )
    return vectors
