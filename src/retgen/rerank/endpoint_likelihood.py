"""Query likelihood through an endpoint: a large language model is served elsewhere, and tells what each token cost.

Needs a server that returns log-probabilities of the prompt: ``/v1/completions`` with ``echo`` and ``logprobs``, which
vLLM and llama-cpp-python's server understand. Hosted chat models do not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retgen.errors import RetgenError, UsageError
from retgen.llm.client import EndpointClient
from retgen.llm.errors import CompletionsFailedError
from retgen.llm.outcomes import Outcome
from retgen.llm.requests import CompletionRequest
from retgen.models.prompt_format import PromptFormat, find_format
from retgen.rerank.candidates import CandidateReranker, Candidates, Progress
from retgen.types import Document, Explanation, FloatArray, Query

_PAIRS_AT_ONCE = 2048
"""Answers held at a time; each has a number for every token of its passage."""
_WORDS_PER_TOKEN = 0.75
"""English words to a token, about: the endpoint counts tokens, and here there is no tokenizer."""


class EndpointLikelihood(CandidateReranker):
    """Scores a passage by log p(query | passage), in nats: mean or sum over the query's tokens, as the format says.

    The endpoint is sent passage and query as one text and generates nothing. Only the query's tokens count; where they
    begin is found by the tokens' offsets in the text. Where these do not fit (bytes of one character in several
    tokens), the passage's prompt is asked for alone and its tokens are counted, which costs one request for each such
    passage. Scores are those of `QueryLikelihood` with the same model in the same precision.

    Args:
        client: of the endpoint, with its ledger: pairs that were scored once are not asked again.
        model: its name there.
        preset: a `PromptFormat` or the name of one; without an EOS, which an endpoint does not score.
        max_passage_words: longer passages are cut. By default three quarters of the format's ``max_passage_tokens``:
            the endpoint counts tokens, and refuses prompts that its context does not hold.
        generated_tokens: 0, or 1 for servers that insist on writing one; what is written is not scored.

    Raises:
        UsageError: an unknown format, or one with an EOS; a number out of its range.

    Reference:
        UPR; JPR's rows with a large language model.

    Example:
        >>> from retgen.llm import Endpoint, EndpointClient, Ledger
        >>> client = EndpointClient(Endpoint("http://localhost:8000/v1"), Ledger("ledger.sqlite"))  # doctest: +SKIP
        >>> EndpointLikelihood(client, "Qwen/Qwen3-8B").rerank(queries, run, corpus)  # doctest: +SKIP
    """

    component = "generator"

    def __init__(
        self,
        client: EndpointClient,
        model: str,
        preset: str | PromptFormat = "upr-causal",
        *,
        max_passage_words: int | None = None,
        generated_tokens: int = 0,
    ) -> None:
        self.format = find_format(preset)
        if self.format.append_eos:
            raise UsageError(
                f"the prompt format {self.format.name!r} scores an EOS, which an endpoint does not",
                mend="Use upr-causal, or a PromptFormat with append_eos=False",
            )
        if max_passage_words is None:
            max_passage_words = max(1, int(self.format.max_passage_tokens * _WORDS_PER_TOKEN))
        if max_passage_words < 1 or generated_tokens not in (0, 1):
            raise UsageError(
                f"max_passage_words is at least 1 and generated_tokens 0 or 1; got {max_passage_words} and "
                f"{generated_tokens}"
            )
        self.client = client
        self.model = model
        self._words = max_passage_words
        self._generated = generated_tokens
        self._parameters: dict[str, object] = {"max_tokens": generated_tokens} if generated_tokens else {}

    @property
    def settings(self) -> dict[str, object]:
        """What a result says of its making."""
        return {
            "model": self.model,
            "endpoint": self.client.endpoint.base_url,
            "preset": self.format.name,
            "passage_template": self.format.passage_template,
            "query_template": self.format.query_template,
            "max_passage_words": self._words,
            "reduction": self.format.reduction,
        }

    def score_pairs(self, candidates: Candidates, progress: Progress | None = None) -> FloatArray:
        """One score for each of ``candidates.pairs``.

        Raises:
            EndpointError: the endpoint cannot be used, or returns no log-probabilities of the prompt.
            BudgetSpentError: the client's budget is spent; what was scored is in its ledger.
            CompletionsFailedError: some pairs got no answer.
        """
        prompts = [self._prompt(passage) for passage in candidates.passages]
        targets = [self.format.query_text(query.text) for query in candidates.queries]
        pairs = candidates.pairs
        scores = np.zeros(len(pairs))
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            block = pairs[start : start + _PAIRS_AT_ONCE]
            for place, row in enumerate(self._scored([(prompts[p], targets[q]) for q, p in block])):
                scores[start + place] = self._reduced(row)
            if progress is not None:
                progress(start + len(block), len(pairs))
        return scores

    def explain(self, query: Query, document: Document) -> Explanation:
        """The score, and the log-likelihood of every token of the query, in order."""
        (row,) = self._scored([(self._prompt(document), self.format.query_text(query.text))])
        return Explanation(
            query.id,
            document.id,
            components={self.component: self._reduced(row)},
            tokens=tuple(zip(row.tokens, row.logprobs, strict=True)),
        )

    def _prompt(self, passage: Document) -> str:
        words = passage.text.split()
        if len(words) > self._words:
            passage = Document(passage.id, " ".join(words[: self._words]), passage.title)
        return self.format.passage_text(passage)

    def _scored(self, texts: Sequence[tuple[str, str]]) -> list[_Tokens]:
        """The query's tokens of each (prompt, target)."""
        answers = self._asked([prompt + target for prompt, target in texts])
        places = [answer.first_of(prompt, target) for answer, (prompt, target) in zip(answers, texts, strict=True)]
        unclear = list(dict.fromkeys(texts[i][0] for i, place in enumerate(places) if place is None))
        alone = dict(zip(unclear, self._asked(unclear), strict=True))
        rows = []
        for (prompt, target), answer, place in zip(texts, answers, places, strict=True):
            first = place if place is not None else answer.behind(alone[prompt], target)
            rows.append(answer.since(first))
        return rows

    def _asked(self, texts: Sequence[str]) -> list[_Tokens]:
        requests = [CompletionRequest(self.model, text, self._parameters, "prompt-logprobs") for text in texts]
        outcomes = self.client.complete(requests)
        failed = {number: str(each.error) for number, each in enumerate(outcomes) if each.text is None}
        if failed:
            raise CompletionsFailedError(failed, [each.text for each in outcomes])
        return [_Tokens.read(each, self._generated) for each in outcomes]

    def _reduced(self, row: _Tokens) -> float:
        total = float(np.sum(row.logprobs))
        return total / max(len(row.logprobs), 1) if self.format.reduction == "mean" else total


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Tokens of a text, their offsets in it, and their log-probabilities; the first token has none, here 0."""

    tokens: tuple[str, ...]
    offsets: tuple[int, ...]
    logprobs: tuple[float, ...]

    @classmethod
    def read(cls, outcome: Outcome, generated: int) -> _Tokens:
        columns = json.loads(outcome.text or "{}")
        end = len(columns["tokens"]) - generated
        tokens = tuple(columns["tokens"][:end])
        offsets = tuple(columns["text_offset"][:end])
        if len(offsets) != len(tokens):
            offsets = tuple(sum(map(len, tokens[:place])) for place in range(len(tokens)))
        values = columns["token_logprobs"][:end]
        return cls(tokens, offsets, tuple(0.0 if value is None else value for value in values))

    def first_of(self, prompt: str, target: str) -> int | None:
        """The number of the first token of ``target`` behind ``prompt``; None where the offsets do not tell."""
        # A token that opens every text stands in some servers' offsets, and not in the prompt.
        for shift in (0, len(self.tokens[0]) if self.tokens else 0):
            start = len(prompt) + shift
            if start in self.offsets:
                place = self.offsets.index(start)
                if "".join(self.tokens[place:]) == target:
                    return place
        return None

    def behind(self, prompt: _Tokens, target: str) -> int:
        """The number of the first token behind those of a prompt that was asked for alone."""
        number = len(prompt.tokens)
        if number >= len(self.tokens) or self.tokens[:number] != prompt.tokens:
            raise RetgenError(
                f"the endpoint's tokens do not tell where the query {target.strip()!r} begins: either it gives none of "
                "the prompt, or its tokenizer joins the end of the passage's prompt with the query",
                mend="Use a server that echoes the prompt's log-probabilities, and a format whose query begins with a "
                "space",
            )
        return number

    def since(self, first: int) -> _Tokens:
        return _Tokens(self.tokens[first:], self.offsets[first:], self.logprobs[first:])
