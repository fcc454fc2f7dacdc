"""Building the flat arrays of a prefix tree: one sort of all docids, then one pass per depth over whole arrays."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retgen.errors import ArtefactError, UsageError

IntArray = npt.NDArray[np.integer]


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


def build_arrays(tokens: IntArray, offsets: IntArray, eos_token_id: int) -> TreeArrays:
    """The tree of docids laid end to end.

    Args:
        tokens: ``(t,)`` token ids, none negative.
        offsets: ``(D + 1,)``: document ``i`` has ``tokens[offsets[i]:offsets[i + 1]]``, ending with EOS.
        eos_token_id: the terminator, which may stand nowhere else.

    Returns:
        The arrays; as small integers as hold their values.

    Raises:
        UsageError: no docids, an empty one, or EOS elsewhere than at the end.
    """
    _check_docids(tokens, offsets, eos_token_id)
    padded, lengths = _padded(tokens, offsets)
    order = _lexical_order(padded)
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (padded[order[1:]] != padded[order[:-1]]).any(axis=1)
    documents = order
    document_offsets = np.append(np.flatnonzero(fresh), len(order))
    leaves = order[fresh]
    padded, lengths = padded[leaves], lengths[leaves]
    return _grow(padded, lengths, document_offsets, documents, eos_token_id)


def load_arrays(folder: Path) -> TreeArrays:
    """The arrays saved in a folder, one ``.npy`` each, mapped into memory.

    Raises:
        ArtefactError: one is missing or unreadable, or their sizes do not belong together.
    """
    parts = {}
    for name in TreeArrays._fields:
        source = folder / f"{name}.npy"
        try:
            parts[name] = np.load(source, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise ArtefactError(
                f"an array of this prefix tree cannot be read ({error})", where=source, mend="Build the tree again"
            ) from error
    arrays = TreeArrays(**parts)
    leaves = len(arrays.leaf_length)
    whole = (
        all(array.ndim == 1 and array.dtype in (np.uint16, np.int32, np.int64) for array in arrays)
        and leaves >= 1
        and len(arrays.child_offsets) - 1 == len(arrays.leaf_start) == len(arrays.leaf_stop) >= 1
        and len(arrays.edge_tokens) == len(arrays.edge_targets) == int(arrays.child_offsets[-1])
        and len(arrays.tail_offsets) == len(arrays.document_offsets) == leaves + 1
        and len(arrays.tails) == int(arrays.tail_offsets[-1])
        and len(arrays.documents) == int(arrays.document_offsets[-1])
    )
    if not whole:
        raise ArtefactError("the arrays of this prefix tree do not fit together", where=folder, mend="Build it again")
    return arrays


def _check_docids(tokens: IntArray, offsets: IntArray, eos_token_id: int) -> None:
    if len(offsets) < 2:
        raise UsageError("a prefix tree needs at least one docid", mend="Give it a corpus that is not empty")
    lengths = np.diff(offsets)
    if (lengths < 1).any():
        raise UsageError(f"document number {int(np.argmax(lengths < 1))} has an empty docid")
    if len(tokens) and int(tokens.min()) < 0:
        raise UsageError("a docid holds a negative token id")
    last = offsets[1:] - 1
    unended = tokens[last] != eos_token_id
    if unended.any():
        raise UsageError(
            f"the docid of document number {int(np.argmax(unended))} does not end with EOS ({eos_token_id})"
        )
    places = np.flatnonzero(np.asarray(tokens) == eos_token_id)
    if len(places) != len(last):
        inner = np.setdiff1d(places, last)[0]
        number = int(np.searchsorted(offsets, inner, side="right")) - 1
        raise UsageError(f"the docid of document number {number} has EOS ({eos_token_id}) before its end")


def _padded(tokens: IntArray, offsets: IntArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Docids as rows ``(D, longest)``, −1 behind their end, and their lengths ``(D,)``."""
    lengths = np.diff(offsets).astype(np.int64)
    padded = np.full((len(lengths), int(lengths.max())), -1, dtype=np.int32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = tokens
    return padded, lengths


def _lexical_order(padded: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Row numbers in the lexical order of the rows, equal rows in the order they came.

    Each row becomes one fixed-width big-endian byte string, so that a single stable sort compares whole docids.
    """
    keys = np.ascontiguousarray((padded + 1).astype(">u4"))
    return np.argsort(keys.view(f"S{4 * padded.shape[1]}")[:, 0], kind="stable").astype(np.int64)


def _grow(
    padded: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int64],
    document_offsets: npt.NDArray[np.int64],
    documents: npt.NDArray[np.int64],
    eos_token_id: int,
) -> TreeArrays:
    """Nodes and edges, breadth first, from sorted distinct docids."""
    num_leaves = len(padded)
    # shared[i]: length of the common prefix of leaves i and i + 1; no two are equal, so it ends within both.
    shared = np.argmax(padded[1:] != padded[:-1], axis=1) if num_leaves > 1 else np.zeros(0, dtype=np.int64)
    prefix_length = np.empty(num_leaves, dtype=np.int64)  # tokens up to and with the edge that makes a leaf unique
    node_start, node_stop = [np.zeros(1, dtype=np.int64)], [np.full(1, num_leaves, dtype=np.int64)]
    child_counts: list[npt.NDArray[np.int64]] = []
    edge_tokens: list[npt.NDArray[np.int32]] = []
    edge_first: list[npt.NDArray[np.int64]] = []
    edge_single: list[npt.NDArray[np.bool_]] = []
    depth = 0
    starts, stops = node_start[0], node_stop[0]
    while len(starts):
        # All leaves under the nodes of this depth, and where a new edge begins among them.
        sizes = stops - starts
        begin = np.cumsum(sizes) - sizes
        active = np.repeat(starts - begin, sizes) + np.arange(int(sizes.sum()))
        opens = np.ones(len(active), dtype=bool)
        inner = np.ones(len(active), dtype=bool)
        inner[begin] = False
        opens[inner] = shared[active[inner] - 1] <= depth
        first = np.flatnonzero(opens)
        span = np.diff(np.append(first, len(active)))
        child_counts.append(np.add.reduceat(opens.astype(np.int64), begin))
        edge_tokens.append(padded[active[first], depth])
        edge_first.append(active[first])
        single = span == 1
        edge_single.append(single)
        prefix_length[active[first[single]]] = depth + 1
        starts = active[first[~single]]
        stops = starts + span[~single]
        if len(starts):
            node_start.append(starts)
            node_stop.append(stops)
        depth += 1
    num_nodes = sum(len(part) for part in node_start)
    tail_lengths = lengths - prefix_length
    tail_offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(tail_lengths)])
    columns = np.arange(padded.shape[1])
    tails = padded[(columns >= prefix_length[:, None]) & (columns < lengths[:, None])]
    first, single = np.concatenate(edge_first), np.concatenate(edge_single)
    targets = np.empty(len(first), dtype=np.int64)
    targets[~single] = np.arange(1, num_nodes)  # breadth first: branching children come in the order of their edges
    alone = first[single]
    targets[single] = np.where(tail_lengths[alone] > 0, num_nodes + tail_offsets[alone], -1 - alone)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(child_counts))])
    return TreeArrays(
        child_offsets=_narrow(offsets),
        edge_tokens=_narrow(np.concatenate(edge_tokens), tokens=True),
        edge_targets=_narrow(targets),
        leaf_start=_narrow(np.concatenate(node_start)),
        leaf_stop=_narrow(np.concatenate(node_stop)),
        leaf_length=_narrow(lengths),
        tail_offsets=_narrow(tail_offsets),
        tails=_narrow(tails, tokens=True),
        document_offsets=_narrow(document_offsets),
        documents=_narrow(documents),
    )


def _narrow(values: IntArray, *, tokens: bool = False) -> IntArray:
    """The same values as int32 where they fit; tokens, of which there are most, as uint16 where they do."""
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    if tokens and highest < 2**16:
        return np.ascontiguousarray(values, dtype=np.uint16)
    fits = highest < 2**31 and lowest >= -(2**31)
    return np.ascontiguousarray(values, dtype=np.int32 if fits else np.int64)
