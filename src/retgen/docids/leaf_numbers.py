"""The numbers of leaves in a layered tree, from those in its layers.

Living leaves of the base and leaves of the added tree are numbered together in lexical order; a docid that both have is
one leaf. All of it is searching in a few short rising arrays, one entry per dead or added leaf.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.tree_descent import locate

Int64s = npt.NDArray[np.int64]
_NONE = np.zeros(0, dtype=np.int64)


class LeafNumbers:
    """Leaves of two trees as the leaves of one.

    An added leaf is *own* unless its docid is that of a living leaf of the base.

    Args:
        base: the tree that was built.
        dead: leaves of the base, rising, that have no documents left.
        added: the tree of added documents.
    """

    def __init__(self, base: PrefixTree, dead: Int64s, added: PrefixTree | None) -> None:
        self._base, self._added, self._dead = base, added, dead
        tails = base.arrays.tail_offsets
        self._dead_tails = tails[dead].astype(np.int64), tails[dead + 1].astype(np.int64)
        ranks, twins = _NONE, _NONE  # of added leaves: leaves of the base before each; the base's same leaf, or −1
        if added is not None:
            rows, lengths = added.docids(np.arange(added.num_leaves))
            offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
            ranks, found = locate(base, rows[rows >= 0], offsets)
            twins = np.where(found & ~np.isin(ranks, dead), ranks, -1)
        own = np.flatnonzero(twins < 0)
        self._ranks, self._twins = ranks, twins
        self._own, self._own_ranks = own, ranks[own]
        self._own_before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(twins < 0)])
        self._own_numbers = self._living_before(self._own_ranks) + np.arange(len(own))
        self._shared = np.flatnonzero(twins >= 0)
        self._shared_twins = twins[self._shared]
        self.any_dead = len(dead) > 0
        self.total = base.num_leaves - len(dead) + len(own)

    @property
    def nbytes(self) -> int:
        """Size of the arrays."""
        return sum(part.nbytes for part in vars(self).values() if isinstance(part, np.ndarray))

    def of_base(self, leaves: Int64s) -> Int64s:
        """Numbers of living leaves of the base ``(n,)``."""
        # An added leaf before which there are as many leaves of the base comes first.
        return self._living_before(leaves) + np.searchsorted(self._own_ranks, leaves, side="right")

    def of_added(self, leaves: Int64s) -> Int64s:
        """Numbers of leaves of the added tree ``(n,)``."""
        twins = self._twins[leaves]
        numbers = np.empty(len(leaves), dtype=np.int64)
        numbers[twins >= 0] = self.of_base(twins[twins >= 0])
        numbers[twins < 0] = self._own_numbers[self._own_before[leaves[twins < 0]]]
        return numbers

    def split(self, numbers: Int64s) -> tuple[Int64s, Int64s]:
        """The leaf in the base and in the added tree ``(n,)`` of each number, −1 where that tree does not have it."""
        place = np.searchsorted(self._own_numbers, numbers)
        is_own = np.zeros(len(numbers), dtype=bool)
        known = place < len(self._own_numbers)
        is_own[known] = self._own_numbers[place[known]] == numbers[known]
        living = numbers - place  # the how manieth living leaf of the base
        base = living + np.searchsorted(self._dead - np.arange(len(self._dead)), living, side="right")
        base[is_own] = -1
        added = np.full(len(numbers), -1, dtype=np.int64)
        added[is_own] = self._own[place[is_own]]
        twin = np.searchsorted(self._shared_twins, base)
        known = twin < len(self._shared_twins)
        known[known] = self._shared_twins[twin[known]] == base[known]
        added[known] = self._shared[twin[known]]
        return base, added

    def ranges(self, base: Int64s, added: Int64s) -> tuple[Int64s, Int64s]:
        """First leaf, and one past the last, below prefixes that have not ended.

        Args:
            base: ``(n,)`` states in the base, −1 where it has no such prefix.
            added: ``(n,)`` states in the added tree, likewise. Where both are −1, nothing lies below.
        """
        starts, counts = np.zeros(len(base), dtype=np.int64), np.zeros(len(base), dtype=np.int64)
        in_base, in_added = base >= 0, added >= 0
        first, last = self._base.leaf_ranges(base[in_base])
        living = self._living_before(first)
        # Where the added tree lacks the prefix, all its leaves with that rank or a lower one come before.
        starts[in_base] = living + np.searchsorted(self._own_ranks, first, side="right")
        counts[in_base] = self._living_before(last) - living
        if self._added is not None:
            first, last = self._added.leaf_ranges(added[in_added])
            before = self._living_before(self._ranks[first])
            both = in_base[in_added]
            before[both] = living[in_added[in_base]]
            starts[in_added] = before + self._own_before[first]
            counts[in_added] += self._own_before[last] - self._own_before[first]
        return starts, starts + counts

    def living(self, states: Int64s) -> Int64s:
        """How many living leaves lie below states of the base ``(n,)``, finished ones included."""
        arrays, nodes = self._base.arrays, self._base.num_nodes
        counts = np.ones(len(states), dtype=np.int64)
        done, tails = states < 0, states >= nodes
        inner = ~done & ~tails
        at = states[inner]
        counts[inner] = self._living_before(arrays.leaf_stop[at].astype(np.int64))
        counts[inner] -= self._living_before(arrays.leaf_start[at].astype(np.int64))
        ended = -1 - states[done]
        counts[done] -= np.searchsorted(self._dead, ended, side="right") - np.searchsorted(self._dead, ended)
        # The tails of dead leaves are known, so that none is searched for among all leaves.
        starts, stops = self._dead_tails
        place = states[tails] - nodes
        counts[tails] -= np.searchsorted(starts, place, side="right") - np.searchsorted(stops, place, side="right")
        return counts

    def _living_before(self, leaves: Int64s) -> Int64s:
        return leaves - np.searchsorted(self._dead, leaves)
