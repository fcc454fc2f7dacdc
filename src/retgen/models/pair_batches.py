"""(query, passage) pairs in batches: passages of similar length in groups, and their pairs by the length of the query.

Nothing here knows a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retgen.devices import length_sorted_batches

Pair = tuple[int, int]
"""(query number, passage number), as in `retgen.rerank.candidates.Candidates.pairs`."""

_LOGITS_AT_ONCE = 2**26
"""Most logits held at a time: 256 MiB in fp32."""


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs that are scored in one pass: their numbers, and for each the row of its passage in the group."""

    pairs: tuple[int, ...]
    rows: tuple[int, ...]


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of unequal length, padded at the right, and their mask (1 where there is a token), both ``(n, width)``."""
    width = max(map(len, rows), default=0)
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long, device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, (torch.arange(width, device=device) < lengths[:, None]).long()


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of unequal length, padded at the left, and their mask (1 where there is a token), both ``(n, width)``."""
    width = max(map(len, rows), default=0)
    ids = torch.tensor([[*[pad] * (width - len(row)), *row] for row in rows], dtype=torch.long, device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, (torch.arange(width, device=device) >= width - lengths[:, None]).long()


def passage_groups(lengths: Sequence[int], by_passage: Mapping[int, object], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of the passages that occur in the pairs, in groups of similar length; each is in one group."""
    used = sorted(by_passage)
    for group in length_sorted_batches([lengths[passage] for passage in used], batch_tokens):
        yield [used[number] for number in group]


def pair_batches(
    group: Sequence[int],
    width: int,
    by_passage: dict[int, list[int]],
    target_lengths: Sequence[int],
    batch_tokens: int,
    vocab_size: int,
) -> Iterator[PairBatch]:
    """The pairs of a group of passages, targets of similar length together.

    Args:
        group: passage numbers.
        width: tokens of the group's longest passage.
        by_passage: passage number → numbers of its pairs.
        target_lengths: for each pair, tokens of its target.
        batch_tokens: most tokens of the pairs' passages, after padding.
        vocab_size: logits per target token.
    """
    order = sorted(
        ((number, row) for row, passage in enumerate(group) for number in by_passage[passage]),
        key=lambda pair: -target_lengths[pair[0]],
    )
    most_pairs = max(1, batch_tokens // max(width, 1))
    most_targets = max(1, _LOGITS_AT_ONCE // vocab_size)
    batch: list[tuple[int, int]] = []
    targets = 0
    for number, row in order:
        length = target_lengths[number]
        if batch and (len(batch) >= most_pairs or targets + length > most_targets):
            yield PairBatch(*map(tuple, zip(*batch, strict=True)))
            batch, targets = [], 0
        batch.append((number, row))
        targets += length
    if batch:
        yield PairBatch(*map(tuple, zip(*batch, strict=True)))


def pairs_by_passage(pairs: Sequence[Pair]) -> dict[int, list[int]]:
    """Passage number → numbers of its pairs."""
    found: dict[int, list[int]] = {}
    for number, (_, passage) in enumerate(pairs):
        found.setdefault(passage, []).append(number)
    return found
