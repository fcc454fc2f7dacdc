"""A tree of docids as a search walks it: only what may be found, a filter being counts of leaves below each state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.docids.docid_tree import DocidTree

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
DocumentFilter = Sequence[int] | npt.NDArray[np.integer] | Bools
"""Corpus numbers of documents, or a mask over all corpus numbers."""

HUB = 1024
"""Children from which on a node is a hub: their bits are kept, packed, rather than listed anew at every step."""
_HUBS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Hub:
    """The children of a node that has very many.

    Args:
        tokens: ``(c,)`` rising.
        targets: ``(c,)`` the states they lead to.
        bits: ``(⌈(highest token + 1) / 8⌉,)`` uint8: which tokens they are, little-endian.
    """

    tokens: Int64s
    targets: Int64s
    bits: npt.NDArray[np.uint8]


class AllowedTree:
    """A tree of docids, and which of its documents may be found.

    A search makes one for itself; make it beforehand where many searches share a tree or a filter (a tenant's
    documents): it remembers the filter's counts and the tree's hubs.

    Args:
        tree: the docids.
        documents: those that may be found, by corpus number, or as a mask over corpus numbers; all by default. Numbers
            that the tree does not have (documents since removed) are left out.

    Raises:
        UsageError: ``documents`` is neither, or a number is negative.

    Example:
        >>> from retgen.docids.prefix_tree import PrefixTree
        >>> tree = PrefixTree.build([[5, 7, 1], [5, 8, 1], [6, 1], [5, 7, 1]], eos_token_id=1)
        >>> view = AllowedTree(tree, [1, 3])
        >>> view.expand(np.array([tree.root]))[0].tolist(), view.documents(0).tolist()
        ([5], [3])
    """

    def __init__(self, tree: DocidTree, documents: DocumentFilter | None = None) -> None:
        self.tree = tree
        self._hubs: dict[int, Hub | None] = {}
        self._mask: Bools | None = None
        self._below: npt.NDArray[np.integer] | None = None
        if documents is not None:
            numbers = _numbers(documents)
            leaves = tree.leaves_of(numbers) if len(numbers) else numbers
            numbers, leaves = numbers[leaves >= 0], leaves[leaves >= 0]
            self._mask = np.zeros(int(numbers.max(initial=-1)) + 1, dtype=bool)
            self._mask[numbers] = True
            live = np.zeros(tree.num_leaves, dtype=bool)
            live[leaves] = True
            # below[i]: leaves that may be found among the first i.
            self._below = np.zeros(tree.num_leaves + 1, dtype=np.int32 if tree.num_leaves < 2**31 else np.int64)
            np.cumsum(live, out=self._below[1:])

    @property
    def root(self) -> int:
        """The state before the first token."""
        return self.tree.root

    @property
    def num_leaves(self) -> int:
        """Docids that may be found."""
        return self.tree.num_leaves if self._below is None else int(self._below[-1])

    def remaining(self, states: Int64s) -> Int64s:
        """How many docids that may be found lie below each state ``(n,)``; 1 for a finished one."""
        starts, stops = self.tree.leaf_ranges(states)
        if self._below is None:
            return stops - starts
        return (self._below[stops] - self._below[starts]).astype(np.int64)

    def expand(self, states: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """Children of many states laid end to end, those alone below which something may be found.

        Returns:
            Tokens ``(c,)``, rising within a state, the states they lead to ``(c,)``, and the number of children of each
            state ``(n,)``.
        """
        tokens, targets, counts = self.tree.expand(states)
        if self._below is not None:
            live = self.remaining(targets) > 0
            owner = np.repeat(np.arange(len(states)), counts)
            tokens, targets, counts = tokens[live], targets[live], np.bincount(owner[live], minlength=len(states))
        return tokens.astype(np.int64), targets, counts

    def hub(self, state: int) -> Hub | None:
        """The children of a node with `HUB` of them or more; None for every other state."""
        if state not in self._hubs:
            tokens, targets, _ = self.expand(np.array([state]))
            if len(self._hubs) >= _HUBS_KEPT:
                self._hubs.pop(next(iter(self._hubs)))
            self._hubs[state] = None
            if len(tokens) >= HUB:
                present = np.zeros(int(tokens[-1]) + 1, dtype=bool)
                present[tokens] = True
                self._hubs[state] = Hub(tokens, targets, np.packbits(present, bitorder="little"))
        return self._hubs[state]

    def rests(self, states: Int64s, depth: int) -> tuple[Int64s, Int64s, Int64s]:
        """What is left of the one docid that may be found below each of some states of one depth.

        Args:
            states: ``(n,)``, none finished.
            depth: tokens read so far.

        Returns:
            The tokens to come ``(n, most)``, EOS included and −1 behind it, how many they are ``(n,)``, and the
            docids' leaves ``(n,)``.
        """
        if bool(self.tree.is_unique(states).all()):
            return self.tree.tails(states)
        leaves = self.leaves_below(states)
        tokens, lengths = self.tree.docids(leaves)
        return tokens[:, depth:], lengths - depth, leaves

    def leaves_below(self, states: Int64s) -> Int64s:
        """The first leaf that may be found below each state ``(n,)``."""
        starts, _ = self.tree.leaf_ranges(states)
        if self._below is None:
            return starts
        return np.searchsorted(self._below, self._below[starts], side="right").astype(np.int64) - 1

    def documents(self, leaf: int) -> Int64s:
        """The documents of a leaf that may be found, by corpus number, in corpus order."""
        numbers = np.asarray(self.tree.documents(leaf), dtype=np.int64)
        if self._mask is None:
            return numbers
        numbers = numbers[numbers < len(self._mask)]
        return numbers[self._mask[numbers]]


def _numbers(documents: DocumentFilter) -> Int64s:
    given = np.asarray(documents)
    if given.ndim == 1 and given.dtype == np.bool_:
        return np.flatnonzero(given).astype(np.int64)
    if given.ndim != 1 or (len(given) and not np.issubdtype(given.dtype, np.integer)):
        raise UsageError(
            f"allowed_documents must be corpus numbers or a mask over them, not {given.dtype} of shape {given.shape}",
            mend="Look ids up with DocidTable.number",
        )
    if len(given) and int(given.min()) < 0:
        raise UsageError(f"allowed_documents holds {int(given.min())}; corpus numbers start at 0")
    return np.unique(given.astype(np.int64))
