"""Reading whole trees, to compare one with another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from retgen.docids.docid_tree import DocidTree

EOS = 1


class Seen(NamedTuple):
    """What a tree says about one prefix."""

    following: tuple[int, ...]
    leaves: tuple[int, int]
    unique: bool
    finished: int | None
    depth: int
    tail: tuple[int, ...] | None


def read(tree: DocidTree) -> dict[tuple[int, ...], Seen]:
    """Everything a search could ask, prefix by prefix; a whole depth is asked for at once."""
    seen: dict[tuple[int, ...], Seen] = {}
    prefixes: list[tuple[int, ...]] = [()]
    states = np.array([tree.root])
    while len(states):
        tokens, targets, counts = tree.expand(states)
        starts, stops = tree.leaf_ranges(states)
        unique, depths = tree.is_unique(states), tree.depths(states)
        tails = {}
        if (alone := unique | (states < 0)).any():
            rest, lengths, leaves = tree.tails(states[alone])
            assert leaves.tolist() == starts[alone].tolist()
            assert ((rest >= 0).sum(axis=1) == lengths).all()
            rows = (tuple(row[:n].tolist()) for row, n in zip(rest, lengths, strict=True))
            tails = dict(zip(np.flatnonzero(alone).tolist(), rows, strict=True))
        bounds = np.cumsum([0, *counts])
        following = [tuple(tokens[a:b].tolist()) for a, b in itertools.pairwise(bounds)]
        for row, (prefix, state) in enumerate(zip(prefixes, states.tolist(), strict=True)):
            seen[prefix] = Seen(
                following[row],
                (int(starts[row]), int(stops[row])),
                bool(unique[row]),
                -1 - state if state < 0 else None,
                int(depths[row]),
                tails.get(row),
            )
        prefixes = [(*prefix, token) for prefix, row in zip(prefixes, following, strict=True) for token in row]
        states = targets
    return seen


def check_equal(tree: DocidTree, documents: dict[int, Sequence[int]]) -> None:
    """A tree answers as these documents, corpus number → docid, demand."""
    distinct = sorted({tuple(docid) for docid in documents.values()})
    assert (tree.num_leaves, tree.num_documents) == (len(distinct), len(documents))
    expected: dict[tuple[int, ...], Seen] = {}
    for leaf, docid in enumerate(distinct):
        for depth in range(len(docid) + 1):
            prefix = docid[:depth]
            if prefix in expected:
                expected[prefix] = expected[prefix]._replace(leaves=(expected[prefix].leaves[0], leaf + 1))
            else:
                expected[prefix] = Seen((), (leaf, leaf + 1), False, leaf if depth == len(docid) else None, depth, None)
    for prefix in sorted(expected):
        if prefix:
            before = expected[prefix[:-1]]
            expected[prefix[:-1]] = before._replace(following=(*before.following, prefix[-1]))
    if not distinct:
        expected[()] = Seen((), (0, 0), False, None, 0, None)
    for prefix, found in expected.items():
        start, stop = found.leaves
        unique = stop - start == 1 and found.finished is None and prefix != ()
        tail = distinct[start][len(prefix) :] if unique or found.finished is not None else None
        expected[prefix] = found._replace(unique=unique, tail=tail)
    assert read(tree) == expected
    for leaf, docid in enumerate(distinct):
        assert tree.documents(leaf).tolist() == sorted(n for n, other in documents.items() if tuple(other) == docid)
    rows, lengths = tree.docids(np.arange(len(distinct)))
    assert [tuple(row[:n].tolist()) for row, n in zip(rows, lengths, strict=True)] == distinct
    numbers = np.array([*documents, -5, 10**12])
    leaves = [distinct.index(tuple(docid)) for docid in documents.values()]
    assert tree.leaves_of(numbers).tolist() == [*leaves, -1, -1]
    longest, highest = max(map(len, distinct), default=0), max((max(d) for d in distinct), default=0)
    assert tree.max_length >= longest
    assert tree.max_token_id >= highest
