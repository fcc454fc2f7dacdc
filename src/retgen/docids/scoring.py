"""Teacher-forced scores of given docids: what UniGen gives every candidate that another retriever found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from retgen.docids.gather import log_probs_at
from retgen.docids.rows import as_rows
from retgen.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from retgen.docids.session import DecoderSession, RowSession


def score_docids(
    session: DecoderSession | RowSession, token_ids: Tensor, *, start_token_id: int, max_bytes: int = 256 * 2**20
) -> Tensor:
    """Log p(docid | query) of given docids (Eq. 1): the sum of their tokens' log-probabilities, EOS included.

    A docid that a search with rule ``model`` finds gets the same score here.

    Args:
        session: a block of queries; a `ScoringSession` too where it is a `DecoderSession`.
        token_ids: ``(batch, m, length)`` int64, each docid with its EOS, negative ids behind its end
            (`DocidTable.padded`). A row of nothing but negative ids is no docid.
        start_token_id: what the decoder reads first.
        max_bytes: the docids are scored a few at a time, so that the logits stay below this size.

    Returns:
        ``(batch, m)`` fp32 on the CPU, ≤ 0; −inf for rows that are no docid.

    Raises:
        UsageError: the shape is not that of the session's block, or a token is outside the vocabulary.
        RetgenError: the model's logits are not finite.
    """
    if token_ids.dim() != 3 or token_ids.shape[0] != session.batch_size:
        raise UsageError(
            f"docids to score must have the shape ({session.batch_size}, m, length), not {tuple(token_ids.shape)}"
        )
    if token_ids.numel() and int(token_ids.max()) >= session.vocab_size:
        raise UsageError(
            f"a docid holds token {int(token_ids.max())}, but the model's vocabulary has {session.vocab_size} tokens",
            mend="Build the docid table with the model's own tokenizer",
        )
    batch, _, length = token_ids.shape
    per_docid = 4 * batch * length * session.vocab_size
    rows = max(1, max_bytes // max(1, per_docid))
    reader = as_rows(session)
    parts = [_score_block(reader, block, start_token_id) for block in torch.split(token_ids.cpu(), rows, dim=1)]
    return torch.cat(parts, dim=1)


def _score_block(session: RowSession, token_ids: Tensor, start_token_id: int) -> Tensor:
    present = token_ids >= 0
    if not bool(present.any()):
        return torch.full(token_ids.shape[:2], float("-inf"))
    read = torch.cat([torch.full_like(token_ids[..., :1], start_token_id), token_ids[..., :-1]], dim=-1)
    queries = torch.arange(len(token_ids)).repeat_interleave(token_ids.shape[1])
    outputs = session.read_rows(queries, read.flatten(0, 1))
    places = torch.nonzero(present.reshape(-1)).squeeze(1)
    log_probs = log_probs_at(
        outputs, places.numpy(), token_ids.reshape(-1)[places].numpy(), vocab_size=session.vocab_size
    )
    scattered = torch.zeros(token_ids.numel())
    scattered[places] = torch.from_numpy(log_probs)
    scores = scattered.reshape(token_ids.shape).sum(dim=-1)
    return scores.masked_fill(~present.any(dim=-1), float("-inf"))
