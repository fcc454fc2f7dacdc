"""A corpus with documents added and others removed: written anew, in the order kept and then added."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from retgen import store
from retgen.corpus.build import CHUNK_MARK, Kept, write
from retgen.corpus.corpus import KIND, Corpus
from retgen.types import Document


def write_changed(
    corpus: Corpus,
    path: str | Path,
    *,
    add: Iterable[Document] = (),
    remove: Collection[str] = (),
    made_by: Mapping[str, object] | None = None,
) -> Corpus:
    """Write a corpus that differs from another by some documents, and open it. Chunks are kept as they were cut.

    Args:
        corpus: the one before; it is not changed.
        path: where the new one shall stand.
        add: documents, cut as the others are; they come last.
        remove: ids of documents that are left out.
        made_by: what to write into the manifest about its making.

    Raises:
        RecordError: a document cannot be stored, or its id is there already.
        RetgenError: no document is left.
    """
    gone = frozenset(remove)
    about = {**(made_by or {}), "chunk_words": corpus.chunk_words, "chunk_overlap": corpus.chunk_overlap}
    with store.create(path, kind=KIND, made_by=about) as staging:
        kept = Kept(_kept(corpus, gone), corpus.source_fingerprint, gone)
        write(add, staging, Path(path), corpus.chunk_words, corpus.chunk_overlap, kept)
    return Corpus.open(path)


def _kept(corpus: Corpus, gone: frozenset[str]) -> Iterator[Document]:
    for piece in corpus:
        if (piece.id.rpartition(CHUNK_MARK)[0] if corpus.chunked else piece.id) not in gone:
            yield piece
