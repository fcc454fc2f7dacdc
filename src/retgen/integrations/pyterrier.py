"""PyTerrier: a retriever and a re-ranker on its frames (package pyterrier; no Java is started or needed).

Frames have its columns: ``qid``, ``query``, ``docno``, ``score``, ``rank`` (from 0, as PyTerrier counts), and ``text``
and ``title`` where texts are asked for. Other columns of the input stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retgen.errors import MissingExtraError, UsageError
from retgen.index import Index
from retgen.integrations.finding import Filter, Finder
from retgen.pipeline import Pipeline
from retgen.types import Document, DocumentSource, Query, Reranker, Run

try:
    import pandas as pd
    import pyterrier as pt
except ImportError as error:
    raise MissingExtraError("pyterrier", "integrations") from error

_RANKED = ["docno", "score", "rank"]


class RetgenRetriever(pt.Transformer):
    """Finds documents for each query of a frame: Q → R.

    Args:
        source: an `Index`, the path of one, or a `Pipeline`.
        k: documents for a query. PyTerrier's ``%`` cuts what was found.
        retriever: of the index, ``bm25`` unless told; a pipeline has its own.
        candidates: documents that a pipeline's re-rankers order, 100 unless told.
        filter: keeps documents of an index: values that their metadata must have, or a function of the document.
        texts: also give the columns ``text`` and ``title``.

    Raises:
        UsageError: see `retgen.integrations.finding.Finder`; or a ``qid`` occurs twice.

    Example::

        found = RetgenRetriever("my-index", k=100).search("who discovered oxygen?")
        pipeline = RetgenRetriever("my-index", texts=True) >> RetgenReranker(cross_encoder)
    """

    def __init__(
        self,
        source: Index | Pipeline | str | Path,
        *,
        k: int = 1000,
        retriever: str | None = None,
        candidates: int | None = None,
        filter: Filter = None,
        texts: bool = False,
    ) -> None:
        super().__init__()
        self._finder = Finder(source, k=k, retriever=retriever, candidates=candidates)
        self._filter = filter
        self.texts = texts

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The queries' documents, query by query, best first."""
        pt.validate.query_frame(inp, extra_columns=["query"])
        asked = [Query(str(qid), str(text)) for qid, text in zip(inp["qid"], inp["query"], strict=True)]
        found = self._finder.find_all(asked, filter=self._filter) if asked else []
        rows: list[int] = []
        columns: dict[str, list[Any]] = {name: [] for name in [*_RANKED, *(("text", "title") if self.texts else ())]}
        for number, each in enumerate(found):
            for passage in each.passages:
                rows.append(number)
                columns["docno"].append(passage.document.id)
                columns["score"].append(passage.hit.score)
                columns["rank"].append(passage.hit.rank - 1)
                if self.texts:
                    columns["text"].append(passage.document.text)
                    columns["title"].append(passage.document.title)
        return _frame(inp, rows, columns)


class RetgenReranker(pt.Transformer):
    """Orders the documents of each query of a frame: R → R.

    Args:
        reranker: any re-ranker, e.g. a `CrossEncoder`; see also `retgen.integrations.ordering.open_reranker`.
        documents: where texts come from by ``docno``: an `Index`, a `Corpus`, a mapping. By default they are the
            frame's ``text`` column, with its ``title`` where it has one.

    Raises:
        UsageError: it is no re-ranker, one ``qid`` has two queries, or a document twice.
        UnknownDocumentError: a ``docno`` that ``documents`` lack.
    """

    def __init__(self, reranker: Reranker, documents: DocumentSource | None = None) -> None:
        super().__init__()
        if not isinstance(reranker, Reranker):
            raise UsageError(f"{type(reranker).__name__} has no method rerank, so it cannot order documents")
        self.reranker = reranker
        self._documents = documents

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The same documents with new scores and ranks, query by query, best first; queries in their order."""
        needed = ["query"] if self._documents is not None else ["query", "text"]
        pt.validate.result_frame(inp, extra_columns=needed)
        places: dict[str, dict[str, int]] = {}
        queries: dict[str, str] = {}
        for number, (qid, text, docno) in enumerate(zip(inp["qid"], inp["query"], inp["docno"], strict=True)):
            key = str(qid)
            if queries.setdefault(key, str(text)) != str(text):
                raise UsageError(f"the qid {key!r} has two queries", mend="Give every query its own qid")
            if str(docno) in places.setdefault(key, {}):
                raise UsageError(f"query {key!r} lists the document {str(docno)!r} twice")
            places[key][str(docno)] = number
        run = Run(list(places), [list(row) for row in places.values()], _given(inp, places), presorted=True)
        documents = self._documents if self._documents is not None else _texts(inp)
        asked = [Query(key, text) for key, text in queries.items()]
        made = self.reranker.rerank(asked, run, documents) if asked else run
        order = [(places[key][hit.doc_id], hit) for key in places for hit in made[key]]
        kept = inp.drop(columns=["score", "rank"], errors="ignore")
        columns: dict[str, list[Any]] = {
            "score": [hit.score for _, hit in order],
            "rank": [hit.rank - 1 for _, hit in order],
        }
        return _frame(kept, [number for number, _ in order], columns)


def _given(inp: pd.DataFrame, places: dict[str, dict[str, int]]) -> list[list[float]]:
    scores = inp["score"].tolist() if "score" in inp.columns else [0.0] * len(inp)
    return [[float(scores[number]) for number in row.values()] for row in places.values()]


def _texts(inp: pd.DataFrame) -> dict[str, Document]:
    titles: Sequence[Any] = inp["title"] if "title" in inp.columns else [""] * len(inp)
    found = zip(inp["docno"], inp["text"], titles, strict=True)
    return {str(docno): Document(str(docno), str(text), str(title)) for docno, text, title in found}


def _frame(inp: pd.DataFrame, rows: list[int], columns: dict[str, list[Any]]) -> pd.DataFrame:
    """The rows of the input, with new columns beside them; typed also where there are none."""
    kept = inp.drop(columns=list(columns), errors="ignore").iloc[rows].reset_index(drop=True)
    kinds = {"score": "float64", "rank": "int64"}
    new = {name: pd.Series(values, dtype=kinds.get(name, object)) for name, values in columns.items()}
    return kept.assign(**new)
