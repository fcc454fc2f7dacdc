"""Beam search over a prefix tree under the rule ``model``: tree states travel with the beams.

The semantics are those of transformers' beam search (2 · num_beams candidates a step; finished docids count only from
among the best num_beams of them; open beams are refilled from the rest), but only the tree's children are ever scored,
and a beam that the tree does not hold never exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from retgen.docids.hits import DocidHits
from retgen.errors import RetgenError

if TYPE_CHECKING:
    from torch import Tensor

    from retgen.docids.prefix_tree import PrefixTree
    from retgen.docids.session import DecoderSession

_NONE = float("-inf")


def beam_search(
    session: DecoderSession,
    tree: PrefixTree,
    *,
    start_token_id: int,
    num_beams: int,
    k: int,
    early_stopping: bool = False,
) -> DocidHits:
    """Beam search; see `retgen.docids.search.search` for the arguments."""
    batch = session.batch_size
    # Open beams, best first: state in the tree, last token, score (−inf where a query has fewer open beams than m).
    states = torch.full((batch, 1), tree.root, dtype=torch.int64)
    tokens = torch.full((batch, 1), start_token_id, dtype=torch.int64)
    scores = torch.zeros((batch, 1))
    # Finished docids, best first.
    found = torch.full((batch, num_beams), -1, dtype=torch.int64)
    found_scores = torch.full((batch, num_beams), _NONE)

    while True:
        logits = session.step(tokens)
        row_scores, row_tokens, row_targets, row_parents = _candidates(logits, tree, states, scores)
        best, chosen = stable_topk(row_scores, 2 * num_beams)
        targets, next_tokens, parents = (part.gather(1, chosen) for part in (row_targets, row_tokens, row_parents))
        exists = best > _NONE
        ended = exists & (targets < 0)

        eligible = ended & (torch.arange(best.shape[1]) < num_beams)
        merged_scores = torch.cat([found_scores, best.masked_fill(~eligible, _NONE)], dim=1)
        merged = torch.cat([found, -1 - targets], dim=1)
        found_scores, kept = stable_topk(merged_scores, num_beams)
        found = merged.gather(1, kept)

        # Log-probabilities only fall: once num_beams docids are kept, open beams no better than the last are hopeless.
        goes_on = exists & ~ended
        full = found_scores[:, -1] > _NONE
        open_scores = best.masked_fill(~goes_on, _NONE)
        hopeless = full if early_stopping else full & (open_scores.amax(dim=1) <= found_scores[:, -1])
        open_scores[hopeless] = _NONE
        width = min(num_beams, int((open_scores > _NONE).sum(dim=1).max()))
        if width == 0:
            break
        scores, order = stable_topk(open_scores, width)
        is_open = scores > _NONE
        # Rows without a beam repeat the query's first row; their score of −inf keeps them out.
        states = torch.where(is_open, targets.gather(1, order), tree.root)
        parents = torch.where(is_open, parents.gather(1, order), 0)
        tokens = torch.where(is_open, next_tokens.gather(1, order), start_token_id)
        session.reorder(parents)

    leaves, leaf_scores = [], []
    for row, row_score in zip(found.numpy(), found_scores.numpy(), strict=True):
        count = int((row_score > _NONE).sum())
        leaves.append(row[:count])
        leaf_scores.append(row_score[:count].astype(np.float64))
    return DocidHits.from_leaves(tree, leaves, leaf_scores, k)


def stable_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` greatest of each row, falling; equal values in the order they stand (``torch.topk`` promises none).

    Args:
        values: ``(n, c)`` fp32, without NaN.
        k: as many at most; fewer where a row is shorter.

    Returns:
        The values and their places, each ``(n, min(k, c))``.

    Example:
        >>> stable_topk(torch.tensor([[1.0, 3.0, 1.0, 3.0]]), 3)[1].tolist()
        [[1, 3, 0]]
    """
    width = values.shape[1]
    # Value and place in one integer: the float's bits in an order that integers understand, then the place, reversed.
    # Adding 0 turns −0.0, whose bits differ, into 0.0.
    bits = (values + 0.0).view(torch.int32)
    rank = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    keys = (rank << 32) + torch.arange(width - 1, -1, -1)
    places = width - 1 - (torch.topk(keys, min(k, width), dim=1).values & 0xFFFFFFFF)
    return values.gather(1, places), places


def _candidates(
    logits: Tensor, tree: PrefixTree, states: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every open beam's children, side by side per query.

    Returns:
        Score, token, state and parent row of each candidate: ``(batch, most candidates of a query)``, −inf scores
        where a query has fewer.
    """
    batch, width = states.shape
    is_open = scores > _NONE
    rows = torch.nonzero(is_open.reshape(-1)).squeeze(1)
    tokens, targets, counts = tree.expand(states.reshape(-1)[rows].numpy())
    owner = torch.repeat_interleave(rows, torch.from_numpy(counts))
    flat_tokens, flat_targets = torch.from_numpy(tokens.astype(np.int64)), torch.from_numpy(targets)

    log_probs = gather_log_probs(logits.reshape(batch * width, -1), owner, flat_tokens, rows)
    flat_scores = scores.reshape(-1)[owner] + log_probs

    query = owner // width
    per_query = torch.bincount(query, minlength=batch)
    place = torch.arange(len(owner)) - (per_query.cumsum(0) - per_query)[query]
    shape = (batch, max(1, int(per_query.max())))
    out_scores = torch.full(shape, _NONE)
    out_scores[query, place] = flat_scores
    parts = []
    for values in (flat_tokens, flat_targets, owner % width):
        part = torch.zeros(shape, dtype=torch.int64)
        part[query, place] = values
        parts.append(part)
    return out_scores, parts[0], parts[1], parts[2]


def gather_log_probs(logits: Tensor, owner: Tensor, tokens: Tensor, rows: Tensor) -> Tensor:
    """Log-probabilities, over the whole vocabulary, of chosen tokens of chosen rows.

    Args:
        logits: ``(n, vocab)`` fp32, on any device.
        owner: ``(c,)`` row of each token, on the CPU.
        tokens: ``(c,)`` on the CPU.
        rows: the rows that occur in ``owner``; only these are checked.

    Returns:
        ``(c,)`` fp32 on the CPU.

    Raises:
        RetgenError: a row holds NaN or +inf, or nothing but −inf.
    """
    normaliser = torch.logsumexp(logits.float(), dim=-1)
    chosen = logits[owner.to(logits.device), tokens.to(logits.device)].float().cpu()
    normaliser = normaliser.cpu()
    if not bool(torch.isfinite(normaliser[rows]).all()):
        raise RetgenError(
            "the model's logits are not finite (NaN or infinite)",
            where="constrained search",
            mend="Check that its weights were loaded and trained without overflow; fp16 overflows where bf16 does not",
        )
    return chosen - normaliser[owner]
