"""What every writer that prompts a language model shares: the four jobs as prompts, and completions as texts.

Who completes the prompts is a subclass' matter: an endpoint (`chat`) or a model in this process (`local`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from retgen.connect.extract import lead, plain
from retgen.errors import UsageError
from retgen.llm.errors import CompletionsFailedError
from retgen.llm.ledger import Ledger
from retgen.llm.outcomes import Outcome
from retgen.llm.prompt_files import checked_prompts
from retgen.llm.prompts import DEFAULT_CONTEXT_WORDS, DEFAULT_SUMMARY_WORDS, PROMPTS, Prompt
from retgen.llm.requests import CompletionRequest
from retgen.models.marks import without_marks
from retgen.types import Answer, Connector, Document, Query

JOBS = tuple(PROMPTS)
QUESTION = "question"
"""Who is said to have written a context where nothing was written: nobody, it is the question itself."""
_ANSWER_WORDS = 6
_TOKENS_PER_WORD = 3
_SPARE_TOKENS = 16
_REFUSED = frozenset({"refusal", "content_filter"})
"""Reasons for an end after which what was written is an excuse, or half a text."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a job's completions are drawn.

    Args:
        temperature: 0 takes the likeliest token each time, so that the same prompt gives the same text.
        seed: of the draws; another seed is another request. None sends none.
        max_tokens: of a completion. By default three for each word asked for, and a few to spare: a writer that goes on
            for longer is cut off, rather than paid.
        parameters: more of them, sent as they are; None as a value takes one of the above away.

    Raises:
        UsageError: a negative temperature, or no token at all.
    """

    temperature: float = 0.0
    seed: int | None = 0
    max_tokens: int | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise UsageError(f"a temperature is 0 or above; got {self.temperature}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(f"a completion needs at least 1 token; got {self.max_tokens}")

    def for_words(self, words: int) -> dict[str, object]:
        """The parameters of a request for about so many words.

        Example:
            >>> Sampling(seed=7).for_words(30)
            {'temperature': 0.0, 'max_tokens': 106, 'seed': 7}
        """
        limit = self.max_tokens if self.max_tokens is not None else _TOKENS_PER_WORD * words + _SPARE_TOKENS
        made = {"temperature": self.temperature, "max_tokens": limit, "seed": self.seed, **self.parameters}
        return {name: value for name, value in made.items() if value is not None}


class PromptedWriter(ABC):
    """The four jobs of a `Writer` by prompts; see there for what each of them returns.

    Args:
        model: its name, which is the writer's name too.
        prompts: job → prompt, in the place of the paper's (see `retgen.llm.read_prompts`).
        sampling: of all jobs, or job → sampling; a job that is left out is greedy with seed 0.
        document_words: words of a document that the model is shown, title included; the rest is cut off.
        most_failed: share, 0 to 1, of the prompts of a job that may get no completion (too long, refused by the
            endpoint's filter): their texts are empty. By default none may.

    Raises:
        UsageError: an unknown job or field, ``document_words`` below 1, or ``most_failed`` not from 0 to 1.
    """

    ledger: Ledger
    """Where the completions are kept."""

    def __init__(
        self,
        model: str,
        *,
        prompts: Mapping[str, Prompt] | None = None,
        sampling: Sampling | Mapping[str, Sampling] | None = None,
        document_words: int = 1500,
        most_failed: float = 0.0,
    ) -> None:
        if document_words < 1:
            raise UsageError(f"document_words must be at least 1; got {document_words}")
        if not 0 <= most_failed <= 1:
            raise UsageError(f"most_failed is a share from 0 to 1; got {most_failed}")
        self.most_failed = most_failed
        self.model = model
        self.prompts = checked_prompts(prompts or {})
        given = dict.fromkeys(JOBS, sampling) if isinstance(sampling, Sampling) else dict(sampling or {})
        unknown = sorted(set(given) - set(JOBS))
        if unknown:
            raise UsageError(f"no job is called {unknown[0]!r}", mend=f"The jobs are {', '.join(JOBS)}")
        self.sampling = {job: given.get(job) or Sampling() for job in JOBS}
        self.document_words = document_words

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    @abstractmethod
    def complete(self, requests: Iterable[CompletionRequest], total: int) -> list[Outcome]:
        """What became of each request, in their order; the requests are made as they are read."""

    def summary_requests(self, documents: Iterable[Document], words: int) -> Iterable[CompletionRequest]:
        """The prompts of `summarise`."""
        return (self._request("summarise", words, m=words, d=self._shown(document)) for document in documents)

    def context_requests(self, queries: Iterable[Query], words: int) -> Iterable[CompletionRequest]:
        """The prompts of `contextualise`."""
        return (self._request("contextualise", words, n=words, q=plain(query.text)) for query in queries)

    def answer_requests(self, queries: Sequence[Query], documents: Sequence[Document]) -> Iterable[CompletionRequest]:
        """The prompts of `answer`.

        Raises:
            UsageError: there are not as many documents as queries.
        """
        _check_lengths(queries, documents=documents)
        return (
            self._request("answer", _ANSWER_WORDS, q=plain(query.text), d=self._shown(document))
            for query, document in zip(queries, documents, strict=True)
        )

    def enhance_requests(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[Document]],
        answers: Sequence[Answer | str],
        words: int,
    ) -> Iterable[CompletionRequest]:
        """The prompts of `enhance`; documents stand one behind the other, best first.

        Raises:
            UsageError: the three do not have the same length.
        """
        _check_lengths(queries, documents=documents, answers=answers)
        return (
            self._request(
                "enhance",
                words,
                n=words,
                d=" ".join(self._shown(document) for document in found),
                a=plain(answer if isinstance(answer, str) else answer.text),
                q=plain(query.text),
            )
            for query, found, answer in zip(queries, documents, answers, strict=True)
        )

    def summarise(self, documents: Sequence[Document], words: int = DEFAULT_SUMMARY_WORDS) -> list[str]:
        """A summary of each document in about ``words`` words.

        Raises:
            CompletionsFailedError: some got none; the others are in the ledger.
        """
        return self._texts(self.summary_requests(documents, words), len(documents))

    def contextualise(self, queries: Sequence[Query], words: int = DEFAULT_CONTEXT_WORDS) -> list[Connector]:
        """A context of about ``words`` words for each question: the paper's Q-Connector, written without a corpus.

        A question for which the model wrote nothing is its own context, by the writer `QUESTION`. Signs that set docids
        off in a BM25 context are replaced.

        Raises:
            CompletionsFailedError: some got none; the others are in the ledger.
        """
        texts = self._texts(self.context_requests(queries, words), len(queries))
        return [
            self._connector(text, query.with_connector(None), 0) for query, text in zip(queries, texts, strict=True)
        ]

    def answer(self, queries: Sequence[Query], documents: Sequence[Document]) -> list[str]:
        """A short answer to each query from the document beside it.

        Raises:
            UsageError: there are not as many documents as queries.
            CompletionsFailedError: some got none; the others are in the ledger.
        """
        return self._texts(self.answer_requests(queries, documents), len(queries))

    def enhance(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[Document]],
        answers: Sequence[Answer | str],
        words: int = DEFAULT_CONTEXT_WORDS,
        round: int = 1,
    ) -> list[Connector]:
        """A better context for each question from the previous round's documents and answer.

        A question for which the model wrote nothing keeps the connector it has, or is its own context.

        Raises:
            UsageError: the three do not have the same length.
            CompletionsFailedError: some got none; the others are in the ledger.
        """
        texts = self._texts(self.enhance_requests(queries, documents, answers, words), len(queries))
        return [self._connector(text, query, round) for query, text in zip(queries, texts, strict=True)]

    def _connector(self, text: str, query: Query, round: int) -> Connector:
        if text:
            return Connector(without_marks(text), self.name, round)
        return query.connector if query.connector is not None else Connector(query.text, QUESTION, round)

    def _request(self, job: str, words: int, **values: object) -> CompletionRequest:
        if words < 1:
            raise UsageError(f"a text of {words} words was asked for", mend="Ask for 1 or more")
        prompt = self.prompts[job]
        text = prompt.format(**{name: values[name] for name in prompt.fields})
        return CompletionRequest(self.model, text, self.sampling[job].for_words(words))

    def _shown(self, document: Document) -> str:
        return lead(document.contents, self.document_words)

    def _texts(self, requests: Iterable[CompletionRequest], total: int) -> list[str]:
        return texts_of(self.complete(requests, total), self.most_failed)


def texts_of(outcomes: Sequence[Outcome], most_failed: float = 0.0) -> list[str]:
    """The texts of completions, each in one line; empty where the endpoint says that its model refused to write.

    Args:
        outcomes: of prompts.
        most_failed: share of them that may have no completion; their texts are empty.

    Raises:
        CompletionsFailedError: more have none.
    """
    failed = {number: str(each.error) for number, each in enumerate(outcomes) if each.text is None}
    texts = [
        None if each.text is None else "" if each.finish_reason in _REFUSED else plain(each.text) for each in outcomes
    ]
    if len(failed) > most_failed * len(texts):
        raise CompletionsFailedError(failed, texts)
    return [text or "" for text in texts]


def _check_lengths(queries: Sequence[Query], **others: Sequence[object]) -> None:
    for what, items in others.items():
        if len(items) != len(queries):
            raise UsageError(f"there are {len(queries)} queries and {len(items)} {what}; they must pair up")
