"""The writer of connectors: one protocol, four jobs. Those who write are its neighbours (`offline`, `chat`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from retgen.llm.prompts import DEFAULT_CONTEXT_WORDS, DEFAULT_SUMMARY_WORDS
from retgen.types import Answer, Connector, Document, Query


class Enhancer(Protocol):
    """Writes the next round's contexts: all of a `Writer` that iteration asks for."""

    def enhance(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[Document]],
        answers: Sequence[Answer | str],
        words: int = DEFAULT_CONTEXT_WORDS,
        round: int = 1,
    ) -> list[Connector]:
        """A better context for each question from the documents (best first) and the answer of the previous round."""
        ...


@runtime_checkable
class Writer(Enhancer, Protocol):
    """Writes the texts that bridge questions, documents and answers.

    Every job takes a batch and returns one item for each, in order, so that a writer behind a network may work
    concurrently. What is written for one item does not depend on the others of its batch.

    Reference:
        UniGen, "LLM-based Connectors Generation" and "Iterative Enhancement Strategy".
    """

    @property
    def name(self) -> str:
        """Who writes, e.g. ``"offline"`` or a model's name; reports show it."""
        ...

    def summarise(self, documents: Sequence[Document], words: int = DEFAULT_SUMMARY_WORDS) -> list[str]:
        """A summary of each document in about ``words`` words: the D-Connector, which serves as its docid."""
        ...

    def contextualise(self, queries: Sequence[Query], words: int = DEFAULT_CONTEXT_WORDS) -> list[Connector]:
        """A context of about ``words`` words for each question: the Q-Connector of round 0."""
        ...

    def answer(self, queries: Sequence[Query], documents: Sequence[Document]) -> list[str]:
        """A short answer to each query from the document beside it (a pseudo answer); empty where none is found."""
        ...
