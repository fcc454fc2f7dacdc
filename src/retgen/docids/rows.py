"""Any decoder session as one of rows: the rows of queries that have fewer are filled up, unseen by the search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from retgen.docids.session import RowSession, ScoringSession
from retgen.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from retgen.docids.session import DecoderSession, RowOutputs


def as_rows(session: DecoderSession | RowSession) -> RowSession:
    """The session itself where it decodes rows, else a `FilledRows` over it."""
    return session if isinstance(session, RowSession) else FilledRows(session)


def reads_to_end(session: RowSession) -> bool:
    """Whether it reads tails: all but a `FilledRows` over a session without a `score` method."""
    return not isinstance(session, FilledRows) or isinstance(session.session, ScoringSession)


class FilledRows:
    """A `RowSession` over a session whose queries all have equally many rows.

    Texts are read to their ends by its `score` method, from their beginnings; a session without one can be searched by
    ``strategy="beam"`` under the rule ``model`` only. It is taken to compute in fp32.

    Args:
        session: fresh.
    """

    def __init__(self, session: DecoderSession) -> None:
        self.session = session
        self.batch_size, self.vocab_size = session.batch_size, session.vocab_size
        self._queries = torch.arange(session.batch_size)
        self._places = torch.zeros(session.batch_size, dtype=torch.int64)
        self._written = torch.zeros((session.batch_size, 0), dtype=torch.int64)

    def step_rows(
        self, parents: Tensor, tokens: Tensor, tails: tuple[Tensor, Tensor] | None = None
    ) -> tuple[RowOutputs, RowOutputs | None]:
        """See `RowSession.step_rows`."""
        ended = None
        if tails is not None:
            whole = torch.cat([self._written[tails[0]], tails[1]], dim=1)
            read = self._score(self._queries[tails[0]], whole)[:, self._written.shape[1] :]
            ended = GivenLogits(read.flatten(0, 1))
        queries = self._queries[parents]
        places = _place_within(queries, self.batch_size)
        logits = torch.zeros((0, self.vocab_size))
        if len(parents):
            # Places without a row continue their query's first with some token of the block.
            width = int(places.max()) + 1
            filled = torch.full((self.batch_size, width), int(tokens[0]))
            filled[queries, places] = tokens
            chosen = torch.zeros((self.batch_size, width), dtype=torch.int64)
            chosen[queries, places] = self._places[parents]
            if self._written.shape[1]:
                self.session.reorder(chosen)
            logits = self.session.step(filled)
            logits = logits[queries.to(logits.device), places.to(logits.device)]
        self._queries, self._places = queries, places
        self._written = torch.cat([self._written[parents], tokens.unsqueeze(1)], dim=1)
        return GivenLogits(logits), ended

    def read_rows(self, queries: Tensor, tokens: Tensor) -> RowOutputs:
        """See `RowSession.read_rows`."""
        return GivenLogits(self._score(queries, tokens).flatten(0, 1))

    def in_fp32(self) -> FilledRows:
        """Itself."""
        return self

    def _score(self, queries: Tensor, tokens: Tensor) -> Tensor:
        if not isinstance(self.session, ScoringSession):
            raise UsageError(
                f"{type(self.session).__name__} cannot read texts to their ends, which this search needs",
                mend='Give it a `score` method (ScoringSession), or search with strategy="beam" and rule="model"',
            )
        places = _place_within(queries, self.batch_size)
        filled = tokens[:1].clamp(min=0).expand(self.batch_size, -1).unsqueeze(1)
        filled = filled.repeat(1, int(places.max()) + 1, 1)
        filled[queries, places] = tokens.clamp(min=0)
        logits = self.session.score(filled)
        return logits[queries.to(logits.device), places.to(logits.device)]


class GivenLogits:
    """Logits that are there already; a `RowOutputs`.

    Args:
        logits: ``(n, vocab_size)`` fp32.
    """

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    def logits(self, places: Tensor, tokens: Tensor | None = None) -> Tensor:
        """``(p, vocab_size)`` at places ``(p,)``, or ``(p, t)`` of some tokens ``(t,)``."""
        device = self._logits.device
        chosen = self._logits[places.to(device)]
        return chosen if tokens is None else chosen[:, tokens.to(device)]


def _place_within(queries: Tensor, batch: int) -> Tensor:
    """The number of each row ``(n,)`` among those of its query."""
    counts = torch.bincount(queries, minlength=batch)
    order = torch.argsort(queries, stable=True)
    places = torch.empty_like(queries)
    places[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[queries[order]]
    return places
