"""Constrained search over a prefix tree: one entry for all rules and strategies.

Here are the choice of rule and strategy and the checks that they share; the beam loop is in `beam`, teacher-forced
scoring of given docids in `scoring`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from retgen.docids.beam import beam_search
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.docids.hits import DocidHits
    from retgen.docids.prefix_tree import PrefixTree
    from retgen.docids.session import DecoderSession

Strategy = Callable[..., "DocidHits"]

_STRATEGIES: dict[tuple[str, str], Strategy] = {("beam", "model"): beam_search}
"""(strategy, rule) → the search that does it. Every one takes what `search` takes but rule and strategy."""


def search(
    session: DecoderSession,
    tree: PrefixTree,
    *,
    start_token_id: int,
    num_beams: int = 10,
    k: int = 10,
    rule: str = "model",
    strategy: str = "beam",
    early_stopping: bool = False,
) -> DocidHits:
    """The documents whose docids a model finds most likely, for a block of queries.

    Args:
        session: the queries, encoded, and the model; fresh, as a search uses it up.
        tree: the docids that may be written.
        start_token_id: what the decoder reads first.
        num_beams: unfinished docids kept per query at each step, and the most docids found. UniGen uses at most 10.
        k: the most documents returned per query. Documents sharing a docid count each.
        rule: how a docid is scored. ``"model"``: the sum of its tokens' log-probabilities over the whole vocabulary,
            EOS included (Eq. 1), not renormalised over the tokens that the tree allows.
        strategy: ``"beam"``: beam search that returns what
            ``generate(prefix_allowed_tokens_fn=…, length_penalty=0.0)`` does, hit for hit.
        early_stopping: as in ``generate``: False goes on until no open docid can beat the worst kept one, True stops
            as soon as ``num_beams`` docids are finished.

    Returns:
        The hits of each query: fewer than ``k`` where the beams did not find as many, and never a document twice.

    Raises:
        UsageError: a rule or strategy that does not exist, counts below 1, or a tree with tokens that the model lacks.
        RetgenError: the model's logits are not finite.

    Reference:
        UniGen, "Unified generation", Eq. 1.
    """
    run = _STRATEGIES.get((strategy, rule))
    if run is None:
        raise UsageError(
            f"no search with strategy {strategy!r} and rule {rule!r}",
            mend="There is: " + ", ".join(f"strategy={name!r} with rule={of!r}" for name, of in _STRATEGIES),
        )
    for name, value in (("num_beams", num_beams), ("k", k)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    if tree.max_token_id >= session.vocab_size:
        raise UsageError(
            f"the tree holds token {tree.max_token_id}, but the model's vocabulary has {session.vocab_size} tokens",
            mend="Build the tree with the model's own tokenizer",
        )
    return run(session, tree, start_token_id=start_token_id, num_beams=num_beams, k=k, early_stopping=early_stopping)
