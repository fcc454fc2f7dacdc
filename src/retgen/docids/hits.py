"""What a search over docids returns: documents with their log-probabilities, by corpus number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retgen.types import Run

if TYPE_CHECKING:
    from retgen.docids.prefix_tree import PrefixTree
    from retgen.docids.table import DocidTable


@dataclass(frozen=True, slots=True)
class DocidHits:
    """Documents found for a block of queries, best first.

    Args:
        documents: for each query, corpus numbers ``(h,)`` of its documents.
        leaves: for each query, the docid's leaf of each document ``(h,)``; documents sharing a docid repeat it.
        scores: for each query, ``(h,)`` log p(docid | query) ≤ 0: the sum of its tokens' log-probabilities, EOS
            included (Eq. 1 of UniGen). Documents that share a docid share its score.
    """

    documents: list[npt.NDArray[np.int64]]
    leaves: list[npt.NDArray[np.int64]]
    scores: list[npt.NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.documents)

    @classmethod
    def from_leaves(
        cls,
        tree: PrefixTree,
        leaves: Sequence[npt.NDArray[np.int64]],
        scores: Sequence[npt.NDArray[np.float64]],
        k: int,
    ) -> DocidHits:
        """The first ``k`` documents of each query's ranked leaves; a leaf's documents come in corpus order."""
        hits = cls([], [], [])
        for row, row_scores in zip(leaves, scores, strict=True):
            owned = [tree.documents(int(leaf)) for leaf in row]
            counts = [len(documents) for documents in owned]
            hits.documents.append(np.concatenate([*owned, np.zeros(0, np.int64)]).astype(np.int64)[:k])
            hits.leaves.append(np.repeat(row.astype(np.int64), counts)[:k])
            hits.scores.append(np.repeat(row_scores.astype(np.float64), counts)[:k])
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
