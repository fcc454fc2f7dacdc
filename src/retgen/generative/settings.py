"""How a trained UniGen is used: the options that are saved with it."""

from __future__ import annotations

from dataclasses import dataclass

from retgen.docids.search import RULES as DOCID_RULES
from retgen.docids.search import STRATEGIES as DOCID_STRATEGIES
from retgen.errors import UsageError
from retgen.generative.answering import STRATEGIES


@dataclass(frozen=True, slots=True)
class UniGenSettings:
    """How a trained model is used.

    Args:
        num_beams: width of the docid search; the paper uses at most 10.
        docid_strategy: how docids are searched: ``beam`` (the paper), ``lookahead`` (fewer steps, never worse scores)
            or ``exact`` (the best documents, proven where `max_expansions` suffices).
        docid_rule: how docids are scored: ``model`` (Eq. 1) or ``trie``; see `retgen.docids.search.search`.
        max_expansions: prefixes that ``exact`` reads per query at most.
        max_input_tokens: longer inputs are cut at the end.
        answer_strategy: ``free`` (greedy, the paper), ``constrained`` (greedy over spans of the input) or ``span``
            (the auxiliary extractive head).
        max_answer_tokens: the longest answer.
        context_words: length n of the context that the writer is asked for.
        token_budget: most input tokens encoded at once.
        context: who wrote the contexts the model was trained on, e.g. ``offline:bm25-context``; empty for none.
        context_passages: passages that such a context quotes from.
        context_listed: passages that it names by their docid, those it quotes included.
    """

    num_beams: int = 10
    docid_strategy: str = "beam"
    docid_rule: str = "model"
    max_expansions: int = 200
    max_input_tokens: int = 384
    answer_strategy: str = "free"
    max_answer_tokens: int = 24
    context_words: int = 60
    token_budget: int = 8192
    context: str = ""
    context_passages: int = 2
    context_listed: int = 10

    def __post_init__(self) -> None:
        if self.answer_strategy not in STRATEGIES:
            raise UsageError(
                f"unknown answer_strategy {self.answer_strategy!r}", mend=f"Choose one of {', '.join(STRATEGIES)}"
            )
        for name, known in (("docid_strategy", DOCID_STRATEGIES), ("docid_rule", DOCID_RULES)):
            if getattr(self, name) not in known:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}", mend=f"Choose one of {', '.join(known)}")
        for name in (
            "num_beams",
            "max_expansions",
            "max_input_tokens",
            "max_answer_tokens",
            "context_words",
            "token_budget",
        ):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 1 <= self.context_passages <= self.context_listed:
            raise UsageError(
                f"a context quotes {self.context_passages} passages and lists {self.context_listed}",
                mend="Choose 1 <= context_passages <= context_listed",
            )
