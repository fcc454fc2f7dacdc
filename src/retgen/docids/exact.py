"""Best-first search: the k best documents of all, and the proof of it.

A prefix's score bounds that of every docid behind it, since log-probabilities only fall (there is no length penalty,
and EOS is part of the score). So once k documents are known that beat every prefix not yet read, no document that was
not read can be among the k best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from retgen.docids.frontier import Frontier, Prefix
from retgen.docids.gather import TRIE, log_probs_at, score_children
from retgen.docids.lookahead import lookahead_search

if TYPE_CHECKING:
    import numpy.typing as npt

    from retgen.docids.allowed import AllowedTree
    from retgen.docids.hits import Certificate
    from retgen.docids.session import RowOutputs, RowSession

    Int64s = npt.NDArray[np.int64]
    Float64s = npt.NDArray[np.float64]

TOLERANCE = 1e-4
"""What sums of fp32 log-probabilities of one docid may differ by, computed in passes of different shapes."""


def exact_search(
    session: RowSession,
    view: AllowedTree,
    *,
    start_token_id: int,
    num_beams: int,
    k: int,
    rule: str,
    max_expansions: int,
) -> tuple[list[Int64s], list[Float64s], list[Certificate]]:
    """Leaves and scores of every query, best first, with a certificate each.

    Where the decoder computes in less than fp32, its scores only guide the search: what it finds is scored again in
    fp32, and the tolerance is twice the largest difference seen. A query whose budget ends first also gets what
    `lookahead` finds, so that its hits are rank by rank at least as good.

    Args:
        session: fresh.
        view: the docids that may be found.
        start_token_id: what the decoder reads first.
        num_beams: prefixes read per query in one pass, and the beams of `lookahead` where the budget ends.
        k: documents to find.
        rule: ``"model"`` or ``"trie"``.
        max_expansions: prefixes read per query.
    """
    reader = _Reader(session, view, rule, start_token_id)
    finer = session.in_fp32()
    judge = None if finer is session else _Judge(_Reader(finer, view, rule, start_token_id), session.batch_size)
    frontiers = [Frontier(view, k, free_ends=rule == TRIE, tolerance=TOLERANCE) for _ in range(session.batch_size)]
    while True:
        taken = [
            (query, prefix)
            for query, frontier in enumerate(frontiers)
            for prefix in frontier.take(min(num_beams, max_expansions - frontier.expanded))
        ]
        if taken:
            reader.read(taken, frontiers)
        elif judge is None or not judge.rescore(frontiers):
            break
    short = np.array([query for query, frontier in enumerate(frontiers) if not frontier.settled], dtype=np.int64)
    if len(short):
        met = lookahead_search(
            session, view, start_token_id=start_token_id, num_beams=num_beams, k=k, rule=rule, queries=short
        )
        for frontier, leaves, scores in zip(frontiers, *met.ranked(), strict=True):
            for leaf, score in zip(leaves.tolist(), scores.tolist(), strict=True):
                if leaf not in frontier.scores:
                    frontier.complete(leaf, score)
        if judge is not None:
            judge.rescore(frontiers)
    ranked = [frontier.ranked() for frontier in frontiers]
    return (
        [np.array([leaf for leaf, _ in row], dtype=np.int64) for row in ranked],
        [np.array([score for _, score in row], dtype=np.float64) for row in ranked],
        [frontier.certificate() for frontier in frontiers],
    )


class _Judge:
    """Scores docids again in fp32, each once."""

    def __init__(self, reader: _Reader, batch: int) -> None:
        self._reader = reader
        self._judged: list[set[int]] = [set() for _ in range(batch)]

    def rescore(self, frontiers: list[Frontier]) -> bool:
        """Give docids that may be among the best their fp32 scores; whether there were any."""
        pairs = [
            (query, leaf)
            for query, frontier in enumerate(frontiers)
            for leaf in frontier.contenders()
            if leaf not in self._judged[query]
        ]
        if not pairs:
            return False
        queries, leaves = (np.array(part, dtype=np.int64) for part in zip(*pairs, strict=True))
        for (query, leaf), score in zip(pairs, self._reader.totals(queries, leaves).tolist(), strict=True):
            frontier = frontiers[query]
            frontier.tolerance = max(frontier.tolerance, 2 * abs(score - frontier.scores[leaf]))
            frontier.complete(leaf, score)
            self._judged[query].add(leaf)
        return True


class _Reader:
    """Lets the model read prefixes, and docids to their ends."""

    def __init__(self, session: RowSession, view: AllowedTree, rule: str, start_token_id: int) -> None:
        self._session, self._view, self._rule, self._start = session, view, rule, start_token_id

    def read(self, taken: list[tuple[int, Prefix]], frontiers: list[Frontier]) -> None:
        """Read prefixes of queries: children go to their frontier, and docids of which one is left are complete."""
        nodes = [pair for pair in taken if pair[1].leaf < 0]
        ends = [pair for pair in taken if pair[1].leaf >= 0]
        if nodes:
            self._expand(nodes, frontiers)
        if ends:
            queries = np.array([query for query, _ in ends], dtype=np.int64)
            leaves = np.array([prefix.leaf for _, prefix in ends], dtype=np.int64)
            known = np.array([len(prefix.tokens) for _, prefix in ends], dtype=np.int64)
            rests = self._model_scores(queries, leaves, known)
            for (query, prefix), rest in zip(ends, rests.tolist(), strict=True):
                frontiers[query].complete(prefix.leaf, prefix.score + rest)

    def totals(self, queries: Int64s, leaves: Int64s) -> Float64s:
        """Scores of whole docids ``(n,)``, each for its query."""
        if self._rule == TRIE:
            return self._trie_scores(queries, leaves)
        return self._model_scores(queries, leaves, np.zeros(len(leaves), dtype=np.int64))

    def _expand(self, nodes: list[tuple[int, Prefix]], frontiers: list[Frontier]) -> None:
        lengths = np.array([len(prefix.tokens) for _, prefix in nodes], dtype=np.int64)
        prefixes = np.full((len(nodes), int(lengths.max())), -1, dtype=np.int64)
        for row, (_, prefix) in zip(prefixes, nodes, strict=True):
            row[: len(prefix.tokens)] = prefix.tokens
        outputs, width = self._read(np.array([query for query, _ in nodes], dtype=np.int64), prefixes)
        children = score_children(
            outputs,
            self._view,
            np.array([prefix.state for _, prefix in nodes], dtype=np.int64),
            self._rule,
            vocab_size=self._session.vocab_size,
            places=np.arange(len(nodes)) * width + lengths,
        )
        bounds = np.searchsorted(children.owner, np.arange(len(nodes) + 1)).tolist()
        for (query, prefix), start, stop in zip(nodes, bounds[:-1], bounds[1:], strict=True):
            part = children.at(slice(start, stop))
            frontiers[query].expand(prefix, part.tokens, part.targets, part.log_probs)

    def _read(self, queries: Int64s, tokens: Int64s) -> tuple[RowOutputs, int]:
        """Outputs after the start token and ``tokens (n, T)``, and how many there are for each of the rows: T + 1."""
        start = np.full((len(tokens), 1), self._start, dtype=np.int64)
        read = np.concatenate([start, tokens], axis=1)
        return self._session.read_rows(torch.from_numpy(queries), torch.from_numpy(read)), read.shape[1]

    def _model_scores(self, queries: Int64s, leaves: Int64s, known: Int64s) -> Float64s:
        """Sums of docids' log-probabilities over the vocabulary, but for their first ``known (n,)`` tokens."""
        docids, lengths = self._view.tree.docids(leaves)
        outputs, width = self._read(queries, docids[:, :-1])
        columns = np.arange(docids.shape[1])
        inside = (columns >= known[:, None]) & (columns < lengths[:, None])
        rows, places = np.nonzero(inside)
        steps: Float64s = np.zeros(docids.shape)
        steps[inside] = log_probs_at(
            outputs, rows * width + places, docids[inside], vocab_size=self._session.vocab_size
        )
        totals: Float64s = steps.sum(axis=1)
        return totals

    def _trie_scores(self, queries: Int64s, leaves: Int64s) -> Float64s:
        """Sums of docids' log-probabilities over the children of each prefix, down to the first unique one."""
        docids, _ = self._view.tree.docids(leaves)
        outputs, width = self._read(queries, docids[:, :-1])
        totals = np.zeros(len(leaves))
        states = np.full(len(leaves), self._view.root, dtype=np.int64)
        rows, depth = np.flatnonzero(self._view.remaining(states) > 1), 0
        while len(rows):
            children = score_children(
                outputs,
                self._view,
                states[rows],
                self._rule,
                vocab_size=self._session.vocab_size,
                places=rows * width + depth,
            )
            taken = children.tokens == docids[rows[children.owner], depth]
            states[rows], totals[rows] = children.targets[taken], totals[rows] + children.log_probs[taken]
            rows, depth = rows[self._view.remaining(states[rows]) > 1], depth + 1
        return totals
