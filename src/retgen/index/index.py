"""The index: building it, opening it, searching it. How its documents come and go, `retgen.index.changes` says."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from retgen import store
from retgen.corpus import Corpus
from retgen.corpus.build import CHUNK_MARK
from retgen.errors import ArtefactError, UsageError
from retgen.index.changes import CORPUS, KIND, Change, cannot_change, change, named_as
from retgen.pipeline import Progress
from retgen.types import Document, DocumentFilter, Query, Retriever, Run, Triplet

# Where each retriever's class lives; loaded when it is asked for, so that BM25 alone stays light.
_RETRIEVERS: Mapping[str, tuple[str, str]] = {
    "bm25": ("retgen.lexical", "BM25"),
    "dense": ("retgen.dense", "DenseRetriever"),
    "doct5query": ("retgen.lexical", "BM25"),
}


class FilteringRetriever(Retriever, Protocol):
    """A retriever that takes a metadata filter."""

    def search(self, queries: Sequence[Query], k: int = 100, *, filter: DocumentFilter | None = None) -> Run:
        """The best ``k`` documents of every query, among those the filter keeps."""
        ...


class Index:
    """A corpus with its retrievers. Make one with `build` or `open`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     documents = [Document("a", "Tea is hot."), Document("b", "Ice is cold.")]
        ...     index = Index.build(documents, Path(home) / "index")
        ...     index.search([Query("q", "what is cold?")], k=5).doc_ids("q")
        ['b']
    """

    def __init__(self, manifest: store.Manifest) -> None:
        self.path = manifest.path
        self.manifest = manifest
        self.corpus = Corpus.open(self.path / CORPUS)
        self.fingerprint = self.corpus.fingerprint
        self._open: dict[str, FilteringRetriever] = {}

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        path: str | Path,
        *,
        fields: str | Mapping[str, float] = "flat",
        language: str = "english",
        k1: float = 0.9,
        b: float = 0.4,
        chunk_words: int | None = None,
        chunk_overlap: int = 0,
        dense: str | None = None,
        dense_index: str = "flat",
        pseudo_queries: Iterable[Triplet] | None = None,
        made_by: Mapping[str, object] | None = None,
        overwrite: bool = False,
        progress: Callable[[str], Progress] | None = None,
    ) -> Index:
        """Write an index and open it. A failure leaves what stood there before.

        Args:
            documents: with unique ids; streamed.
            path: where the index shall stand.
            fields: what BM25 counts, see `retgen.lexical.BM25`.
            language: of BM25's stemmer and stop words.
            k1: see `retgen.lexical.BM25`.
            b: see `retgen.lexical.BM25`.
            chunk_words: cut documents into chunks of so many words; None keeps them whole.
            chunk_overlap: words that a chunk shares with the one before.
            dense: also embed every document with this bi-encoder: ``"minilm"``, a folder or a hub id.
            dense_index: how the embeddings are searched: ``flat``, ``hnsw``, ``ivf-pq``; see `retgen.dense.kinds`.
            pseudo_queries: questions about the documents, by id: "doct5query" is then a BM25 that counts them too.
            made_by: what to write into the manifest about its making.
            overwrite: replace an index that stands there.
            progress: asked for a progress callback for each of the steps it names: "bm25", "dense", "doct5query".

        Raises:
            RecordError: a document cannot be stored, or its id occurs twice.
            RetgenError: there are no documents.
            UsageError: a setting cannot be used.
            MismatchError: a pseudo query is about a document that is not there.
            ArtefactError: something stands there that may not be replaced.
        """
        from retgen.lexical import BM25
        from retgen.lexical.settings import BM25Settings

        settings = BM25Settings.of(fields, language, k1, b)
        parts = ["bm25"]
        about: dict[str, object] = {**(made_by or {}), "retrievers": parts, "dense": dense}
        if dense is not None:
            from retgen.dense.kinds import IndexKind

            IndexKind.parse(dense_index)  # a slip is met before anything is built
            parts.append("dense")
            about["dense_index"] = dense_index
        if pseudo_queries is not None:
            parts.append("doct5query")
        of_step = progress or (lambda _name: lambda _done, _total: None)
        with store.create(path, kind=KIND, made_by=about, overwrite=overwrite) as staging, named_as(path, staging):
            corpus = Corpus.build(
                documents, staging / CORPUS, chunk_words=chunk_words, chunk_overlap=chunk_overlap, made_by=made_by
            )

            def lexical(name: str, read: Iterable[Document]) -> None:
                made = BM25.build(read, fields=settings.fields, language=language, k1=k1, b=b, progress=of_step(name))
                made.save(staging / name)

            lexical("bm25", corpus)
            if dense is not None:
                from retgen.dense import DenseRetriever

                made = DenseRetriever.build(corpus, dense, index=dense_index, progress=of_step("dense"))
                made.save(staging / "dense")
            if pseudo_queries is not None:
                from retgen.lexical.doc2query import ExpandedDocuments, queries_by_document

                lexical("doct5query", ExpandedDocuments(corpus, queries_by_document(pseudo_queries, corpus)))
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = False) -> Index:
        """Open an index. Retrievers are opened when they are first asked for.

        Args:
            path: its folder.
            verify: also compare every file's checksum.

        Raises:
            ArtefactError: it is missing, torn, foreign, newer than this version, or of another kind.
        """
        return cls(store.open_folder(path, kind=KIND, verify=verify))

    @property
    def retrievers(self) -> tuple[str, ...]:
        """The names of the retrievers it holds."""
        return tuple(cast(Sequence[str], self.manifest.made_by["retrievers"]))

    def retriever(self, name: str = "bm25") -> FilteringRetriever:
        """One of its retrievers.

        Raises:
            UsageError: it holds none of that name.
            MismatchError: that part was built from another corpus.
            ArtefactError: that part is torn.
        """
        if name not in self.retrievers:
            raise UsageError(
                f"this index has no retriever {name!r}",
                where=self.path,
                mend=f"It has: {', '.join(self.retrievers)}. Others are added when it is built, e.g. --dense minilm",
            )
        if name not in self._open:
            if name not in _RETRIEVERS:
                raise ArtefactError(f"this retgen cannot open the retriever {name!r}", where=self.path)
            module, attribute = _RETRIEVERS[name]
            opener: Any = getattr(importlib.import_module(module), attribute)
            self._open[name] = opener.open(self.path / name, self.corpus)
        return self._open[name]

    @property
    def cannot_change(self) -> str | None:
        """Why documents cannot be added or removed; None where they can."""
        return cannot_change(self.retrievers)

    def holds(self, doc_id: str) -> bool:
        """Whether there is a document of that id; in a chunked index chunks are none."""
        return (f"{doc_id}{CHUNK_MARK}0" if self.corpus.chunked else doc_id) in self.corpus

    def change(self, add: Iterable[Document] = (), remove: Iterable[str] = ()) -> Index:
        """Add and remove documents, all or none, and open what the folder then holds. No model is trained.

        The index is written anew beside the old one and takes its place: a process killed meanwhile leaves the old one,
        and other processes that have it open go on with that. What it holds then is what `build` makes of the same
        documents, those that were added last at the end. BM25 is counted anew over the whole corpus, so that many
        documents are better added at once; of a dense part only those added are encoded.

        Args:
            add: with ids that are not there, or are among those removed.
            remove: ids of documents.

        Returns:
            The index as it is now; this one stays what it was.

        Raises:
            FixedIndexError: one of its retrievers cannot be changed.
            UsageError: an id that is there already, or none would be left.
            UnknownDocumentError: a document to remove is not there.
            RecordError: a document cannot be stored, or its id comes twice.
            LockedError: another process is changing it.
        """
        dense = self._open.get("dense")
        encoder = change(self.path, Change(tuple(add), frozenset(remove)), dense)
        changed = Index.open(self.path)
        if encoder is not None:
            from retgen.dense import DenseRetriever

            changed._open["dense"] = DenseRetriever.open(self.path / "dense", changed.corpus, encoder=encoder)
        return changed

    def search(
        self,
        queries: Sequence[Query],
        k: int = 100,
        *,
        retriever: str = "bm25",
        filter: DocumentFilter | None = None,
    ) -> Run:
        """The best ``k`` documents of every query; in a chunked index a document stands where its best chunk does.

        Args:
            queries: with unique ids.
            k: at most so many hits each.
            retriever: the name of one of `retrievers`.
            filter: keeps documents by their metadata (chunks carry their document's).

        Raises:
            UsageError: k < 1, a query id occurs twice, or there is no such retriever.
        """
        return self.corpus.aggregate(self.search_passages(queries, k, retriever=retriever, filter=filter)).top(k)

    def search_passages(
        self,
        queries: Sequence[Query],
        k: int = 100,
        *,
        retriever: str = "bm25",
        filter: DocumentFilter | None = None,
    ) -> Run:
        """The best passages of every query, as many as it takes to meet ``k`` documents.

        In an index of whole documents these are the ``k`` documents; in a chunked one they are chunks, several of which
        may come from one document, so that there may be more than ``k``. See `search` for the arguments.
        """
        found = self.retriever(retriever)
        if not self.corpus.chunked:
            return found.search(queries, k, filter=filter)
        depth = 4 * k
        while True:
            chunks = found.search(queries, depth, filter=filter)
            documents = self.corpus.aggregate(chunks)
            if depth >= len(self.corpus) or all(
                len(documents.doc_ids(query_id)) >= k or len(chunks.doc_ids(query_id)) < depth for query_id in chunks
            ):
                return chunks
            depth *= 4

    def __getitem__(self, doc_id: str, /) -> Document:
        return self.corpus[doc_id]

    def __len__(self) -> int:
        return len(self.corpus)

    def __repr__(self) -> str:
        return f"Index({len(self)} {'chunks' if self.corpus.chunked else 'documents'}, {', '.join(self.retrievers)})"
