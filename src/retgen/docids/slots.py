"""Beams of a block of queries, step by step: which docids they stand in, and what each step's candidates are.

Beams are *open* where the model must say how they go on, and *ahead* where the rest of their docid is known and has
been scored already: such a beam keeps its place among the others with its partial sums, and costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from retgen.docids.gather import TRIE, log_probs_at, score_children
from retgen.docids.topk import stable_topk

if TYPE_CHECKING:
    from retgen.docids.allowed import AllowedTree
    from retgen.docids.session import RowSession

Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
NONE = np.float32("-inf")


class Slots(NamedTuple):
    """Beams ``(n,)``, query by query, best first."""

    query: Int64s
    state: Int64s
    token: Int64s
    """The last token, which the model has not read yet."""
    score: Float32s
    row: Int64s
    """The row of the session that it continues."""
    ahead: Int64s
    """Its number in `Beams`' record of rests, or −1."""

    def at(self, places: Int64s | Bools) -> Slots:
        """Some of them, in this order."""
        return Slots._make(part[places] for part in self)


class Candidates(NamedTuple):
    """The best next tokens of every query ``(c,)``, query by query, best first."""

    query: Int64s
    rank: Int64s
    """From 0, within the query."""
    token: Int64s
    target: Int64s
    """The state it leads to."""
    score: Float32s
    row: Int64s
    ahead: Int64s

    def at(self, places: Bools) -> Candidates:
        """Some of them."""
        return Candidates._make(part[places] for part in self)


class Ended(NamedTuple):
    """Docids and their scores ``(n,)``."""

    query: Int64s
    leaf: Int64s
    score: Float32s


class Beams:
    """The beams' way through the tree.

    Args:
        session: fresh.
        view: the docids that may be found.
        rule: ``"model"`` or ``"trie"``. Under ``trie`` a beam is ahead as soon as its prefix is unique: an only
            child's log-probability is 0.
    """

    def __init__(self, session: RowSession, view: AllowedTree, rule: str) -> None:
        self._session, self._view, self._rule = session, view, rule
        self._depth = 0
        self._rests = _Rests()

    def start(self, start_token_id: int, queries: Int64s) -> Slots:
        """One beam for each of the queries: the empty prefix."""
        count = len(queries) if self._view.num_leaves else 0
        queries = queries[:count]
        return Slots(
            queries,
            np.full(count, self._view.root, dtype=np.int64),
            np.full(count, start_token_id, dtype=np.int64),
            np.zeros(count, dtype=np.float32),
            queries,
            np.full(count, -1, dtype=np.int64),
        )

    def needs_model(self, slots: Slots) -> Bools:
        """Beams that are not ahead ``(n,)``."""
        return slots.ahead < 0

    def unique(self, slots: Slots) -> Bools:
        """Beams with one docid left before them ``(n,)``."""
        alone = slots.ahead >= 0
        alone[~alone] = self._view.remaining(slots.state[~alone]) == 1
        return alone

    def ends(self, slots: Slots) -> Ended:
        """The docids that beams which are ahead lead to, and their scores: those that end sooner first."""
        log_probs = self._rests.log_probs(slots.ahead, self._depth)
        # Token by token, as the beams themselves would go.
        totals = np.cumsum(np.concatenate([slots.score[:, None], log_probs], axis=1), axis=1, dtype=np.float32)
        order = np.argsort(self._rests.last_depth(slots.ahead), kind="stable")
        return Ended(slots.query[order], self._rests.leaves(slots.ahead)[order], totals[order, -1])

    def step(self, slots: Slots, width: int, to_end: Bools | None = None) -> tuple[Candidates, Ended]:
        """Read one token more.

        Args:
            slots: at least one.
            width: the most candidates of a query.
            to_end: ``(n,)`` unique beams that are read to their ends in this pass, and are ahead from then on.

        Returns:
            Every query's best candidates, and the docids that were scored ahead in this step.
        """
        slots, scored = self._read(slots, self.unique(slots) if self._rule == TRIE else to_end)
        parts = [self._from_ahead(slots), self._from_open(slots, width)]
        owner, tokens, targets, log_probs = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(owner, kind="stable")
        owner, tokens, targets = owner[order], tokens[order], targets[order]
        scores = slots.score[owner] + log_probs[order]
        self._depth += 1

        # A rectangle with a row for each query that there is, to take the best of each.
        queries, row = np.unique(slots.query[owner], return_inverse=True)
        counts = np.bincount(row, minlength=len(queries))
        place = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
        rectangle = np.full((len(queries), int(counts.max(initial=1))), NONE, dtype=np.float32)
        rectangle[row, place] = scores
        number = np.zeros(rectangle.shape, dtype=np.int64)
        number[row, place] = np.arange(len(row))
        best, chosen = (part.numpy() for part in stable_topk(torch.from_numpy(rectangle), width))
        of, rank = np.nonzero(best > NONE)
        taken = number[of, chosen[of, rank]]
        parent = owner[taken]
        candidates = Candidates(
            queries[of], rank, tokens[taken], targets[taken], best[of, rank], slots.row[parent], slots.ahead[parent]
        )
        return candidates, scored

    def _read(self, slots: Slots, to_end: Bools | None) -> tuple[Slots, Ended]:
        """Let the model read every beam's last token, and the rest of some."""
        open_ = slots.ahead < 0
        alone = np.zeros(len(open_), dtype=bool) if to_end is None else to_end & open_
        open_ &= ~alone
        row, ahead = slots.row.copy(), slots.ahead.copy()
        tails, scored = None, Ended(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        if alone.any():
            rests, lengths, leaves = self._view.rests(slots.state[alone], self._depth)
            inside = np.arange(rests.shape[1]) < lengths[:, None]
            log_probs = np.zeros(rests.shape, dtype=np.float32)
            if self._rule != TRIE:
                read = np.concatenate([slots.token[alone, None], rests[:, :-1]], axis=1)
                read[~inside] = -1
                tails = torch.from_numpy(slots.row[alone]), torch.from_numpy(read)
        if open_.any() or tails is not None:
            parents, tokens = torch.from_numpy(slots.row[open_]), torch.from_numpy(slots.token[open_])
            self._outputs, ended = self._session.step_rows(parents, tokens, tails)
            if ended is not None:
                log_probs[inside] = log_probs_at(
                    ended, np.flatnonzero(inside), rests[inside], vocab_size=self._session.vocab_size
                )
            row[open_] = np.arange(int(open_.sum()))
        if alone.any():
            ahead[alone] = self._rests.add(rests[inside], log_probs[inside], lengths, leaves, self._depth)
            # Token by token, as the beam itself will go, so that both come to the same sum.
            totals = np.cumsum(np.concatenate([slots.score[alone, None], log_probs], axis=1), axis=1, dtype=np.float32)
            scored = Ended(slots.query[alone], leaves, totals[:, -1])
        return slots._replace(row=row, ahead=ahead), scored

    def _from_open(self, slots: Slots, width: int) -> tuple[Int64s, Int64s, Int64s, Float32s]:
        places = np.flatnonzero(slots.ahead < 0)
        if not len(places):
            empty = np.zeros(0, np.int64)
            return empty, empty, empty, np.zeros(0, np.float32)
        children = score_children(
            self._outputs, self._view, slots.state[places], self._rule, vocab_size=self._session.vocab_size, best=width
        )
        return places[children.owner], children.tokens, children.targets, children.log_probs

    def _from_ahead(self, slots: Slots) -> tuple[Int64s, Int64s, Int64s, Float32s]:
        places = np.flatnonzero(slots.ahead >= 0)
        tokens, log_probs, leaves = self._rests.at(slots.ahead[places], self._depth)
        return places, tokens, np.where(leaves >= 0, -1 - leaves, slots.state[places]), log_probs


class _Rests:
    """What is left of docids whose prefix became unique: their tokens, with log-probabilities, laid end to end."""

    def __init__(self) -> None:
        self._tokens, self._log_probs = np.zeros(0, np.int64), np.zeros(0, np.float32)
        self._leaves = np.zeros(0, np.int64)
        # Where a rest's token of depth 0 would stand, and its last one does.
        self._zero, self._last = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add(self, tokens: Int64s, log_probs: Float32s, lengths: Int64s, leaves: Int64s, depth: int) -> Int64s:
        """Rests (laid end to end, with their lengths) that begin at a depth; their numbers."""
        stops = len(self._tokens) + np.cumsum(lengths)
        numbers = len(self._leaves) + np.arange(len(leaves))
        self._zero = np.concatenate([self._zero, stops - lengths - depth])
        self._last = np.concatenate([self._last, stops - 1])
        self._leaves = np.concatenate([self._leaves, leaves])
        self._tokens = np.concatenate([self._tokens, tokens])
        self._log_probs = np.concatenate([self._log_probs, log_probs])
        return numbers

    def log_probs(self, numbers: Int64s, depth: int) -> Float32s:
        """Log-probabilities of all that is left of rests from a depth on ``(n, most)``, 0 behind their ends."""
        first = self._zero[numbers] + depth
        places = first[:, None] + np.arange(int((self._last[numbers] - first).max(initial=-1)) + 1)
        inside = places <= self._last[numbers, None]
        return np.where(inside, self._log_probs[np.where(inside, places, 0)], np.float32(0))

    def last_depth(self, numbers: Int64s) -> Int64s:
        """The depth of the last token of rests."""
        return self._last[numbers] - self._zero[numbers]

    def leaves(self, numbers: Int64s) -> Int64s:
        """The leaves that rests lead to."""
        return self._leaves[numbers]

    def at(self, numbers: Int64s, depth: int) -> tuple[Int64s, Float32s, Int64s]:
        """Token and log-probability of rests at a depth, and the leaf where it is the last, else −1."""
        places = self._zero[numbers] + depth
        leaves = np.where(places == self._last[numbers], self._leaves[numbers], -1)
        return self._tokens[places], self._log_probs[places], leaves


class Found:
    """The best docids so far of every query.

    Args:
        batch: queries.
        size: docids kept of each.
    """

    def __init__(self, batch: int, size: int) -> None:
        self.leaves = np.full((batch, size), -1, dtype=np.int64)
        self.scores = np.full((batch, size), NONE, dtype=np.float32)

    @property
    def worst(self) -> Float32s:
        """What a docid must beat to be kept ``(batch,)``; −inf until as many as are kept have been found."""
        return self.scores[:, -1]

    def add(self, ended: Ended) -> None:
        """Docids not added before. Of equals, earlier ones are better."""
        if not len(ended.query):
            return
        order = np.argsort(ended.query, kind="stable")
        query = ended.query[order]
        counts = np.bincount(query, minlength=len(self.leaves))
        place = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
        shape = (len(self.leaves), int(counts.max()))
        leaves, scores = np.full(shape, -1, dtype=np.int64), np.full(shape, NONE, dtype=np.float32)
        leaves[query, place], scores[query, place] = ended.leaf[order], ended.score[order]
        merged = torch.from_numpy(np.concatenate([self.scores, scores], axis=1))
        best, chosen = stable_topk(merged, self.scores.shape[1])
        self.leaves = np.take_along_axis(np.concatenate([self.leaves, leaves], axis=1), chosen.numpy(), axis=1)
        self.scores = best.numpy()

    def ranked(self) -> tuple[list[Int64s], list[npt.NDArray[np.float64]]]:
        """Each query's leaves and their scores, best first."""
        counts = (self.scores > NONE).sum(axis=1)
        leaves = [row[:count] for row, count in zip(self.leaves, counts, strict=True)]
        return leaves, [row[:count].astype(np.float64) for row, count in zip(self.scores, counts, strict=True)]
