"""Sorting docids that lie end to end, some tokens at a time, without making rows of equal length of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer]
Int64s = npt.NDArray[np.int64]

_BLOCK = 2**20
"""Docids looked at together, which bounds the memory of a step."""


def lexical_order(tokens: IntArray, offsets: IntArray, highest: int) -> Int64s:
    """Document numbers in the lexical order of their docids, equal docids in the order they came.

    As many tokens as 64 bits hold become one key, and all documents are sorted by it; then those that are still equal
    by the next tokens, and so on. With 16-bit tokens few documents are left after the first two rounds.

    Args:
        tokens: ``(t,)``, none negative.
        offsets: ``(D + 1,)``: document ``i`` has ``tokens[offsets[i]:offsets[i + 1]]``. None is a prefix of another.
        highest: the highest token id, below 2³².

    Returns:
        ``(D,)``.

    Example:
        >>> lexical_order(np.array([5, 1, 4, 7, 1, 4, 1]), np.array([0, 2, 5, 7]), 7).tolist()
        [2, 1, 0]
    """
    bits = 16 if highest < 2**16 else 32
    width = 64 // bits
    keys = _keys(tokens, offsets, np.arange(len(offsets) - 1), 0, bits)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    places, group = _tied(np.arange(len(order)), keys, np.zeros(len(order), dtype=np.int64))
    del keys
    done = width
    while len(places):
        rows = order[places]
        # Equal so far and no further token in one of them: they are equal.
        open_rows = offsets[rows + 1] - offsets[rows] > done
        places, group, rows = places[open_rows], group[open_rows], rows[open_rows]
        keys = _keys(tokens, offsets, rows, done, bits)
        by_key = np.lexsort((keys, group))
        order[places] = rows[by_key]
        places, group = _tied(places, keys[by_key], group)
        done += width
    return order


def shared_prefixes(tokens: IntArray, offsets: IntArray, order: Int64s, eos_token_id: int) -> npt.NDArray[np.int32]:
    """How many tokens each docid shares with the next one.

    Args:
        tokens: ``(t,)``.
        offsets: ``(D + 1,)``.
        order: ``(D,)`` in which the docids follow each other.
        eos_token_id: each docid's last token, and only that.

    Returns:
        ``(D − 1,)``; the whole length where two docids are equal.
    """
    shared = np.zeros(len(order) - 1, dtype=np.int32)
    for first in range(0, len(shared), _BLOCK):
        block = shared[first : first + _BLOCK]
        ours = np.asarray(offsets[order[first : first + len(block)]], dtype=np.int64)
        theirs = np.asarray(offsets[order[first + 1 : first + 1 + len(block)]], dtype=np.int64)
        active = np.arange(len(block))
        depth = 0
        while len(active):
            found = tokens[ours[active] + depth]
            equal = found == tokens[theirs[active] + depth]
            depth += 1
            block[active[equal]] = depth
            active = active[equal & (found != eos_token_id)]
    return shared


def _keys(tokens: IntArray, offsets: IntArray, rows: Int64s, skip: int, bits: int) -> npt.NDArray[np.uint64]:
    """The tokens of each row from ``skip`` on, as many as 64 bits hold, as one number; 0 behind a docid's end."""
    keys = np.zeros(len(rows), dtype=np.uint64)
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK]
        key = keys[first : first + _BLOCK]
        place = np.asarray(offsets[block], dtype=np.int64) + skip
        stop = np.asarray(offsets[block + 1], dtype=np.int64)
        for _ in range(64 // bits):
            key <<= np.uint64(bits)
            inside = place < stop
            key[inside] |= tokens[place[inside]].astype(np.uint64)
            place += 1
    return keys


def _tied(places: Int64s, keys: npt.NDArray[np.uint64], group: Int64s) -> tuple[Int64s, Int64s]:
    """Of sorted keys within sorted groups, the places of those that are not alone, and their new groups."""
    new = np.ones(len(places), dtype=bool)
    new[1:] = (keys[1:] != keys[:-1]) | (group[1:] != group[:-1])
    alone = new & np.append(new[1:], True)
    return places[~alone], np.cumsum(new)[~alone]
