"""Dense retrieval: a bi-encoder's embeddings in a vector index. Its kinds are `retgen.dense.vectors`'."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retgen.dense.encoder import PACKAGED, check_folder, encode, load_encoder
from retgen.dense.folder import DenseFolder
from retgen.dense.kinds import FLAT, IndexKind
from retgen.dense.vectors import FloatRows, Positions, VectorIndex
from retgen.errors import MismatchError, UnknownDocumentError, UsageError
from retgen.lexical.ranking import NumberedDocuments
from retgen.pipeline import Component, Progress, check_fingerprint
from retgen.types import Document, DocumentFilter, Query, Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BLOCK = 4096


class DenseRetriever(Component):
    """Finds documents by the similarity of their embedding and the question's: a Retriever.

    Scores are the model's: cosines, from -1 to 1, or inner products. With the index ``flat`` the search is exact: every
    document is compared; the others find most of the same. Ties stand in corpus order. A query always has
    ``min(k, documents)`` hits. It reads the question (`Query.text`), never the connector.

    Make one with `build` or `open`.

    Reference:
        Reimers and Gurevych, "Sentence-BERT", 2019; Karpukhin et al., "Dense Passage Retrieval", 2020.

    Example::

        dense = DenseRetriever.build(corpus, "minilm", index="hnsw")
        run = dense.search([Query("q", "who discovered oxygen?")], k=10)
    """

    def __init__(
        self,
        encoder: SentenceTransformer | None,
        model: str,
        vectors: VectorIndex,
        ids: Sequence[str],
        *,
        documents: NumberedDocuments | Sequence[Document] | None = None,
        fingerprint: str | None = None,
        batch_size: int = 64,
        device: str | None = None,
        digest: str | None = None,
    ) -> None:
        self.model = model
        self.fingerprint = fingerprint
        self.batch_size = batch_size
        self.device = device
        self.vectors = vectors
        self._digest = digest
        self._encoder = encoder
        self._ids = ids
        self._documents = documents

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        model: str | SentenceTransformer = PACKAGED,
        *,
        index: str | IndexKind = FLAT,
        batch_size: int = 64,
        device: str | None = None,
        progress: Progress | None = None,
    ) -> DenseRetriever:
        """Encode documents, title and text as one, cut at the model's longest input. They are read once.

        Args:
            documents: a `Corpus`, a list, or anything that yields them; ids must be unique.
            model: ``"minilm"``, a folder or a hub id; or a loaded model, which then cannot be found again by `open`
                unless its name is passed there.
            index: ``flat`` (exact), ``hnsw``, ``ivf-pq``, or one with its settings, see `IndexKind`.
            batch_size: texts encoded at once.
            device: ``cpu``, ``cuda``, …; None lets sentence-transformers choose.
            progress: called with (documents encoded, documents in all; 0 where not known).

        Raises:
            UsageError: no document, an id that occurs twice, or an index that does not suit so few documents.
            MissingExtraError: a package is missing.
            FormatError: no model can be loaded from there.
            ArtefactError: a model that retgen saved is torn.
        """
        kind = IndexKind.parse(index)
        encoder = load_encoder(model, device) if isinstance(model, str) else model
        name = _lasting_name(model) if isinstance(model, str) else ""
        total = len(documents) if isinstance(documents, Sequence | NumberedDocuments) else 0
        ids: dict[str, None] = {}

        def blocks() -> Iterator[FloatRows]:
            for block in _blocks(documents, 16 * batch_size):
                _name_all(block, ids)
                yield encode(encoder, [document.contents for document in block], batch_size, "document")
                if progress is not None:
                    progress(len(ids), total)

        rows = blocks()
        first = next(rows, None)
        if first is None:
            raise UsageError("there is no document to index", mend="Give at least one document")
        vectors = VectorIndex.build(itertools.chain([first], rows), kind)
        return cls(
            encoder,
            name,
            vectors,
            tuple(ids),
            documents=documents if isinstance(documents, Sequence | NumberedDocuments) else None,
            fingerprint=getattr(documents, "fingerprint", None),
            batch_size=batch_size,
            device=device,
            digest=check_folder(name),
        )

    def bind(self, source: object) -> DenseRetriever:
        """This retriever, after a check that it belongs to the source.

        Raises:
            MismatchError: it was built from another corpus.
        """
        check_fingerprint(self.fingerprint, getattr(source, "corpus", source), "this dense index")
        return self

    def search(self, queries: Sequence[Query], k: int = 100, *, filter: DocumentFilter | None = None) -> Run:
        """The best ``k`` documents of every query.

        Args:
            queries: with unique ids.
            k: at most so many hits each; at least 1.
            filter: keeps the documents for which it is true; it is asked for every document.

        Raises:
            UsageError: k < 1, a query id that occurs twice, or a filter without documents to read.
            MismatchError: the model is not the one the index was built with.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1; got {k}")
        if len({query.id for query in queries}) != len(queries):
            raise UsageError("a query id occurs twice", mend="Give every query its own id")
        only = self._allowed(filter) if filter is not None else None
        doc_ids: list[list[str]] = []
        scores: list[npt.NDArray[np.float64]] = []
        for start in range(0, len(queries), _BLOCK):
            texts = [query.text for query in queries[start : start + _BLOCK]]
            for row in encode(self.encoder, texts, self.batch_size, "query"):
                positions, values = self.vectors.nearest(row, k, only=only)
                doc_ids.append([str(self._ids[position]) for position in positions.tolist()])
                scores.append(values)
        return Run(
            [query.id for query in queries],
            doc_ids,
            scores,
            components={"dense": scores},
            fingerprint=self.fingerprint,
            presorted=True,
        )

    def candidates(self, queries: Sequence[Query], k: int) -> list[list[str]]:
        """Ids of the best ``k`` documents of every query, best first, many queries at a time.

        Quicker than `search` for thousands of queries. Equal scores stand in any order, so this is for what a training
        draws from, not for results.
        """
        found: list[list[str]] = []
        for start in range(0, len(queries), _BLOCK):
            texts = [query.text for query in queries[start : start + _BLOCK]]
            positions, _ = self.vectors.nearest_of_many(encode(self.encoder, texts, self.batch_size, "query"), k)
            found += [[str(self._ids[number]) for number in row if number >= 0] for row in positions.tolist()]
        return found

    def add(self, documents: Iterable[Document]) -> None:
        """Add documents at the end. The index is then over no corpus, until `attach` names the one that has them.

        An index of codes goes on with those it learnt from the first documents.

        Raises:
            UsageError: an id is there already.
        """
        ids = dict.fromkeys(map(str, self._ids))
        for block in _blocks(documents, 16 * self.batch_size):
            _name_all(block, ids)
            self.vectors.add(encode(self.encoder, [item.contents for item in block], self.batch_size, "document"))
            self._changed(tuple(ids))

    def remove(self, doc_ids: Iterable[str]) -> None:
        """Take documents out. The index is then over no corpus, until `attach` names the one without them.

        Raises:
            UnknownDocumentError: an id that is not there; nothing is removed then.
        """
        known = {str(doc_id): position for position, doc_id in enumerate(self._ids)}
        gone: set[int] = set()
        for doc_id in doc_ids:
            if doc_id not in known:
                raise UnknownDocumentError(doc_id)
            gone.add(known[doc_id])
        self.vectors.remove(np.array(sorted(gone), dtype=np.int64))
        self._changed(tuple(doc_id for doc_id, position in known.items() if position not in gone))

    def attach(self, corpus: NumberedDocuments) -> None:
        """Say which corpus the documents are, after `add` or `remove`: filters read it, runs carry its fingerprint.

        Raises:
            MismatchError: it does not hold just these documents in this order.
        """
        same = len(corpus) == len(self) and all(
            corpus.at(number).id == str(doc_id) for number, doc_id in enumerate(self._ids)
        )
        if not same:
            raise MismatchError(
                "this corpus does not hold the documents of this dense index in their order",
                mend="Give the corpus they were read from, those that were added last at its end",
            )
        self._documents = corpus
        self.fingerprint = getattr(corpus, "fingerprint", None)

    @property
    def encoder(self) -> SentenceTransformer:
        """The model, loaded when it is first needed.

        Raises:
            MismatchError: the model that stands there now is not the one the index was built with.
        """
        if self._encoder is None:
            if self._digest is not None and check_folder(self.model) != self._digest:
                raise MismatchError(
                    "this dense index was built with another model than the one that stands there now",
                    where=self.model,
                    mend="Build the index again",
                )
            self._encoder = load_encoder(self.model, self.device)
        return self._encoder

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write embeddings, ids and the model's name (not the model) to a folder, whole or not at all."""
        made = DenseFolder(self.vectors, self._ids, self.model, self._digest, self.batch_size, self.fingerprint)
        made.save(path, overwrite=overwrite)

    @classmethod
    def open(
        cls,
        path: str | Path,
        documents: NumberedDocuments | None = None,
        *,
        encoder: SentenceTransformer | None = None,
        device: str | None = None,
        mmap: bool = True,
    ) -> DenseRetriever:
        """Open a saved index. The model is loaded at the first search.

        Args:
            path: the folder.
            documents: the corpus it was built from; filters need it.
            encoder: the loaded model, where its name was not kept.
            device: ``cpu``, ``cuda``, …; None lets sentence-transformers choose.
            mmap: map vectors and ids instead of reading them into memory.

        Raises:
            ArtefactError: the folder is missing, torn or of another kind.
            MismatchError: ``documents`` is another corpus.
            UsageError: it was built with a loaded model, and none is passed.
        """
        folder = DenseFolder.open(path, mmap=mmap)
        if not folder.model and encoder is None:
            raise UsageError("this dense index does not know its model's name", where=path, mend="Pass encoder=...")
        dense = cls(
            encoder,
            folder.model,
            folder.vectors,
            folder.ids,
            documents=documents,
            fingerprint=folder.fingerprint,
            batch_size=folder.batch_size,
            device=device,
            digest=folder.digest,
        )
        if documents is not None:
            check_fingerprint(dense.fingerprint, documents, f"the dense index {path}")
            if len(documents) != len(dense):
                raise MismatchError(
                    f"this dense index holds {len(dense)} documents and the corpus {len(documents)}", where=path
                )
        return dense

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        return f"DenseRetriever({len(self)} documents, {self.model!r}, {self.vectors.kind.name})"

    def _changed(self, ids: Sequence[str]) -> None:
        self._ids, self._documents, self.fingerprint = ids, None, None

    def _allowed(self, keep: DocumentFilter) -> Positions:
        if self._documents is None:
            raise UsageError(
                "a filter needs the documents, and this retriever has only their embeddings",
                mend="Build it from a Corpus or a list, or open it with DenseRetriever.open(path, corpus)",
            )
        documents: Iterable[Document] = (
            (self._documents.at(number) for number in range(len(self)))
            if isinstance(self._documents, NumberedDocuments)
            else self._documents
        )
        return np.array([number for number, item in enumerate(documents) if keep(item)], dtype=np.int64)


def _lasting_name(model: str) -> str:
    """A name that is found from any working directory."""
    return str(Path(model).resolve()) if model != PACKAGED and Path(model).is_dir() else model


def _name_all(block: Iterable[Document], ids: dict[str, None]) -> None:
    for document in block:
        if document.id in ids:
            raise UsageError(f"the document id {document.id!r} occurs twice", mend="Give every document its own id")
        ids[document.id] = None


def _blocks(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    source = iter(documents)
    while block := list(itertools.islice(source, size)):
        yield block
