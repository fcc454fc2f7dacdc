"""What may follow the rows of a search, and how likely it is: three ways to gather children, two rules to score them.

A *hub* (thousands of children, such as the root) keeps them as a packed bit mask over the vocabulary. *Normal* nodes
list them, padded to the most that any of the rows has. A *unary* state has one child, which needs no list; nor, under
the rule ``trie``, any arithmetic: its log-probability is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from retgen.docids.allowed import HUB
from retgen.docids.normaliser import check_finite
from retgen.docids.session import ListOutputs, TargetOutputs

if TYPE_CHECKING:
    from torch import Tensor

    from retgen.docids.allowed import AllowedTree, Hub
    from retgen.docids.session import RowOutputs

Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]

MODEL, TRIE = "model", "trie"
"""Names of the rules; see `retgen.docids.search.search`."""
_LOGITS_BYTES = 64 * 2**20
_TARGETS = 1024
"""Tokens scored at once where they need no whole rows of logits."""
_LISTED = 64
"""Children that a row may have to be scored without whole rows of logits."""
_NONE = float("-inf")


class Children(NamedTuple):
    """Children of ``n`` rows laid end to end, in the order of the rows, and of the tokens within a row."""

    owner: Int64s
    """``(c,)`` the row of each."""
    tokens: Int64s
    """``(c,)``."""
    targets: Int64s
    """``(c,)`` the states they lead to."""
    log_probs: Float32s
    """``(c,)``; −inf for what the model cannot write."""

    def at(self, places: Int64s | slice) -> Children:
        """Some of them, in this order."""
        return Children._make(part[places] for part in self)


def score_children(
    outputs: RowOutputs,
    view: AllowedTree,
    states: Int64s,
    rule: str,
    *,
    vocab_size: int,
    places: Int64s | None = None,
    best: int | None = None,
) -> Children:
    """The children of rows, with their log-probabilities.

    Args:
        outputs: what the decoder gives after each row's last token.
        view: the tree.
        states: ``(n,)`` where the rows stand; none finished.
        rule: ``"model"`` or ``"trie"``.
        vocab_size: of the model.
        places: ``(n,)`` where each row's last token is among ``outputs``; in order by default.
        best: of a hub, only the best so many children (and those as good as the last of them) are given; by default
            all are.

    Raises:
        RetgenError: the model's logits are not finite.
    """
    places = np.arange(len(states)) if places is None else places
    hubs = _hubs_at(view, states)
    is_hub = np.isin(states, np.array(list(hubs), dtype=np.int64))
    score = _model_scores if rule == MODEL else _trie_scores
    parts: list[Children] = []
    rows = np.flatnonzero(~is_hub)
    if len(rows):
        tokens, targets, counts = view.expand(states[rows])
        log_probs = score(outputs, places[rows], tokens, counts, vocab_size)
        parts.append(Children(np.repeat(rows, counts), tokens, targets, log_probs))
    size = max(1, _LOGITS_BYTES // (4 * vocab_size))
    for state, hub in hubs.items():
        all_rows = np.flatnonzero(states == state)
        for start in range(0, len(all_rows), size):
            rows = all_rows[start : start + size]
            owner, chosen, log_probs = _hub_scores(outputs, places[rows], hub, rule, best)
            parts.append(Children(rows[owner], hub.tokens[chosen], hub.targets[chosen], log_probs))
    if len(parts) == 1:
        return parts[0]
    joined = Children._make(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(joined.owner, kind="stable")
    return joined.at(order)


def log_probs_at(outputs: RowOutputs, places: Int64s, tokens: Int64s, *, vocab_size: int) -> Float32s:
    """Log-probabilities, over the whole vocabulary, of one token after each of some places ``(p,)``.

    Raises:
        RetgenError: the model's logits are not finite.
    """
    targets = outputs if isinstance(outputs, TargetOutputs) else None
    size = max(1, _LOGITS_BYTES // (4 * vocab_size)) if targets is None else _TARGETS
    found = np.empty(len(places), dtype=np.float32)
    for start in range(0, len(places), size):
        part = slice(start, start + size)
        at, wanted = torch.from_numpy(places[part]), torch.from_numpy(tokens[part])
        scores = _from_logits(outputs, at, wanted) if targets is None else targets.log_probs(at, wanted)
        check_finite(scores, nothing=True)
        found[part] = scores.cpu().numpy()
    return found


def _from_logits(outputs: RowOutputs, places: Tensor, tokens: Tensor) -> Tensor:
    logits = outputs.logits(places)
    normaliser = torch.logsumexp(logits, dim=1)
    check_finite(normaliser)
    return logits.gather(1, tokens.to(logits.device).unsqueeze(1)).squeeze(1) - normaliser


def _hubs_at(view: AllowedTree, states: Int64s) -> dict[int, Hub]:
    large = np.unique(states[view.remaining(states) >= HUB])
    return {int(state): hub for state in large if (hub := view.hub(int(state))) is not None}


def _model_scores(outputs: RowOutputs, places: Int64s, tokens: Int64s, counts: Int64s, vocab_size: int) -> Float32s:
    """One normaliser over the vocabulary for each row, and only its children's logits."""
    if not isinstance(outputs, ListOutputs):
        return _whole_scores(outputs, places, tokens, counts, vocab_size)
    found = np.empty(len(tokens), dtype=np.float32)
    narrow = counts <= _LISTED
    listed = np.repeat(narrow, counts)
    if narrow.any():
        inside, padded = _padded(tokens[listed], counts[narrow])
        scores = outputs.list_log_probs(torch.from_numpy(places[narrow]), torch.from_numpy(padded))
        found[listed] = scores.cpu().numpy()[inside]
    if not narrow.all():
        found[~listed] = _whole_scores(outputs, places[~narrow], tokens[~listed], counts[~narrow], vocab_size)
    return found


def _whole_scores(outputs: RowOutputs, places: Int64s, tokens: Int64s, counts: Int64s, vocab_size: int) -> Float32s:
    """The same by whole rows of logits."""
    found = np.empty(len(tokens), dtype=np.float32)
    ends = np.cumsum(counts)
    size = max(1, _LOGITS_BYTES // (4 * vocab_size))
    for start in range(0, len(places), size):
        rows = slice(start, min(start + size, len(places)))
        first, last = int(ends[start] - counts[start]), int(ends[rows.stop - 1])
        logits = outputs.logits(torch.from_numpy(places[rows]))
        normaliser = torch.logsumexp(logits, dim=1)
        check_finite(normaliser)
        chosen = _gathered(logits, tokens[first:last], counts[rows])
        found[first:last] = chosen - np.repeat(normaliser.cpu().numpy(), counts[rows])
    return found


def _gathered(values: Tensor, tokens: Int64s, counts: Int64s) -> Float32s:
    """``values (n, …)`` at each row's tokens, laid end to end: unary rows directly, the others padded to their most."""
    found = np.empty(len(tokens), dtype=np.float32)
    starts = np.cumsum(counts) - counts
    unary = counts == 1
    rows, first = np.flatnonzero(unary), starts[unary]
    if len(rows):
        index = torch.from_numpy(np.stack([rows, tokens[first]])).to(values.device)
        found[first] = values[index[0], index[1]].cpu().numpy()
    if len(rows) < len(counts):
        inside, padded = _padded(tokens[np.repeat(~unary, counts)], counts[~unary])
        others = torch.from_numpy(np.flatnonzero(~unary)).to(values.device)
        taken = values[others].gather(1, torch.from_numpy(padded).to(values.device))
        found[np.repeat(~unary, counts)] = taken.cpu().numpy()[inside]
    return found


def _padded(values: npt.NDArray[np.generic], counts: Int64s) -> tuple[npt.NDArray[np.bool_], Int64s]:
    """Rows laid end to end as a rectangle ``(n, most)``: where it holds something, and what; 0 elsewhere."""
    inside = np.arange(int(counts.max(initial=0))) < counts[:, None]
    padded = np.zeros(inside.shape, dtype=np.int64)
    padded[inside] = values
    return inside, padded


def _trie_scores(outputs: RowOutputs, places: Int64s, tokens: Int64s, counts: Int64s, vocab_size: int) -> Float32s:
    """A softmax over each row's children, only their rows of the output projection computed; 0 for an only child."""
    found = np.zeros(len(tokens), dtype=np.float32)
    several = counts > 1
    if not several.any():
        return found
    listed = np.repeat(several, counts)
    inside, padded = _padded(tokens[listed], counts[several])
    asked, column = np.unique(padded[inside], return_inverse=True)
    columns = np.zeros(padded.shape, dtype=np.int64)
    columns[inside] = column
    parts = []
    size = max(1, _LOGITS_BYTES // (4 * len(asked)))
    for start in range(0, len(columns), size):
        rows = slice(start, start + size)
        chosen = torch.from_numpy(places[several][rows])
        logits = outputs.logits(chosen, torch.from_numpy(asked))
        taken = logits.gather(1, torch.from_numpy(columns[rows]).to(logits.device))
        outside = torch.from_numpy(~inside[rows]).to(logits.device)
        parts.append(_log_softmax(taken.masked_fill(outside, _NONE)).cpu().numpy())
    found[listed] = np.concatenate(parts)[inside]
    return found


def _hub_scores(
    outputs: RowOutputs, places: Int64s, hub: Hub, rule: str, best: int | None
) -> tuple[Int64s, Int64s, Float32s]:
    """Row by row which of a hub's children count, rising: row, number of the child, log-probability."""
    logits = outputs.logits(torch.from_numpy(places))
    bits = torch.from_numpy(hub.bits).to(logits.device)
    mask = ((bits.unsqueeze(1) >> torch.arange(8, device=bits.device)) & 1).bool().flatten()[: logits.shape[1]]
    allowed = logits[:, : len(mask)].masked_fill(~mask, _NONE)
    normaliser = torch.logsumexp(logits if rule == MODEL else allowed, dim=1, keepdim=True)
    check_finite(normaliser, nothing=rule != MODEL)
    log_probs = torch.where(allowed > _NONE, allowed - normaliser, allowed)
    if best is None or best >= len(hub.tokens):
        listed = log_probs[:, torch.from_numpy(hub.tokens).to(logits.device)].cpu().numpy()
        rows, children = np.indices(listed.shape)
        return rows.reshape(-1), children.reshape(-1), listed.reshape(-1)
    # Ties with the last of the best stay in: which of equals comes first is not this function's to say.
    worst = torch.topk(log_probs, best, dim=1).values[:, -1:]
    kept = torch.nonzero((log_probs >= worst) & mask)
    found = log_probs[kept[:, 0], kept[:, 1]].cpu().numpy()
    owner, tokens = kept.cpu().numpy().T
    return owner, np.searchsorted(hub.tokens, tokens), found


def _log_softmax(values: Tensor) -> Tensor:
    """Over the last dimension; rows of nothing but −inf stay so."""
    normaliser = torch.logsumexp(values, dim=-1, keepdim=True)
    check_finite(normaliser, nothing=True)
    return torch.where(values > _NONE, values - normaliser, values)
