"""Constrained search over a tree of docids: one entry for all rules and strategies.

Here are the choice of rule and strategy and the checks that they share. The searches are in `beam`, `lookahead` and
`exact`; teacher-forced scoring of given docids is in `scoring`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retgen.docids.allowed import AllowedTree
from retgen.docids.beam import beam_search
from retgen.docids.exact import exact_search
from retgen.docids.gather import MODEL, TRIE
from retgen.docids.hits import DocidHits
from retgen.docids.lookahead import lookahead_search
from retgen.docids.rows import as_rows
from retgen.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from retgen.docids.allowed import DocumentFilter
    from retgen.docids.docid_tree import DocidTree
    from retgen.docids.session import DecoderSession, RowSession

RULES = (MODEL, TRIE)
STRATEGIES = ("beam", "lookahead", "exact")


def search(
    session: DecoderSession | RowSession,
    tree: DocidTree | AllowedTree,
    *,
    start_token_id: int,
    num_beams: int = 10,
    k: int = 10,
    rule: str = MODEL,
    strategy: str = "beam",
    early_stopping: bool = False,
    allowed_documents: DocumentFilter | None = None,
    document_order: npt.ArrayLike | None = None,
    max_expansions: int = 200,
) -> DocidHits:
    """The documents whose docids a model finds most likely, for a block of queries.

    Args:
        session: the queries, encoded, and the model; fresh, as a search uses it up.
        tree: the docids that may be written; or an `AllowedTree`, made once for many searches.
        start_token_id: what the decoder reads first.
        num_beams: ``beam``, ``lookahead``: unfinished docids kept per query at each step, and with ``beam`` the most
            docids found; UniGen uses at most 10. ``exact``: prefixes that the model reads per query in one pass.
        k: the most documents returned per query. Documents sharing a docid count each.
        rule: how a docid is scored. ``"model"``: the sum of its tokens' log-probabilities over the whole vocabulary,
            EOS included (Eq. 1), not renormalised over the tokens that the tree allows. ``"trie"``: over the live,
            allowed children of each prefix only, so that an only child costs nothing. A ``trie`` score depends on the
            other docids and on the filter; it is no confidence.
        strategy: ``"beam"``: beam search that returns, under ``model``, what
            ``generate(prefix_allowed_tokens_fn=…, length_penalty=0.0)`` does, hit for hit. ``"lookahead"``: the same
            beams, but every docid that is read counts, and no more are read than may be kept: rank by rank at least
            ``beam``'s scores. ``"exact"``: best first, by the bound that log-probabilities
            only fall; the k best documents of all, with a `Certificate` for each query, or the best so far.
        early_stopping: ``beam`` only, and as in ``generate``: False goes on until no open docid can beat the worst kept
            one, True stops as soon as ``num_beams`` docids are finished.
        allowed_documents: only these may be found: corpus numbers, or a mask over them. The tree is walked as if it
            held no others.
        document_order: ``(documents,)`` by corpus number: documents that share a docid come by falling value (a date, a
            prior), equal ones in corpus order; all in corpus order by default.
        max_expansions: ``exact`` only: the most prefixes that the model reads per query.

    Returns:
        The hits of each query: fewer than ``k`` where the search did not find as many, and never a document twice.

    Raises:
        UsageError: a rule or strategy that does not exist, an option that the strategy does not have, counts below 1,
            a filter that is none, or a tree with tokens that the model lacks.
        RetgenError: the model's logits are not finite.

    Reference:
        UniGen, "Unified generation", Eq. 1.
    """
    for name, value, known in (("strategy", strategy, STRATEGIES), ("rule", rule, RULES)):
        if value not in known:
            raise UsageError(
                f"no search with {name} {value!r}", mend=f"There is: {', '.join(map(repr, known))} ({name})"
            )
    for option, number in (("num_beams", num_beams), ("k", k), ("max_expansions", max_expansions)):
        if number < 1:
            raise UsageError(f"{option} must be at least 1, not {number}")
    if early_stopping and strategy != "beam":
        raise UsageError(f"strategy {strategy!r} has no early stopping", mend='Leave it out, or use strategy="beam"')
    if isinstance(tree, AllowedTree):
        if allowed_documents is not None:
            raise UsageError(
                "allowed_documents goes with a tree, and this one has its filter already",
                mend="Make the AllowedTree with these documents, or pass the tree itself",
            )
        view = tree
    else:
        view = AllowedTree(tree, allowed_documents)
    if view.tree.max_token_id >= session.vocab_size:
        raise UsageError(
            f"the tree holds token {view.tree.max_token_id}, but the model's vocabulary has {session.vocab_size} "
            "tokens",
            mend="Build the tree with the model's own tokenizer",
        )
    rows, certificates = as_rows(session), None
    if strategy == "beam":
        found = beam_search(
            rows, view, start_token_id=start_token_id, num_beams=num_beams, rule=rule, early_stopping=early_stopping
        )
        leaves, scores = found.ranked()
    elif strategy == "lookahead":
        found = lookahead_search(rows, view, start_token_id=start_token_id, num_beams=num_beams, k=k, rule=rule)
        leaves, scores = found.ranked()
    else:
        leaves, scores, certificates = exact_search(
            rows,
            view,
            start_token_id=start_token_id,
            num_beams=num_beams,
            k=k,
            rule=rule,
            max_expansions=max_expansions,
        )
    return DocidHits.from_leaves(view, leaves, scores, k, document_order=document_order, certificates=certificates)
