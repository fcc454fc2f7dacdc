"""What commands take for CORPUS_OR_INDEX: an index that `retgen index` made, or documents in any form it reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from retgen.cli.running import skipping

if TYPE_CHECKING:
    from retgen.corpus import Corpus
    from retgen.formats import Skipped
    from retgen.types import Document, Retriever


def is_index(path: str) -> bool:
    """Whether retgen made the folder; opening it as an index says if it is another kind of folder."""
    from retgen import store

    return (Path(path) / store.MANIFEST).exists()


def documents_of(path: str, skipped: Skipped | None) -> Iterable[Document]:
    """The documents of an index (its passages, where it is chunked) or of a corpus, streamed."""
    if is_index(path):
        from retgen.index import Index

        return Index.open(path).corpus
    from retgen.formats import read_corpus

    return read_corpus(path, skipped=skipped)


def corpus_and_bm25(path: str, *, skip_bad: bool) -> tuple[Corpus, Retriever]:
    """An index' corpus and BM25; of other documents a temporary corpus, and BM25 as `retgen index` would build it."""
    if is_index(path):
        from retgen.index import Index

        index = Index.open(path)
        return index.corpus, index.retriever("bm25")
    from retgen.corpus import Corpus
    from retgen.lexical import BM25

    with skipping(skip_bad) as skipped:
        corpus = Corpus.from_documents(documents_of(path, skipped))
    return corpus, BM25.build(corpus)
