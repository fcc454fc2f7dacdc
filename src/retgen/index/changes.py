"""How the documents of an index come and go: the folder is written anew and put in the old one's place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from retgen import store
from retgen.corpus import Corpus
from retgen.corpus.build import CHUNK_MARK
from retgen.corpus.change import write_changed
from retgen.errors import LockedError, RetgenError, UnknownDocumentError, UsageError
from retgen.types import Document

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

KIND = "index"
CORPUS = "corpus"
_CHANGEABLE = ("bm25", "dense")


class FixedIndexError(UsageError):
    """An index with a part that can take no additions or removals."""


@dataclass(frozen=True, slots=True)
class Change:
    """Documents to add, and ids of documents to remove first."""

    add: tuple[Document, ...] = ()
    remove: frozenset[str] = frozenset()


def cannot_change(retrievers: Sequence[str]) -> str | None:
    """Why an index with these retrievers takes no additions or removals; None where it does."""
    fixed = [name for name in retrievers if name not in _CHANGEABLE]
    if not fixed:
        return None
    reason = "the questions it counts with each document are not kept" if fixed == ["doct5query"] else "it is fixed"
    return f"this index has the retriever {fixed[0]!r}, which takes no additions or removals: {reason}"


def change(path: Path, wanted: Change, dense: object = None) -> SentenceTransformer | None:
    """Write an index anew with a change, based on what the folder holds now; see `Index.change`.

    Args:
        path: the index' folder.
        wanted: the change.
        dense: the index' open dense retriever, whose loaded model is used again.

    Returns:
        The model that the dense part was changed with; None where there is none.

    Raises:
        RetgenError: see `Index.change`.
    """
    before = store.open_folder(path, kind=KIND)
    retrievers = cast(Sequence[str], before.made_by["retrievers"])
    reason = cannot_change(retrievers)
    if reason is not None:
        raise FixedIndexError(reason, mend="Build the index again from all documents: retgen index … --overwrite")
    count = before.made_by.get("changes", 0)
    about = {**before.made_by, "changes": (count if isinstance(count, int) else 0) + 1}
    with store.create(path, kind=KIND, made_by=about, overwrite=True) as staging, named_as(path, staging):
        # Only now that the folder is locked: what another process did in between must not be undone.
        now = store.open_folder(path, kind=KIND)
        if now.made_by != before.made_by:
            raise LockedError("this index was changed by another process just now", where=path, mend="Try again")
        corpus = Corpus.open(path / CORPUS)
        _check(corpus, wanted)
        made = write_changed(corpus, staging / CORPUS, add=wanted.add, remove=wanted.remove)
        _write_bm25(path, made, staging)
        return _write_dense(path, made, wanted, staging, dense) if "dense" in retrievers else None


def _check(corpus: Corpus, wanted: Change) -> None:
    def held(doc_id: str) -> bool:
        return (f"{doc_id}{CHUNK_MARK}0" if corpus.chunked else doc_id) in corpus

    for doc_id in sorted(wanted.remove):
        if not held(doc_id):
            raise UnknownDocumentError(doc_id)
    for document in wanted.add:
        if document.id not in wanted.remove and held(document.id):
            raise UsageError(
                f"there is a document with id {document.id!r} already", mend="Remove it first, or choose another id"
            )
    if (
        not wanted.add
        and len(wanted.remove)
        and all(_whole_id(corpus, doc_id) in wanted.remove for doc_id in corpus.ids)
    ):
        raise UsageError("no document would be left, and an index needs one", mend="Remove the whole index folder")


def _write_bm25(path: Path, corpus: Corpus, staging: Path) -> None:
    from retgen.lexical import BM25

    settings = BM25.open(path / "bm25").settings
    BM25.build(corpus, **asdict(settings)).save(staging / "bm25")


def _write_dense(
    path: Path, corpus: Corpus, wanted: Change, staging: Path, opened: object
) -> SentenceTransformer | None:
    from retgen.dense import DenseRetriever

    encoder: Any = opened.encoder if isinstance(opened, DenseRetriever) and wanted.add else None
    # Not mapped: the vectors are changed in memory.
    dense = DenseRetriever.open(path / "dense", encoder=encoder, mmap=False)
    if wanted.remove:
        dense.remove(_positions(path, wanted.remove))
    if wanted.add:
        known = {document.id for document in wanted.add}
        dense.add(piece for piece in corpus if _whole_id(corpus, piece.id) in known)
    dense.attach(corpus)
    dense.save(staging / "dense")
    return dense.encoder if wanted.add else encoder


def _positions(path: Path, doc_ids: frozenset[str]) -> list[str]:
    """Ids of all passages of these documents, as they stand in the old corpus."""
    corpus = Corpus.open(path / CORPUS)
    if not corpus.chunked:
        return sorted(doc_ids)
    return [passage_id for passage_id in corpus.ids if passage_id.rpartition(CHUNK_MARK)[0] in doc_ids]


def _whole_id(corpus: Corpus, passage_id: str) -> str:
    """The id of the document that a passage of this corpus is, or is a chunk of."""
    return passage_id.rpartition(CHUNK_MARK)[0] if corpus.chunked else passage_id


@contextlib.contextmanager
def named_as(path: str | Path, staging: Path) -> Iterator[None]:
    """Errors name the folder that was asked for, not the one it is being built in."""
    try:
        yield
    except RetgenError as error:
        if error.where is not None:
            error.where = error.where.replace(str(staging), str(path))
        raise
