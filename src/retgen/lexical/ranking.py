"""The best of an array of scores, with ties in corpus order, and under a filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError
from retgen.types import Document, DocumentFilter


@runtime_checkable
class NumberedDocuments(Protocol):
    """Documents that can also be had by their number in the corpus, as filters need them."""

    def at(self, number: int, /) -> Document:
        """The document with this number."""
        ...

    def __len__(self) -> int: ...


class Allowed:
    """A filter's verdicts, each document asked at most once, and only when a ranking comes to it."""

    def __init__(self, keep: DocumentFilter, documents: NumberedDocuments | Sequence[Document] | None) -> None:
        if documents is None:
            raise UsageError(
                "a filter needs the documents, and this BM25 has only their ids",
                mend="Build it from a Corpus or a list, or open it with BM25.open(path, corpus)",
            )
        self._keep = keep
        self._documents = documents
        self._verdicts: dict[int, bool] = {}

    def best(self, scores: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int64]:
        """As `best`, of the allowed documents only."""
        kept: list[int] = []
        for number in best(scores, len(scores)).tolist():
            if number not in self._verdicts:
                documents = self._documents
                document = documents.at(number) if isinstance(documents, NumberedDocuments) else documents[number]
                self._verdicts[number] = bool(self._keep(document))
            if self._verdicts[number]:
                kept.append(number)
                if len(kept) == k:
                    break
        return np.array(kept, dtype=np.int64)


def best(scores: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int64]:
    """Numbers of the ``k`` highest scores above 0, best first, ties by number."""
    candidates = np.flatnonzero(scores > 0)
    if len(candidates) > k:
        kth = np.partition(scores[candidates], len(candidates) - k)[len(candidates) - k]
        candidates = candidates[scores[candidates] >= kth]
    order = np.argsort(-scores[candidates], kind="stable")[:k]
    return candidates[order].astype(np.int64)
