"""Walking many paths of a prefix tree at once: by the tokens of docids, or by the leaves they shall reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from retgen.docids.prefix_tree import PrefixTree

IntArray = npt.NDArray[np.integer]
Int64s = npt.NDArray[np.int64]


def locate(tree: PrefixTree, tokens: IntArray, offsets: Int64s) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    """Where docids stand, or would stand, among a tree's leaves.

    Args:
        tree: with the same EOS.
        tokens: ``(t,)`` docids laid end to end, each ending with EOS.
        offsets: ``(n + 1,)``: docid ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``.

    Returns:
        ``(n,)`` how many of the tree's docids come before each in lexical order, and ``(n,)`` whether the tree has it;
        the first is then its leaf.

    Example:
        >>> from retgen.docids.prefix_tree import PrefixTree
        >>> tree = PrefixTree.build([[5, 1], [5, 7, 1], [8, 1]], eos_token_id=1)
        >>> locate(tree, np.array([5, 7, 1, 6, 1]), np.array([0, 3, 5]))
        (array([1, 2]), array([ True, False]))
    """
    arrays, nodes = tree.arrays, tree.num_nodes
    count = len(offsets) - 1
    ranks, found = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    active, states, depth = np.arange(count), np.zeros(count, dtype=np.int64), 0
    while len(active):
        wanted = tokens[offsets[active] + depth].astype(np.int64)
        following = np.zeros(len(active), dtype=np.int64)
        matched = np.zeros(len(active), dtype=bool)
        inner = states < nodes

        at, sought = states[inner], wanted[inner]
        stop = arrays.child_offsets[at + 1].astype(np.int64)
        edge = _first_edge(arrays.child_offsets[at].astype(np.int64), stop, arrays.edge_tokens.__getitem__, sought)
        exists = edge < stop
        safe = np.where(exists, edge, stop - 1)
        equal = exists & (arrays.edge_tokens[safe] == sought)
        targets = arrays.edge_targets[safe].astype(np.int64)
        first, last = tree.leaf_ranges(targets)
        following[inner], matched[inner] = targets, equal
        ranks[active[inner]] = np.where(exists, first, last)

        place = states[~inner] - nodes
        here = arrays.tails[place].astype(np.int64)
        leaves = tree.tail_leaves(place)
        following[~inner] = np.where(here == tree.eos_token_id, -1 - leaves, states[~inner] + 1)
        matched[~inner] = here == wanted[~inner]
        ranks[active[~inner]] = leaves + (here < wanted[~inner])

        found[active] = matched & (following < 0)
        goes_on = matched & (following >= 0)
        active, states, depth = active[goes_on], following[goes_on], depth + 1
    return ranks, found


def docids_of(tree: PrefixTree, leaves: Int64s) -> tuple[Int64s, Int64s]:
    """The docids of leaves that exist, read off their paths from the root; see `DocidTree.docids`."""
    arrays, nodes = tree.arrays, tree.num_nodes
    lengths = arrays.leaf_length[leaves].astype(np.int64)
    rows = np.full((len(leaves), int(lengths.max(initial=0))), -1, dtype=np.int64)
    active, states, depth = np.arange(len(leaves)), np.zeros(len(leaves), dtype=np.int64), 0

    def first_leaf(edges: Int64s) -> Int64s:
        return tree.leaf_ranges(arrays.edge_targets[edges].astype(np.int64))[0]

    while len(active):
        low, high = (arrays.child_offsets[states + side].astype(np.int64) for side in (0, 1))
        edge = _first_edge(low, high, first_leaf, leaves[active] + 1) - 1  # the last that is not past the leaf
        rows[active, depth] = arrays.edge_tokens[edge]
        states, depth = arrays.edge_targets[edge].astype(np.int64), depth + 1
        goes_on = (states >= 0) & (states < nodes)
        active, states = active[goes_on], states[goes_on]
    starts = arrays.tail_offsets[leaves].astype(np.int64)
    counts = arrays.tail_offsets[leaves + 1] - starts
    owner = np.repeat(np.arange(len(leaves)), counts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows[owner, (lengths - counts)[owner] + within] = arrays.tails[starts[owner] + within]
    return rows, lengths


def _first_edge(low: Int64s, high: Int64s, key: Callable[[Int64s], IntArray], sought: Int64s) -> Int64s:
    """For each range of edges ``low … high``, along which keys rise, the first whose key is not below the one sought.

    Bisection of all ranges together; ``high`` where every key is below.
    """
    low, high = low.copy(), high.copy()
    active = np.flatnonzero(low < high)
    while len(active):
        middle = (low[active] + high[active]) // 2
        below = key(middle) < sought[active]
        low[active[below]] = middle[below] + 1
        high[active[~below]] = middle[~below]
        active = active[low[active] < high[active]]
    return low
