"""What a search over docids returns: documents with their log-probabilities, by corpus number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError
from retgen.types import Run

if TYPE_CHECKING:
    from retgen.docids.table import DocidTable


class LeafDocuments(Protocol):
    """A tree, or what a search may find of it."""

    def documents(self, leaf: int, /) -> npt.NDArray[np.integer]:
        """Corpus numbers of a leaf's documents, in corpus order."""
        ...


@dataclass(frozen=True, slots=True)
class Certificate:
    """What an exact search can say of one query's hits.

    Args:
        certified: whether the hits are the k best documents of all that may be found.
        status: ``"certified"``; ``"budget"``: `max_expansions` was reached first, and these are the best so far; or
            ``"tie"``: another docid comes as close to the last of the hits as the arithmetic can tell.
        expanded: prefixes that the model read for it: nodes whose children it scored, and docids read to their ends.
        gap: by how much the last hit's docid beats every docid left out, as far as it is known (a docid not read
            counts by its bound). Infinite where there is none left; negative where one might be better.
        tolerance: what the arithmetic may be off by: a docid is certified to be better only beyond it.
    """

    certified: bool
    status: str
    expanded: int
    gap: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class DocidHits:
    """Documents found for a block of queries, best first.

    Args:
        documents: for each query, corpus numbers ``(h,)`` of its documents.
        leaves: for each query, the docid's leaf of each document ``(h,)``; documents sharing a docid repeat it.
        scores: for each query, ``(h,)`` scores ≤ 0 under the rule of the search. Under ``model``, log p(docid | query):
            the sum of its tokens' log-probabilities, EOS included (Eq. 1 of UniGen). Documents that share a docid share
            its score.
        certificates: for each query, what an exact search can say of its hits; None from other strategies.
    """

    documents: list[npt.NDArray[np.int64]]
    leaves: list[npt.NDArray[np.int64]]
    scores: list[npt.NDArray[np.float64]]
    certificates: list[Certificate] | None = None

    def __len__(self) -> int:
        return len(self.documents)

    @classmethod
    def from_leaves(
        cls,
        tree: LeafDocuments,
        leaves: Sequence[npt.NDArray[np.int64]],
        scores: Sequence[npt.NDArray[np.float64]],
        k: int,
        *,
        document_order: npt.ArrayLike | None = None,
        certificates: list[Certificate] | None = None,
    ) -> DocidHits:
        """The first ``k`` documents of each query's ranked leaves.

        Args:
            tree: gives a leaf's documents.
            leaves: for each query, ranked.
            scores: for each query, of its leaves.
            k: the most documents per query.
            document_order: ``(documents,)`` by corpus number: documents that share a docid come by falling value,
                equal ones in corpus order; all in corpus order by default.
            certificates: one per query, where there are any.

        Raises:
            UsageError: ``document_order`` lacks a document's value.
        """
        values = None if document_order is None else np.asarray(document_order)
        hits = cls([], [], [], certificates)
        for row, row_scores in zip(leaves, scores, strict=True):
            owned: list[npt.NDArray[np.int64]] = []
            missing = k
            for leaf in row:
                if missing <= 0:
                    break
                owned.append(_in_order(np.asarray(tree.documents(int(leaf)), dtype=np.int64), values))
                missing -= len(owned[-1])
            counts = [len(documents) for documents in owned]
            hits.documents.append(np.concatenate([*owned, np.zeros(0, np.int64)])[:k])
            hits.leaves.append(np.repeat(row[: len(counts)].astype(np.int64), counts)[:k])
            hits.scores.append(np.repeat(row_scores[: len(counts)].astype(np.float64), counts)[:k])
        return hits

    def to_run(self, query_ids: Sequence[str], table: DocidTable) -> Run:
        """The hits as a run, in the order of the search.

        Args:
            query_ids: one per query of the block.
            table: the docid table the tree was built from.
        """
        return Run(
            query_ids,
            [table.doc_ids(numbers) for numbers in self.documents],
            self.scores,
            fingerprint=table.corpus_fingerprint,
            presorted=True,
        )


def _in_order(numbers: npt.NDArray[np.int64], values: npt.NDArray[np.generic] | None) -> npt.NDArray[np.int64]:
    if values is None or len(numbers) < 2:
        return numbers
    if values.ndim != 1 or int(numbers.max()) >= len(values):
        raise UsageError(
            f"document_order has the shape {values.shape}, but document number {int(numbers.max())} needs a value",
            mend="Give one value for every document of the corpus, by corpus number",
        )
    # A stable sort of the reverse, reversed, is a stable sort by falling value, for any type that can be compared.
    return numbers[::-1][np.argsort(values[numbers[::-1]], kind="stable")][::-1]
