"""A copy head over rows of a search: unlike numbers of rows per query, and the mixture only where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retgen.docids.normaliser import target_log_probs
from retgen.models.copying import CopyHead, mix_targets, mix_vocabulary
from retgen.models.layout import SourceLayout, next_match
from retgen.models.row_outputs import Projection
from retgen.models.side_by_side import SideBySide


@dataclass(frozen=True, slots=True)
class CopySource:
    """What a copy head reads of a block of B inputs.

    Args:
        head: the copy head.
        layout: of the inputs.
        keys: position and block keys, as `CopyHead.keys` gives them.
        docids: whether whole docids are matched from their block's start, or anything from anywhere.
    """

    head: CopyHead
    layout: SourceLayout
    keys: tuple[Tensor, Tensor]
    docids: bool

    def of(self, queries: Tensor) -> CopySource:
        """The same for some of the inputs, (q,), in this order."""
        parts = (getattr(self.layout, name)[queries] for name in SourceLayout.__slots__)
        return CopySource(self.head, SourceLayout(*parts), (self.keys[0][queries], self.keys[1][queries]), self.docids)


def following(source: CopySource, before: Tensor | None, parents: Tensor, queries: Tensor, tokens: Tensor) -> Tensor:
    """Positions (n, L) that continue what rows have written once each has read one more token (n,).

    Args:
        source: of the block.
        before: (rows, L) of the rows that are continued; None before the first token, the start token, which
            continues nothing.
        parents: (n,) the row each continues.
        queries: (n,) its query.
        tokens: (n,) what it reads.
    """
    if before is None:
        return _first(source)[queries]
    return _next(source, before[parents], queries, tokens)


def whole_matches(
    source: CopySource, before: Tensor | None, parents: Tensor, queries: Tensor, tokens: Tensor
) -> Tensor:
    """`following` token by token of rests (r, T): positions (r, T, L)."""
    match = following(source, before, parents, queries, tokens[:, 0])
    steps = [match]
    for place in range(1, tokens.shape[1]):
        match = _next(source, match, queries, tokens[:, place])
        steps.append(match)
    return torch.stack(steps, dim=1)


def _first(source: CopySource) -> Tensor:
    return source.layout.docid_start if source.docids else source.layout.copyable


def _next(source: CopySource, match: Tensor, queries: Tensor, tokens: Tensor) -> Tensor:
    layout = source.layout
    rows = SourceLayout(
        layout.block, layout.copyable[queries], layout.docid_start, layout.copy_ids[queries], layout.overlap
    )
    return next_match(rows, match, tokens)


class CopyOutputs:
    """Decoder states that a vocabulary and a copy head share; a `retgen.docids.session.TargetOutputs`.

    Its logits are the log-probabilities of the mixture.

    Args:
        hidden: (r, d), or (r, T, d) of rows that read T tokens.
        queries: (r,) of the rows.
        matches: (r, L), or (r, T, L): positions that continue what was written before each step.
        source: what the head reads.
        project: the output projection.
        vocab_size: tokens of the vocabulary.
    """

    def __init__(
        self,
        hidden: Tensor,
        queries: Tensor,
        matches: Tensor,
        source: CopySource,
        project: Projection,
        vocab_size: int,
    ) -> None:
        self._hidden, self._matches = hidden.reshape(-1, hidden.shape[-1]), matches.reshape(-1, matches.shape[-1])
        self._queries = queries.repeat_interleave(len(self._hidden) // max(1, len(queries)))
        self._source, self._project, self._vocab_size = source, project, vocab_size

    @torch.inference_mode()
    def logits(self, places: Tensor, tokens: Tensor | None = None) -> Tensor:
        """(p, vocab_size) fp32 log-probabilities at places (p,), or (p, t) of some tokens (t,).

        A token's share of the mixture needs the whole vocabulary's normaliser, so that some cost what all do.
        """
        source, beside, hidden, matches = self._laid(places)
        attention = source.head.log_attention(hidden, source.keys, source.layout, matches)
        gates = source.head.log_gate(hidden, source.layout)
        written = self._project(hidden, None).log_softmax(dim=-1)
        mixed = beside.take(mix_vocabulary(written, attention, gates, source.layout.copy_ids))
        return mixed if tokens is None else mixed[:, tokens.to(mixed.device)]

    @torch.inference_mode()
    def log_probs(self, places: Tensor, tokens: Tensor) -> Tensor:
        """(p,) fp32 log-probabilities of tokens (p,) under the mixture, one at each of places (p,)."""
        device = self._hidden.device
        source, beside, hidden, matches = self._laid(places)
        attention = source.head.log_attention(hidden, source.keys, source.layout, matches)
        gates = source.head.log_gate(hidden, source.layout)
        targets = beside.lay(tokens.to(device).unsqueeze(1))
        states = self._hidden[places.to(device)]
        written = target_log_probs(lambda part: self._project(states, part), self._vocab_size, tokens.to(device))
        same = (source.layout.copy_ids.unsqueeze(1) == targets) & source.layout.copyable.unsqueeze(1)
        mixed = mix_targets(beside.lay(written.unsqueeze(1)).squeeze(2), attention, gates, same)
        return beside.take(mixed.unsqueeze(2)).squeeze(1)

    def _laid(self, places: Tensor) -> tuple[CopySource, SideBySide, Tensor, Tensor]:
        """What the head reads of the queries of places (p,), and states and matches side by side by query."""
        places = places.to(self._hidden.device)
        present, query_of = torch.unique(self._queries[places], return_inverse=True)
        source = self._source if len(present) == len(self._source.layout.block) else self._source.of(present)
        beside = SideBySide(query_of, len(present))
        return source, beside, beside.lay(self._hidden[places]), beside.lay(self._matches[places])
