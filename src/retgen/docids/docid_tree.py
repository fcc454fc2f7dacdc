"""What every tree of docids offers to a search, be it one set of arrays (`prefix_tree`) or several (`layered_tree`).

A position in a tree is one int64, the *state*:

- ``0 ≤ state < num_nodes``: a node; the root is 0. But for the root, several leaves lie below it;
- ``state ≥ num_nodes``: a prefix that only one docid has, and that has not ended;
- ``state < 0``: a finished docid, of leaf ``−1 − state``.

A leaf is a distinct docid; leaves are numbered in the lexical order of their tokens, so that every state covers a range
of leaves. Documents that share a docid share its leaf. A tree never changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError

IntArray = npt.NDArray[np.integer]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TreeStatistics:
    """What a tree holds and takes.

    Args:
        documents: found through it.
        docids: distinct ones (leaves).
        nodes: branching prefixes stored.
        edges: stored between a node and what follows it.
        tail_tokens: stored behind unique prefixes.
        token_bits: 16 where every token id is below 65,536, else 32.
        max_length: tokens of the longest docid, EOS included.
        bytes: of all arrays.
    """

    documents: int
    docids: int
    nodes: int
    edges: int
    tail_tokens: int
    token_bits: int
    max_length: int
    bytes: int

    @property
    def bytes_per_document(self) -> float:
        """Size of all arrays divided by the number of documents."""
        return self.bytes / max(1, self.documents)


class DocidTree(ABC):
    """All docids of a corpus as a tree of tokens, EOS being an edge like any other."""

    root = 0
    eos_token_id: int
    lineage: dict[str, str]
    """Fingerprints of what the tree was built from, by name: ``tokenizer``, ``corpus``, ``docids``."""

    @property
    @abstractmethod
    def num_nodes(self) -> int:
        """The first state that is no node."""

    @property
    @abstractmethod
    def num_leaves(self) -> int:
        """Distinct docids."""

    @property
    @abstractmethod
    def num_documents(self) -> int:
        """Documents, of which several may share a leaf."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """No docid has more tokens, EOS included: the most steps a search can take."""

    @property
    @abstractmethod
    def max_token_id(self) -> int:
        """No docid has a higher token id: a model's vocabulary must hold it."""

    @abstractmethod
    def statistics(self) -> TreeStatistics:
        """What the tree holds and takes."""

    @property
    def token_bits(self) -> int:
        """How wide tokens are stored: 16 bits where every id is below 65,536, else 32."""
        return 16 if self.max_token_id < 2**16 else 32

    @property
    def bytes_per_document(self) -> float:
        """Size of all arrays divided by the number of documents."""
        return self.statistics().bytes_per_document

    @abstractmethod
    def documents(self, leaf: int) -> IntArray:
        """Corpus numbers of the documents whose docid this leaf is, in corpus order."""

    @abstractmethod
    def leaves_of(self, numbers: IntArray) -> Int64s:
        """The leaf of each document ``(n,)``, by corpus numbers ``(n,)``; −1 for those that the tree does not have."""

    @abstractmethod
    def leaf_ranges(self, states: Int64s) -> tuple[Int64s, Int64s]:
        """First leaf below each state ``(n,)``, and one past the last ``(n,)``; they differ by one but at nodes."""

    @abstractmethod
    def depths(self, states: Int64s) -> Int64s:
        """Tokens of each state's prefix ``(n,)``."""

    @abstractmethod
    def expand(self, states: Int64s) -> tuple[IntArray, Int64s, Int64s]:
        """Children of many states laid end to end.

        Args:
            states: ``(n,)``.

        Returns:
            Tokens ``(c,)``, the states they lead to ``(c,)``, and the number of children of each state ``(n,)``, where
            ``c`` is their sum. Within a state, tokens rise.
        """

    @abstractmethod
    def docids(self, leaves: Int64s) -> tuple[Int64s, Int64s]:
        """Many docids at once.

        Args:
            leaves: ``(n,)``.

        Returns:
            Their tokens ``(n, longest)``, EOS included and −1 behind it, and their lengths ``(n,)``.

        Raises:
            UsageError: a leaf that the tree does not have.
        """

    def children(self, state: int) -> tuple[IntArray, Int64s]:
        """Tokens that may follow a state, rising, and the states they lead to; both empty after EOS."""
        tokens, targets, _ = self.expand(np.array([state]))
        return tokens, targets

    def children_padded(self, states: Int64s) -> tuple[IntArray, Int64s, npt.NDArray[np.bool_]]:
        """Children of many states as rectangles.

        Args:
            states: ``(n,)``.

        Returns:
            Tokens, states they lead to, and where there is a child: each ``(n, most children)``. Places without a
            child hold token 0 and state 0.
        """
        tokens, targets, counts = self.expand(states)
        width = int(counts.max(initial=0))
        mask = np.arange(width) < counts[:, None]
        padded_tokens = np.zeros(mask.shape, dtype=tokens.dtype)
        padded_targets = np.zeros(mask.shape, dtype=np.int64)
        padded_tokens[mask] = tokens
        padded_targets[mask] = targets
        return padded_tokens, padded_targets, mask

    def is_unique(self, states: Int64s) -> npt.NDArray[np.bool_]:
        """Where a state's prefix belongs to one docid only, which has not ended ``(n,)``. Never the root."""
        return states >= self.num_nodes

    def tails(self, states: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """What follows prefixes that one docid each has.

        Args:
            states: ``(n,)``, for which `is_unique` holds, or that are finished.

        Returns:
            The tokens from each state to its docid's end ``(n, most)``, EOS included and −1 behind it; how many they
            are ``(n,)``, 0 for what is finished; and the docids' leaves ``(n,)``.

        Raises:
            UsageError: a state with several leaves below.
        """
        leaves, stops = self.leaf_ranges(states)
        if (stops - leaves != 1).any():
            raise UsageError("only a prefix that one docid has is followed by one tail")
        whole, lengths = self.docids(leaves)
        skipped = self.depths(states)
        counts = lengths - skipped
        places = np.arange(int(counts.max(initial=0)))
        inside = places < counts[:, None]
        rest = np.full(inside.shape, -1, dtype=np.int64)
        rows, columns = np.nonzero(inside)
        rest[rows, columns] = whole[rows, skipped[rows] + columns]
        return rest, counts, leaves

    def token_ids(self, leaf: int) -> list[int]:
        """The docid of a leaf, EOS included.

        Raises:
            UsageError: there is no such leaf.
        """
        return [int(token) for token in self.docids(np.array([leaf]))[0][0]]

    def __repr__(self) -> str:
        found = self.statistics()
        return (
            f"<{type(self).__name__}: {found.documents} documents, {found.docids} docids of up to {found.max_length} "
            f"{found.token_bits}-bit tokens, {found.bytes_per_document:.1f} bytes a document>"
        )

    def _check_leaves(self, leaves: Int64s) -> None:
        outside = (leaves < 0) | (leaves >= self.num_leaves)
        if outside.any():
            raise UsageError(f"leaf {leaves[outside][0]} is not one of the tree's {self.num_leaves} docids")
