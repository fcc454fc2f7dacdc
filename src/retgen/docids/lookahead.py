"""Beam search that reads a docid to its end as soon as its prefix is unique: few steps, and no docid lost on the way.

The beams are those of `beam`: one that was read to its end keeps its place with its partial sums. So every docid that
`beam` finishes has been scored here too, and the result is rank by rank at least as good. (Were its place freed, other
beams would take it, and might push out what `beam` keeps.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retgen.docids.beam import next_slots
from retgen.docids.slots import Beams, Ended, Found, Slots

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
    """The ``k`` best docids of all that were read to their ends, of which there may be more than ``num_beams``.

    Args:
        session: fresh.
        view: the docids that may be found.
        start_token_id: what the decoder reads first.
        num_beams: as in `beam`.
        k: the most docids kept; the fewer, the sooner beams are given up.
        rule: ``"model"`` or ``"trie"``.
        queries: those to search for, rising; all by default.
    """
    beams = Beams(session, view, rule, reads_ahead=True)
    found = Found(session.batch_size, max(1, min(k, view.num_leaves)))
    slots = beams.start(start_token_id, np.arange(session.batch_size) if queries is None else queries)
    while len(slots.query):
        candidates, scored = beams.step(slots, 2 * num_beams)
        found.add(scored)
        ended = candidates.target < 0
        counted = candidates.at(ended & (candidates.ahead < 0))
        found.add(Ended(counted.query, -1 - counted.target, counted.score))
        slots = next_slots(candidates.at(~ended), num_beams)
        slots = _worth_going_on(slots, beams, found)
    return found


def _worth_going_on(slots: Slots, beams: Beams, found: Found) -> Slots:
    """Beams that may still lead to a docid to be kept, of the queries that have one for the model to read.

    Log-probabilities only fall, so a beam no better than the worst docid kept is hopeless, and so are all that would
    take its place; beams that are ahead matter only for the places they hold against others.
    """
    slots = slots.at(slots.score > found.worst[slots.query])
    reading = np.zeros(len(found.scores), dtype=bool)
    reading[slots.query[beams.needs_model(slots)]] = True
    return slots.at(reading[slots.query])
