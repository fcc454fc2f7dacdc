"""Beam search over the docids of a tree: tree states travel with the beams.

The semantics are those of transformers' beam search (2 · num_beams candidates a step; finished docids count only from
among the best num_beams of them; open beams are refilled from the rest), but only the tree's children are ever scored,
and a beam that the tree does not hold never exists.

Once each beam of a query has one docid left before it, nothing is chosen any more: every next token is known. The rest
of these docids is then read in one pass, and has its place among the docids found. Where what ends first counts
(``early_stopping``), the beams go on through what was read, with partial sums, as if step by step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retgen.docids.rows import reads_to_end
from retgen.docids.slots import NONE, Beams, Candidates, Ended, Found, Slots

if TYPE_CHECKING:
    import numpy.typing as npt

    from retgen.docids.allowed import AllowedTree
    from retgen.docids.session import RowSession


def beam_search(
    session: RowSession,
    view: AllowedTree,
    *,
    start_token_id: int,
    num_beams: int,
    rule: str,
    early_stopping: bool = False,
) -> Found:
    """The best ``num_beams`` docids that a beam search meets; see `retgen.docids.search.search` for the arguments."""
    batch = session.batch_size
    beams = Beams(session, view, rule)
    slots = beams.start(start_token_id, np.arange(batch))
    found = Found(batch, num_beams)
    ahead = reads_to_end(session)
    while len(slots.query):
        candidates, _ = beams.step(slots, 2 * num_beams, decided(slots, beams) if ahead else None)
        ended = candidates.target < 0
        counted = candidates.at(ended & (candidates.rank < num_beams))
        found.add(Ended(counted.query, -1 - counted.target, counted.score))
        goes_on = candidates.at(~ended)
        # Log-probabilities only fall: once num_beams docids are kept, open beams no better than the last are hopeless.
        best = np.full(batch, NONE, dtype=np.float32)
        np.maximum.at(best, goes_on.query, goes_on.score)
        worst = found.worst
        hopeless = (worst > NONE) & (early_stopping | (best <= worst))
        slots = next_slots(goes_on.at(~hopeless[goes_on.query]), num_beams)
        if not early_stopping:
            known = ~np.isin(slots.query, slots.query[beams.needs_model(slots)])
            found.add(beams.ends(slots.at(known)))
            slots = slots.at(~known)
    return found


def decided(slots: Slots, beams: Beams) -> npt.NDArray[np.bool_]:
    """Beams ``(n,)`` of queries all of whose beams have one docid left before them."""
    unique = beams.unique(slots)
    return ~np.isin(slots.query, slots.query[~unique])


def next_slots(candidates: Candidates, num_beams: int) -> Slots:
    """The best ``num_beams`` candidates of each query as the beams of the next step."""
    first = np.searchsorted(candidates.query, candidates.query)
    kept = candidates.at(np.arange(len(first)) - first < num_beams)
    return Slots(kept.query, kept.target, kept.token, kept.score, kept.row, kept.ahead)
