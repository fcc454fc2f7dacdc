"""Dense retrieval: a bi-encoder's normalised embeddings and an exact inner-product search (faiss, flat)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retgen import store
from retgen.dense.encoder import PACKAGED, load_encoder
from retgen.errors import ArtefactError, MismatchError, MissingExtraError, UsageError
from retgen.lexical.ranking import NumberedDocuments
from retgen.pipeline import Component, Progress, check_fingerprint
from retgen.types import Document, DocumentFilter, Query, Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

KIND = "dense"
FloatRows = npt.NDArray[np.float32]
_BLOCK = 4096


class DenseRetriever(Component):
    """Finds documents by the cosine of their embedding and the question's: a Retriever. Scores lie in [-1, 1].

    The search is exact: every document is compared. Ties stand in corpus order. A query always has
    ``min(k, documents)`` hits. It reads the question (`Query.text`), never the connector.

    Make one with `build` or `open`.

    Reference:
        Reimers and Gurevych, "Sentence-BERT", 2019; Karpukhin et al., "Dense Passage Retrieval", 2020.

    Example::

        dense = DenseRetriever.build(corpus, "minilm")
        run = dense.search([Query("q", "who discovered oxygen?")], k=10)
    """

    def __init__(
        self,
        encoder: SentenceTransformer | None,
        model: str,
        index: Any,
        ids: Sequence[str],
        *,
        documents: NumberedDocuments | Sequence[Document] | None = None,
        fingerprint: str | None = None,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        self.model = model
        self.fingerprint = fingerprint
        self.batch_size = batch_size
        self.device = device
        self._encoder = encoder
        self._index = index
        self._ids = ids
        self._documents = documents

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        model: str | SentenceTransformer = PACKAGED,
        *,
        batch_size: int = 64,
        device: str | None = None,
        progress: Progress | None = None,
    ) -> DenseRetriever:
        """Encode documents, title and text as one, cut at the model's longest input. They are read once.

        Args:
            documents: a `Corpus`, a list, or anything that yields them; ids must be unique.
            model: ``"minilm"``, a folder or a hub id; or a loaded model, which then cannot be found again by `open`
                unless its name is passed there.
            batch_size: texts encoded at once.
            device: ``cpu``, ``cuda``, …; None lets sentence-transformers choose.
            progress: called with (documents encoded, documents in all; 0 where not known).

        Raises:
            UsageError: no document, or an id that occurs twice.
            MissingExtraError: a package is missing.
            FormatError: no model can be loaded from there.
        """
        faiss = _faiss()
        encoder = load_encoder(model, device) if isinstance(model, str) else model
        name = model if isinstance(model, str) else ""
        total = len(documents) if isinstance(documents, Sequence | NumberedDocuments) else 0
        ids: dict[str, None] = {}
        index = None
        for block in _blocks(documents, 16 * batch_size):
            for document in block:
                if document.id in ids:
                    raise UsageError(
                        f"the document id {document.id!r} occurs twice", mend="Give every document its own id"
                    )
                ids[document.id] = None
            rows = _encode(encoder, [document.contents for document in block], batch_size, "document")
            index = faiss.IndexFlatIP(rows.shape[1]) if index is None else index
            index.add(rows)
            if progress is not None:
                progress(len(ids), total)
        if index is None:
            raise UsageError("there is no document to index", mend="Give at least one document")
        return cls(
            encoder,
            name,
            index,
            tuple(ids),
            documents=documents if isinstance(documents, Sequence | NumberedDocuments) else None,
            fingerprint=getattr(documents, "fingerprint", None),
            batch_size=batch_size,
            device=device,
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
        """
        if k < 1:
            raise UsageError(f"k must be at least 1; got {k}")
        if len({query.id for query in queries}) != len(queries):
            raise UsageError("a query id occurs twice", mend="Give every query its own id")
        allowed = self._allowed(filter) if filter is not None else None
        doc_ids: list[list[str]] = []
        scores: list[npt.NDArray[np.float64]] = []
        for start in range(0, len(queries), _BLOCK):
            texts = [query.text for query in queries[start : start + _BLOCK]]
            for row in _encode(self.encoder, texts, self.batch_size, "query"):
                numbers, values = self._nearest(row[None], k, allowed)
                doc_ids.append([str(self._ids[number]) for number in numbers.tolist()])
                scores.append(values)
        return Run(
            [query.id for query in queries],
            doc_ids,
            scores,
            components={"dense": scores},
            fingerprint=self.fingerprint,
            presorted=True,
        )

    @property
    def encoder(self) -> SentenceTransformer:
        """The model, loaded when it is first needed."""
        if self._encoder is None:
            self._encoder = load_encoder(self.model, self.device)
        return self._encoder

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write embeddings, ids and the model's name (not the model) to a folder, whole or not at all."""
        about = {"fingerprint": self.fingerprint, "model": self.model, "batch_size": self.batch_size}
        with store.create(path, kind=KIND, made_by=about, overwrite=overwrite) as staging:
            _faiss().write_index(self._index, str(staging / "index.faiss"))
            (staging / "ids.json").write_text(json.dumps(list(self._ids), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def open(
        cls,
        path: str | Path,
        documents: NumberedDocuments | None = None,
        *,
        encoder: SentenceTransformer | None = None,
        device: str | None = None,
    ) -> DenseRetriever:
        """Open a saved index. The model is loaded at the first search.

        Args:
            path: the folder.
            documents: the corpus it was built from; filters need it.
            encoder: the loaded model, where its name was not kept.
            device: ``cpu``, ``cuda``, …; None lets sentence-transformers choose.

        Raises:
            ArtefactError: the folder is missing, torn or of another kind.
            MismatchError: ``documents`` is another corpus.
            UsageError: it was built with a loaded model, and none is passed.
        """
        manifest = store.open_folder(path, kind=KIND)
        about = manifest.made_by
        if not about["model"] and encoder is None:
            raise UsageError("this dense index does not know its model's name", where=path, mend="Pass encoder=...")
        try:
            index = _faiss().read_index(str(manifest.path / "index.faiss"))
            ids = json.loads((manifest.path / "ids.json").read_text(encoding="utf-8"))
        except (RuntimeError, ValueError) as error:
            raise ArtefactError("this dense index is torn", where=path, mend="Build it again") from error
        fingerprint = about["fingerprint"]
        dense = cls(
            encoder,
            str(about["model"]),
            index,
            ids,
            documents=documents,
            fingerprint=str(fingerprint) if fingerprint is not None else None,
            batch_size=int(str(about["batch_size"])),
            device=device,
        )
        if documents is not None:
            check_fingerprint(dense.fingerprint, documents, f"the dense index {path}")
            if len(documents) != len(dense):
                raise MismatchError(
                    f"this dense index holds {len(dense)} documents and the corpus {len(documents)}", where=path
                )
        return dense

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def __repr__(self) -> str:
        return f"DenseRetriever({len(self)} documents, {self.model!r})"

    def _allowed(self, keep: DocumentFilter) -> npt.NDArray[np.int64]:
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

    def _nearest(
        self, query: FloatRows, k: int, allowed: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Numbers and scores of the best ``k`` documents; ``query`` has shape (1, d)."""
        faiss = _faiss()
        most = len(self) if allowed is None else len(allowed)
        parameters = None if allowed is None else faiss.SearchParameters(sel=faiss.IDSelectorBatch(allowed))
        wanted = min(k, most)
        if wanted == 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        depth = min(most, wanted + 1)
        while True:
            values, numbers = self._index.search(query, depth, params=parameters)
            # faiss keeps any of several equal scores: look deeper until the k-th stands clear of what was left out.
            if depth == most or values[0, wanted - 1] > values[0, -1]:
                break
            depth = min(most, depth * 2)
        order = np.lexsort((numbers[0], -values[0]))[:wanted]
        return numbers[0][order], values[0][order].astype(np.float64)


def _encode(encoder: SentenceTransformer, texts: Sequence[str], batch_size: int, role: str) -> FloatRows:
    """Normalised embeddings, float32, shape (texts, d); with the model's own prompt for the role where it has one."""
    if not texts:
        return np.zeros((0, 1), dtype=np.float32)
    encode = encoder.encode_query if role == "query" else encoder.encode_document
    rows = encode(
        list(texts),
        batch_size=batch_size,
        normalize_embeddings=True,
        convert_to_numpy=True,
        show_progress_bar=False,
    )
    return np.ascontiguousarray(rows, dtype=np.float32)


def _blocks(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    source = iter(documents)
    while block := list(itertools.islice(source, size)):
        yield block


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "dense") from error
    return faiss
