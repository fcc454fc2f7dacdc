"""Building the flat arrays of a prefix tree: one sort of all docids (`tree_sort`), then one pass per depth.

The docids are never copied into rows of equal length: what is kept beside them is a few integers per document.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retgen.docids.tree_sort import lexical_order, shared_prefixes
from retgen.errors import UsageError

IntArray = npt.NDArray[np.integer]
Int64s = npt.NDArray[np.int64]

_BLOCK = 2**16
"""Leaves whose tails are gathered at a time, which bounds what lies beside the arrays."""


class TreeArrays(NamedTuple):
    """The arrays of a tree with N branching nodes, E edges, L leaves, T tail tokens and D documents."""

    child_offsets: IntArray
    """``(N + 1,)``: node ``n`` owns the edges ``child_offsets[n] … child_offsets[n + 1]``."""
    edge_tokens: IntArray
    """``(E,)``: the token of an edge; rising within a node."""
    edge_targets: IntArray
    """``(E,)``: the state an edge leads to (see `prefix_tree`)."""
    leaf_start: IntArray
    """``(N,)``: first leaf below a node."""
    leaf_stop: IntArray
    """``(N,)``: one past the last leaf below a node."""
    leaf_length: IntArray
    """``(L,)``: tokens of a leaf's docid, EOS included."""
    tail_offsets: IntArray
    """``(L + 1,)``: leaf ``l`` owns the tail tokens ``tail_offsets[l] … tail_offsets[l + 1]``."""
    tails: IntArray
    """``(T,)``: what follows each leaf's unique prefix, EOS included."""
    document_offsets: IntArray
    """``(L + 1,)``: leaf ``l`` owns the documents ``document_offsets[l] … document_offsets[l + 1]``."""
    documents: IntArray
    """``(D,)``: corpus numbers, in corpus order within a leaf."""


def build_arrays(tokens: IntArray, offsets: IntArray, eos_token_id: int, numbers: IntArray | None = None) -> TreeArrays:
    """The tree of docids laid end to end.

    Args:
        tokens: ``(t,)`` token ids from 0 to 2³¹ − 1. They are only read, so they may be mapped from a file.
        offsets: ``(D + 1,)``: document ``i`` has ``tokens[offsets[i]:offsets[i + 1]]``, ending with EOS.
        eos_token_id: the terminator, which may stand nowhere else.
        numbers: ``(D,)`` corpus numbers of the documents, rising; by default 0, 1, 2, …

    Returns:
        The arrays; as small integers as hold their values.

    Raises:
        UsageError: no docids, an empty one, EOS elsewhere than at the end, or a token out of range.
    """
    highest = _check_docids(tokens, offsets, eos_token_id)
    if numbers is not None and (len(numbers) != len(offsets) - 1 or (np.diff(numbers) <= 0).any()):
        raise UsageError("every docid needs one corpus number, and they must rise")
    order = lexical_order(tokens, offsets, highest)
    shared = shared_prefixes(tokens, offsets, order, eos_token_id)
    # No docid is a prefix of another, as each ends with its only EOS: neighbours that share a whole one are equal.
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = shared < (offsets[order[1:] + 1] - offsets[order[1:]])
    document_offsets = np.append(np.flatnonzero(fresh), len(order))
    documents = order if numbers is None else numbers[order]
    leaves = order[fresh]
    return _grow(
        tokens,
        np.asarray(offsets[leaves], dtype=np.int64),
        np.asarray(offsets[leaves + 1] - offsets[leaves], dtype=np.int64),
        shared[fresh[1:]],
        highest,
        narrow(document_offsets),
        narrow(documents),
    )


def _check_docids(tokens: IntArray, offsets: IntArray, eos_token_id: int) -> int:
    """The highest token id, of docids that can make a tree."""
    if len(offsets) < 2:
        raise UsageError("a prefix tree needs at least one docid", mend="Give it a corpus that is not empty")
    lengths = np.diff(offsets)
    if (lengths < 1).any():
        raise UsageError(f"document number {int(np.argmax(lengths < 1))} has an empty docid")
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(tokens):
        raise UsageError(f"the docids' offsets span {offsets[0]}…{offsets[-1]}, but there are {len(tokens)} tokens")
    if int(tokens.min()) < 0:
        raise UsageError("a docid holds a negative token id")
    highest = int(tokens.max())
    if highest >= 2**31:
        raise UsageError(f"a docid holds the token id {highest}; the highest that a tree can hold is {2**31 - 1}")
    last = offsets[1:] - 1
    unended = tokens[last] != eos_token_id
    if unended.any():
        raise UsageError(
            f"the docid of document number {int(np.argmax(unended))} does not end with EOS ({eos_token_id})"
        )
    if int(np.count_nonzero(tokens == eos_token_id)) != len(last):
        inner = np.setdiff1d(np.flatnonzero(tokens == eos_token_id), last)[0]
        number = int(np.searchsorted(offsets, inner, side="right")) - 1
        raise UsageError(f"the docid of document number {number} has EOS ({eos_token_id}) before its end")
    return highest


def _grow(
    tokens: IntArray,
    starts: Int64s,
    lengths: Int64s,
    shared: npt.NDArray[np.int32],
    highest: int,
    document_offsets: IntArray,
    documents: IntArray,
) -> TreeArrays:
    """Nodes and edges, breadth first, from sorted distinct docids.

    Args:
        tokens: all docids.
        starts: ``(L,)`` where each leaf's docid begins in ``tokens``.
        lengths: ``(L,)`` of the leaves' docids.
        shared: ``(L − 1,)`` length of the prefix that a leaf shares with the next.
        highest: the highest token id.
        document_offsets: passed on.
        documents: passed on.
    """
    num_leaves = len(starts)
    edge = np.full(1, -1, dtype=np.int32)
    left, right = np.concatenate([edge, shared]), np.concatenate([shared, edge])  # shared with the leaf before, after
    # Tokens up to and with the edge that makes a leaf unique; one, from the root, where there is nothing but it.
    prefix_length = np.maximum(np.maximum(left, right), 0) + 1
    tail_lengths = lengths - prefix_length
    tail_offsets = np.zeros(num_leaves + 1, dtype=np.int64)
    np.cumsum(tail_lengths, out=tail_offsets[1:])
    # A node at depth p > 0 begins at each leaf that shares p tokens with the next leaf but not with the one before.
    num_nodes = 1 + int(np.maximum(right - np.maximum(left, 0), 0).sum(dtype=np.int64))
    num_edges = num_nodes - 1 + num_leaves
    token_type: np.dtype[np.integer] = np.dtype(np.uint16 if highest < 2**16 else np.int32)
    child_offsets = np.zeros(num_nodes + 1, dtype=_signed(num_edges))
    edge_tokens = np.empty(num_edges, dtype=token_type)
    # No state is higher than the last place of the tails, nor lower than the last finished docid.
    edge_targets = np.empty(num_edges, dtype=_signed(num_nodes + int(tail_offsets[-1])))
    leaf_start = np.empty(num_nodes, dtype=_signed(num_leaves))
    leaf_stop = np.empty(num_nodes, dtype=_signed(num_leaves))

    node = edges = depth = 0
    active = np.arange(num_leaves)  # the leaves below the nodes of this depth
    while len(active):
        before = left[active]
        opens = before <= depth  # a new edge begins
        begins = np.flatnonzero(before < depth) if depth else np.zeros(1, dtype=np.int64)  # a new node begins
        first = active[opens]
        count = len(begins)
        leaf_start[node : node + count] = active[begins]
        leaf_stop[node : node + count] = active[np.append(begins[1:], len(active)) - 1] + 1
        child_offsets[node : node + count] = edges + (np.cumsum(opens) - 1)[begins]
        edge_tokens[edges : edges + len(first)] = tokens[starts[first] + depth]
        single = right[first] <= depth
        alone = first[single]
        targets = np.empty(len(first), dtype=np.int64)
        targets[single] = np.where(tail_lengths[alone] > 0, num_nodes + tail_offsets[alone], -1 - alone)
        # Breadth first: the branching children of one depth are the nodes of the next, in order.
        targets[~single] = np.arange(node + count, node + count + len(first) - len(alone))
        edge_targets[edges : edges + len(first)] = targets
        node, edges, depth = node + count, edges + len(first), depth + 1
        active = active[prefix_length[active] > depth]
    child_offsets[num_nodes] = edges
    return TreeArrays(
        child_offsets=child_offsets,
        edge_tokens=edge_tokens,
        edge_targets=edge_targets,
        leaf_start=leaf_start,
        leaf_stop=leaf_stop,
        leaf_length=narrow(lengths, unsigned=True),
        tail_offsets=narrow(tail_offsets),
        tails=_tails(tokens, starts + prefix_length, tail_offsets, token_type),
        document_offsets=document_offsets,
        documents=documents,
    )


def _tails(tokens: IntArray, starts: Int64s, offsets: Int64s, token_type: np.dtype[np.integer]) -> IntArray:
    tails = np.empty(int(offsets[-1]), dtype=token_type)
    for first in range(0, len(starts), _BLOCK):
        block = offsets[first : first + _BLOCK + 1]
        owner = np.repeat(starts[first : first + _BLOCK] - block[:-1], np.diff(block))
        tails[block[0] : block[-1]] = tokens[owner + np.arange(block[0], block[-1])]
    return tails


def narrow(values: IntArray, *, unsigned: bool = False) -> IntArray:
    """The same values as int32 where they fit; with ``unsigned``, as uint8 or uint16 where they fit these."""
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    for kind in (np.uint8, np.uint16) if unsigned else ():
        if lowest >= 0 and highest <= np.iinfo(kind).max:
            return np.ascontiguousarray(values, dtype=kind)
    return np.ascontiguousarray(values, dtype=_signed(max(highest, -1 - lowest)))


def _signed(highest: int) -> np.dtype[np.integer]:
    return np.dtype(np.int32 if highest < 2**31 else np.int64)
