"""A corpus on disk: documents by id and by number, memory-mapped, in an order that never changes.

Documents lie in an Arrow file; ids are found through a sorted table of their hashes. Opening a corpus reads neither.
Chunked corpora remember which document each chunk came from, and bring a run over chunks back to documents.
"""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from retgen import store
from retgen.corpus.build import ABOUT, CHUNK_MARK, DOCUMENTS, HASHES, NUMBERS, STARTS, hash_of, write
from retgen.errors import ArtefactError, MismatchError, UnknownDocumentError
from retgen.text import chunk_words as cut
from retgen.types import Document, DocumentFilter, Run

if TYPE_CHECKING:
    import pyarrow

KIND = "corpus"


class Corpus:
    """Documents in a fixed order, by id and by number (from 0).

    Make one with `build`, `open` or `from_documents`. It can be pickled and opened by many processes at once: all map
    the same pages.

    Example:
        >>> corpus = Corpus.from_documents([Document("a", "Tea is hot."), Document("b", "Ice is cold.")])
        >>> len(corpus), corpus["b"].text, corpus.number("b"), corpus.at(0).id
        (2, 'Ice is cold.', 1, 'a')
    """

    def __init__(self, manifest: store.Manifest) -> None:
        import pyarrow
        from pyarrow import ipc

        self.path = manifest.path
        self.manifest = manifest
        torn = ArtefactError("this corpus is torn", where=self.path, mend="Build it again, or copy it again")
        try:
            about = json.loads((self.path / ABOUT).read_bytes())
            self.fingerprint: str = about["fingerprint"]
            self.source_fingerprint: str = about["source_fingerprint"]
            self.chunk_words: int | None = about["chunk_words"]
            self.chunk_overlap: int = about["chunk_overlap"]
            self._size: int = about["documents"]
            self._hashes = _mapped(self.path / HASHES)
            self._numbers = _mapped(self.path / NUMBERS)
            self._starts = _mapped(self.path / STARTS)
            self._reader = ipc.open_file(pyarrow.memory_map(str(self.path / DOCUMENTS)))
        except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
            raise torn from error
        if not self._size == len(self._hashes) == len(self._numbers) == int(self._starts[-1]):
            raise torn
        self._batches: dict[int, pyarrow.RecordBatch] = {}

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        path: str | Path,
        *,
        chunk_words: int | None = None,
        chunk_overlap: int = 0,
        made_by: Mapping[str, object] | None = None,
        overwrite: bool = False,
    ) -> Corpus:
        """Write a corpus and open it. Documents are streamed: memory grows by 16 bytes a document.

        Args:
            documents: with unique ids; their order is kept.
            path: where the corpus shall stand.
            chunk_words: cut each document into chunks of so many words; None keeps documents whole.
            chunk_overlap: words that a chunk shares with the one before.
            made_by: what to write into the manifest about its making.
            overwrite: replace a corpus that stands there.

        Raises:
            RecordError: an id occurs twice, or a document cannot be stored; ``line`` is the document's number from 1.
            RetgenError: there are no documents.
            UsageError: the chunk's size or overlap is out of range.
        """
        return cls._build(documents, path, chunk_words, chunk_overlap, made_by, overwrite=overwrite)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = False) -> Corpus:
        """Open a corpus.

        Args:
            path: its folder.
            verify: also compare every file's checksum.

        Raises:
            ArtefactError: it is missing, torn, foreign, newer than this version, or of another kind.
        """
        return store.load(path, kind=KIND, read=cls, verify=verify)

    @classmethod
    def from_documents(
        cls, documents: Iterable[Document], *, chunk_words: int | None = None, chunk_overlap: int = 0
    ) -> Corpus:
        """A corpus in a temporary folder that goes when the corpus does.

        Raises:
            RecordError: an id occurs twice, or a document cannot be stored.
            RetgenError: there are no documents.
        """
        home = tempfile.TemporaryDirectory(prefix="retgen-corpus-")
        try:
            place = Path(home.name) / "corpus"
            corpus = cls._build(documents, place, chunk_words, chunk_overlap, None, durable=False)
        except BaseException:
            home.cleanup()
            raise
        weakref.finalize(corpus, home.cleanup)
        return corpus

    @property
    def ids(self) -> Sequence[str]:
        """The ids in order, read as they are asked for."""
        return _Ids(self)

    @property
    def chunked(self) -> bool:
        """Whether its documents are chunks of others."""
        return self.chunk_words is not None

    def at(self, number: int) -> Document:
        """The document with this number.

        Raises:
            IndexError: the number is not from 0 to ``len - 1``.
        """
        batch, row = self._locate(number)
        return _document(*(column[row].as_py() for column in batch.columns))

    def number(self, doc_id: str) -> int:
        """The number of the document with this id.

        Raises:
            UnknownDocumentError: there is none.
        """
        found = self._find(doc_id)
        if found is None:
            raise UnknownDocumentError(doc_id, where=self.path)
        return found

    def select(self, keep: DocumentFilter) -> npt.NDArray[np.int64]:
        """The numbers of the documents that a filter keeps, in order, int64 ``(n,)``."""
        return np.fromiter((number for number, item in enumerate(self) if keep(item)), dtype=np.int64)

    def document_id(self, doc_id: str) -> str:
        """The id of the document that a chunk came from; a whole document's own id.

        Raises:
            UnknownDocumentError: there is no such chunk.
        """
        self.number(doc_id)
        return doc_id.rpartition(CHUNK_MARK)[0] if self.chunked else doc_id

    def aggregate(self, run: Run) -> Run:
        """A run over chunks as a run over their documents: each stands where its best chunk stood.

        A document takes the score and the components of its best-ranked chunk, which is its highest score in any run
        that is ordered by score. A run over whole documents comes back as it is.

        Raises:
            MismatchError: the run belongs to another corpus.
            UnknownDocumentError: it holds an id that this corpus does not.
        """
        if run.fingerprint is not None and run.fingerprint != self.fingerprint:
            raise MismatchError(
                "this run was made over another corpus", where=self.path, mend="Give the corpus that was searched"
            )
        if not self.chunked:
            return run
        query_ids = list(run.query_ids)
        doc_ids: list[list[str]] = []
        kept: list[npt.NDArray[np.int64]] = []
        for query_id in query_ids:
            first: dict[str, int] = {}
            for rank, chunk_id in enumerate(run.doc_ids(query_id)):
                first.setdefault(self.document_id(chunk_id), rank)
            doc_ids.append(list(first))
            kept.append(np.fromiter(first.values(), dtype=np.int64))
        return Run(
            query_ids,
            doc_ids,
            [run.scores(query_id)[rows] for query_id, rows in zip(query_ids, kept, strict=True)],
            components={
                name: [run.scores(query_id, name)[rows] for query_id, rows in zip(query_ids, kept, strict=True)]
                for name in run.component_names
            },
            fingerprint=self.source_fingerprint if run.fingerprint is not None else None,
            presorted=True,
        )

    def __getitem__(self, doc_id: str, /) -> Document:
        return self.at(self.number(doc_id))

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and self._find(doc_id) is not None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Document]:
        for index in range(self._reader.num_record_batches):
            # Not kept: a walk over the corpus must not hold every batch's objects.
            batch = self._reader.get_batch(index)
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield _document(*row)

    def __repr__(self) -> str:
        return f"Corpus({self._size} {'chunks' if self.chunked else 'documents'}, {str(self.path)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (Corpus.open, (self.path,))

    @classmethod
    def _build(
        cls,
        documents: Iterable[Document],
        path: str | Path,
        chunk_words: int | None,
        chunk_overlap: int,
        made_by: Mapping[str, object] | None,
        *,
        overwrite: bool = False,
        durable: bool = True,
    ) -> Corpus:
        if chunk_words is not None or chunk_overlap:
            cut("", chunk_words or 0, chunk_overlap)
        about = {**(made_by or {}), "chunk_words": chunk_words, "chunk_overlap": chunk_overlap}
        with store.create(path, kind=KIND, made_by=about, overwrite=overwrite, durable=durable) as staging:
            write(documents, staging, Path(path), chunk_words, chunk_overlap)
        return cls.open(path)

    def _id_at(self, number: int) -> str:
        batch, row = self._locate(number)
        return str(batch.column(0)[row].as_py())

    def _locate(self, number: int) -> tuple[pyarrow.RecordBatch, int]:
        if not 0 <= number < self._size:
            raise IndexError(f"document number {number} is not from 0 to {self._size - 1}")
        index = int(np.searchsorted(self._starts, number, side="right")) - 1
        batch = self._batches.get(index)
        if batch is None:
            batch = self._batches[index] = self._reader.get_batch(index)
        return batch, number - int(self._starts[index])

    def _find(self, doc_id: str) -> int | None:
        try:
            wanted = hash_of(doc_id)
        except UnicodeEncodeError:
            return None
        place = int(np.searchsorted(self._hashes, np.uint64(wanted)))
        while place < self._size and int(self._hashes[place]) == wanted:
            number = int(self._numbers[place])
            if self._id_at(number) == doc_id:
                return number
            place += 1
        return None


class _Ids(Sequence[str]):
    """The ids of a corpus, none of them in memory."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._corpus._id_at(number) for number in range(*index.indices(len(self)))]
        return self._corpus._id_at(index + len(self) if index < 0 else index)

    def __len__(self) -> int:
        return len(self._corpus)

    def __iter__(self) -> Iterator[str]:
        reader = self._corpus._reader
        for index in range(reader.num_record_batches):
            yield from reader.get_batch(index).column(0).to_pylist()

    def __contains__(self, value: object) -> bool:
        return value in self._corpus


def _mapped(path: Path) -> npt.NDArray[np.generic]:
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _document(doc_id: str, title: str, text: str, metadata: str) -> Document:
    return Document(doc_id, text, title, json.loads(metadata) if metadata else {})
