"""Writing a corpus: batches of documents, the table of ids, the fingerprint."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retgen.errors import RecordError, RetgenError
from retgen.formats.records import check_id, check_text
from retgen.text import chunk_words as cut
from retgen.types import Document

CHUNK_MARK = "::"
DOCUMENTS = "documents.arrow"
HASHES = "hashes.npy"
NUMBERS = "numbers.npy"
STARTS = "starts.npy"
ABOUT = "corpus.json"
_BATCH_DOCUMENTS = 1024
_BATCH_CHARACTERS = 1 << 22


def hash_of(doc_id: str) -> int:
    """64 bits of an id's BLAKE2b hash."""
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest(), "little")


def _chunks(document: Document, size: int, overlap: int) -> Iterator[Document]:
    """A document's chunks; one without words stays one chunk, so that its title can be found."""
    for number, (start, end) in enumerate(cut(document.text, size, overlap) or [(0, 0)]):
        yield Document(
            f"{document.id}{CHUNK_MARK}{number}",
            document.text[start:end],
            document.title,
            {**document.metadata, "document": document.id, "start": start, "end": end},
        )


class _Fingerprint:
    """A hash over ids and contents in order; lengths go in too, so that no two sequences look alike."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, document: Document) -> None:
        for part in (document.id, document.title, document.text):
            data = part.encode()
            self._hash.update(len(data).to_bytes(8, "little"))
            self._hash.update(data)

    def go_on_from(self, fingerprint: str, removed: Iterable[str]) -> None:
        """Begin with what an earlier corpus held, less what was removed; its texts need not be there."""
        for part in (fingerprint, *sorted(removed)):
            self.add(Document(part, ""))

    def value(self) -> str:
        return self._hash.hexdigest()


class _Writer:
    """Collects documents into batches of bounded size and writes them."""

    def __init__(self, path: Path) -> None:
        import pyarrow
        from pyarrow import ipc

        self._schema = pyarrow.schema([(name, pyarrow.string()) for name in ("id", "title", "text", "metadata")])
        self._file = ipc.new_file(str(path), self._schema)
        self._rows: list[tuple[str, str, str, str]] = []
        self._characters = 0
        self.starts = [0]
        self.hashes = array("Q")

    def add(self, document: Document) -> None:
        metadata = json.dumps(dict(document.metadata), ensure_ascii=False) if document.metadata else ""
        self._rows.append((document.id, document.title, document.text, metadata))
        self._characters += len(document.text) + len(document.title) + len(metadata)
        self.hashes.append(hash_of(document.id))
        if len(self._rows) >= _BATCH_DOCUMENTS or self._characters >= _BATCH_CHARACTERS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            columns = [pyarrow.array(column, pyarrow.string()) for column in zip(*self._rows, strict=True)]
            self._file.write_batch(pyarrow.record_batch(columns, schema=self._schema))
            self.starts.append(self.starts[-1] + len(self._rows))
            self._rows, self._characters = [], 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What a changed corpus keeps of the one before.

    Args:
        pieces: its documents, or its chunks as they were cut.
        source_fingerprint: of the whole documents it was made from.
        removed: ids of the documents that are not kept.
    """

    pieces: Iterable[Document]
    source_fingerprint: str
    removed: frozenset[str]


def write(
    documents: Iterable[Document],
    staging: Path,
    target: Path,
    chunk_words: int | None,
    chunk_overlap: int,
    kept: Kept | None = None,
) -> None:
    """Write the files of a corpus into ``staging``; errors name ``target``, where it will stand.

    ``kept`` comes before ``documents``. Of whole documents the fingerprint is that of a corpus built at once; of chunks
    the source's is one of its own, as the texts between the chunks are not known any more.
    """
    writer = _Writer(staging / DOCUMENTS)
    whole, pieces = _Fingerprint(), _Fingerprint()
    if kept is not None and chunk_words is not None:
        whole.go_on_from(kept.source_fingerprint, kept.removed)
    try:
        for piece in kept.pieces if kept is not None else ():
            (whole if chunk_words is None else pieces).add(piece)
            writer.add(piece)
        for number, document in enumerate(documents, start=1):
            _check(document, number, target)
            whole.add(document)
            if chunk_words is None:
                writer.add(document)
                continue
            for chunk in _chunks(document, chunk_words, chunk_overlap):
                pieces.add(chunk)
                writer.add(chunk)
    finally:
        writer.close()
    hashes = np.frombuffer(writer.hashes, dtype=np.uint64)
    if not len(hashes):
        raise RetgenError("there are no documents to make a corpus of", where=target, mend="Check the input")
    order = np.argsort(hashes, kind="stable").astype(np.int64)
    np.save(staging / HASHES, hashes[order])
    np.save(staging / NUMBERS, order)
    np.save(staging / STARTS, np.asarray(writer.starts, dtype=np.int64))
    source = whole.value()
    about = {
        "documents": len(hashes),
        "fingerprint": source if chunk_words is None else pieces.value(),
        "source_fingerprint": source,
        "chunk_words": chunk_words,
        "chunk_overlap": chunk_overlap,
    }
    (staging / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
    _check_unique(staging, hashes, order, target, chunked=chunk_words is not None)


def _check(document: Document, number: int, target: Path) -> None:
    def bad(what: str, name: str) -> RecordError:
        return RecordError(what, path=target, line=number, field=name, mend="Mend this document")

    check_id(document.id, lambda what: bad(what, "id"))
    check_text(document.text, lambda what: bad(what, "text"))
    check_text(document.title, lambda what: bad(what, "title"))
    if document.metadata:
        try:
            json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise bad(f"the metadata of {document.id!r} are not plain JSON values ({error})", "metadata") from error


def _check_unique(
    staging: Path, hashes: npt.NDArray[np.uint64], order: npt.NDArray[np.int64], target: Path, *, chunked: bool
) -> None:
    """Documents whose ids share a hash are compared; all others differ for certain."""
    import pyarrow
    from pyarrow import ipc

    ordered = hashes[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    if not len(same):
        return
    with pyarrow.memory_map(str(staging / DOCUMENTS)) as source:
        ids = ipc.open_file(source).read_all().column(0)
        met: dict[str, int] = {}
        for place in same.tolist():
            for number in order[place : place + 2].tolist():
                doc_id = ids[number].as_py()
                if met.setdefault(doc_id, number) == number:
                    continue
                where = f" (first as number {met[doc_id] + 1})"
                raise RecordError(
                    f"the document id {doc_id.rpartition(CHUNK_MARK)[0]!r} occurs a second time"
                    if chunked
                    else f"the document id {doc_id!r} occurs a second time{where}",
                    path=target,
                    line=None if chunked else number + 1,
                    field="id",
                    mend="Give every document its own id",
                )
