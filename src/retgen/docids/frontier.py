"""One query's state in a best-first search: docids known, prefixes still to be read, and what lies between them."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from retgen.docids.hits import Certificate

if TYPE_CHECKING:
    from retgen.docids.allowed import AllowedTree

Int64s = npt.NDArray[np.int64]


class Prefix(NamedTuple):
    """A prefix that the model may read next."""

    score: float
    """The sum of its tokens' log-probabilities: no docid behind it can have more."""
    tokens: tuple[int, ...]
    """Without the start token."""
    state: int
    leaf: int
    """Where only one docid may be found behind it, that docid's leaf; else −1."""


class _Family(NamedTuple):
    """Children of a prefix that was read, best first; they enter the queue one by one, as few ever will."""

    parent: tuple[int, ...]
    tokens: Int64s
    targets: Int64s
    scores: npt.NDArray[np.float64]


class Frontier:
    """What is known of one query's documents.

    Args:
        view: the docids that may be found.
        k: documents wanted.
        free_ends: whether a docid's score is that of its first unique prefix (the rule ``trie``).
        tolerance: see `Certificate`; may grow while the search goes on.

    Attributes:
        scores: leaf → score, of docids that are known.
        expanded: prefixes read so far.
    """

    def __init__(self, view: AllowedTree, k: int, *, free_ends: bool, tolerance: float) -> None:
        self._view, self._k, self._free_ends = view, k, free_ends
        self.tolerance = tolerance
        self.scores: dict[int, float] = {}
        self.expanded = 0
        self._documents: dict[int, int] = {}
        self._threshold: float | None = None
        # (−bound, number of the family, number of the child): of equals, those found first come first.
        self._queue: list[tuple[float, int, int]] = []
        self._families: list[_Family] = []
        if view.num_leaves:
            # A family of its own, for what the start token leads to.
            self._enter(_Family((), np.zeros(1, np.int64) - 1, np.array([view.root]), np.zeros(1)))

    @property
    def settled(self) -> bool:
        """Whether no prefix is left that might lead to one of the k best documents."""
        return not self._queue or -self._queue[0][0] <= self._last() - self.tolerance

    def take(self, most: int) -> list[Prefix]:
        """Prefixes to read next, best first; docids that are complete already are taken in on the way."""
        taken: list[Prefix] = []
        while not self.settled:
            bound, number, child = entry = heapq.heappop(self._queue)
            family = self._families[number]
            state, leaf = int(family.targets[child]), -1 - int(family.targets[child])
            if state >= 0:
                states = np.array([state])
                alone = int(self._view.remaining(states)[0]) == 1
                leaf = int(self._view.leaves_below(states)[0]) if alone else -1
            complete = state < 0 or (leaf >= 0 and self._free_ends)
            if not complete and len(taken) >= most:
                heapq.heappush(self._queue, entry)
                break
            if child + 1 < len(family.scores):
                heapq.heappush(self._queue, (-float(family.scores[child + 1]), number, child + 1))
            if complete:
                self.complete(leaf, -bound)
            else:
                written = family.parent if family.tokens[child] < 0 else (*family.parent, int(family.tokens[child]))
                taken.append(Prefix(-bound, written, state, leaf))
        self.expanded += len(taken)
        return taken

    def expand(self, prefix: Prefix, tokens: Int64s, targets: Int64s, log_probs: npt.NDArray[np.float32]) -> None:
        """Take in the children of a prefix that was read."""
        scores = prefix.score + log_probs.astype(np.float64)
        order = np.argsort(-scores, kind="stable")
        order = order[: int((scores > -np.inf).sum())]
        if len(order):
            self._enter(_Family(prefix.tokens, tokens[order], targets[order], scores[order]))

    def complete(self, leaf: int, score: float) -> None:
        """A docid's score is known, or known better."""
        if score > -np.inf:
            self.scores[leaf] = score
            self._threshold = None
            if leaf not in self._documents:
                self._documents[leaf] = len(self._view.documents(leaf))

    def ranked(self) -> list[tuple[int, float]]:
        """As many leaves, best first, as give k documents; of equals, the lower leaf first."""
        best, documents = [], 0
        for leaf, score in sorted(self.scores.items(), key=lambda pair: (-pair[1], pair[0])):
            if documents >= self._k:
                break
            best.append((leaf, score))
            documents += self._documents[leaf]
        return best

    def contenders(self) -> list[int]:
        """Leaves that are among the best, or may be for all that the arithmetic can tell."""
        lowest = self._last() - self.tolerance
        return [leaf for leaf, score in self.scores.items() if score >= lowest]

    def certificate(self) -> Certificate:
        """What can be said of `ranked`."""
        best = self.ranked()
        chosen = {leaf for leaf, _ in best}
        others = [score for leaf, score in self.scores.items() if leaf not in chosen]
        if self._queue:
            others.append(-self._queue[0][0])
        # Without k documents, anything more would be among the best.
        last = self._last()
        gap = last - max(others) if others else float("inf")
        certified = gap >= self.tolerance
        status = "certified" if certified else "tie" if self.settled else "budget"
        return Certificate(certified, status, self.expanded, gap, self.tolerance)

    def _enter(self, family: _Family) -> None:
        self._families.append(family)
        heapq.heappush(self._queue, (-float(family.scores[0]), len(self._families) - 1, 0))

    def _last(self) -> float:
        """The score of the k-th document; −inf while fewer are known."""
        if self._threshold is None:
            best = self.ranked()
            enough = sum(self._documents[leaf] for leaf, _ in best) >= self._k
            self._threshold = best[-1][1] if enough else float("-inf")
        return self._threshold
