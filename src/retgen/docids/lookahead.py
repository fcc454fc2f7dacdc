"""Beam search that keeps all it reads, and reads no more than may be kept.

The beams are those of `beam`, and as there their docids are read to the ends together once each beam of a query has one
docid left before it. Then they part: here a docid counts as soon as its score is known, also one that ends outside the
best ``num_beams``, and the k best are read first, since they show which of the others are hopeless. So every docid that
`beam` finishes is scored here too, and the result is rank by rank at least as good.

Two other ways come to mind. Freeing the place of a beam whose prefix became unique would let others take it, which
might push out what `beam` keeps. Reading its docid at once would find more, but most of the work is reading docids, and
those that drop out of the beams later would be read for little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retgen.docids.beam import decided, next_slots
from retgen.docids.slots import NONE, Beams, Ended, Found, Slots

if TYPE_CHECKING:
    import numpy.typing as npt

    from retgen.docids.allowed import AllowedTree
    from retgen.docids.session import RowSession


def lookahead_search(
    session: RowSession,
    view: AllowedTree,
    *,
    start_token_id: int,
    num_beams: int,
    k: int,
    rule: str,
    queries: npt.NDArray[np.int64] | None = None,
) -> Found:
    """The ``k`` best docids of all that were read to their ends; short ones may make them more than ``num_beams``.

    Args:
        session: fresh.
        view: the docids that may be found.
        start_token_id: what the decoder reads first.
        num_beams: as in `beam`.
        k: the most docids kept; the fewer, the sooner beams are given up.
        rule: ``"model"`` or ``"trie"``.
        queries: those to search for, rising; all by default.
    """
    beams = Beams(session, view, rule)
    found = Found(session.batch_size, max(1, min(k, view.num_leaves)))
    slots = beams.start(start_token_id, np.arange(session.batch_size) if queries is None else queries)
    while len(slots.query):
        candidates, scored = beams.step(slots, 2 * num_beams, _to_end(slots, beams, found, k))
        found.add(scored)
        ended = candidates.target < 0
        counted = candidates.at(ended & (candidates.ahead < 0))
        found.add(Ended(counted.query, -1 - counted.target, counted.score))
        slots = next_slots(candidates.at(~ended), num_beams)
        slots = _worth_going_on(slots, beams, found)
    return found


def _to_end(slots: Slots, beams: Beams, found: Found, k: int) -> npt.NDArray[np.bool_]:
    """Beams to be read to their ends ``(n,)``: of queries all of whose beams are unique, the k best, then the others.

    With fewer than k docids known there is no telling which beams are hopeless. So the k best are read first, which
    are all there are in most searches, and the others go on by a token; what can still be kept of these comes next.
    """
    rank = np.arange(len(slots.query)) - np.searchsorted(slots.query, slots.query)
    return decided(slots, beams) & ((found.worst[slots.query] > NONE) | (rank < k))


def _worth_going_on(slots: Slots, beams: Beams, found: Found) -> Slots:
    """Beams that may still lead to a docid to be kept, of the queries that have one for the model to read.

    Log-probabilities only fall, so a beam no better than the worst docid kept is hopeless, and so are all that would
    take its place; beams that are ahead matter only for the places they hold against others.
    """
    slots = slots.at(slots.score > found.worst[slots.query])
    reading = np.zeros(len(found.scores), dtype=bool)
    reading[slots.query[beams.needs_model(slots)]] = True
    return slots.at(reading[slots.query])
