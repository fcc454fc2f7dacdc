"""A writer without a language model: summaries, contexts and answers are taken from the corpus.

Its question context is NOT the paper's Q-Connector, which a language model writes without reading any corpus: rows made
with it are labelled "BM25 context".

On leakage: a context is made from the question's text and the retriever's own ranking of the corpus, for training
questions exactly as for test questions. Relevance labels and gold answers are never among the inputs, so a training
context is as good, and as bad, as a test context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retgen.connect.answers import best_span
from retgen.connect.blocks import ContextBlock, render
from retgen.connect.extract import central_words, lead, plain, quote
from retgen.connect.terms import TermWeights
from retgen.errors import UsageError
from retgen.llm.prompts import DEFAULT_CONTEXT_WORDS, DEFAULT_FEEDBACK_DOCUMENTS, DEFAULT_SUMMARY_WORDS
from retgen.types import Answer, Connector, Document, DocumentSource, Query, Retriever


class OfflineWriter:
    """The four jobs of a `Writer`, from a corpus and its BM25 index alone.

    Deterministic, and independent of how items are batched. ``summarise``, ``answer`` and ``enhance`` need neither
    ``retriever`` nor ``documents``.

    Args:
        retriever: finds the passages of a question's context; BM25, for the label to be true.
        documents: gives their texts.
        docid_texts: document id → its text docid (D-Connector, lead, title, …), which opens the document's block. A
            document that it lacks opens with the first ``lead_words`` words of its text.
        weights: of words, best counted over the corpus (`TermWeights.from_documents`); equal for all content words
            where None.
        passages: how many passages are quoted; 3, the default number of documents that iteration feeds back.
        listed: up to this rank passages are named by their docid text; 10, the widest beam of the paper.
        lead_words: length of the docid text of documents without one.

    Raises:
        UsageError: ``passages`` is below 1, ``listed`` below ``passages``, or ``lead_words`` below 1.
    """

    name = "offline"

    def __init__(
        self,
        retriever: Retriever | None = None,
        documents: DocumentSource | None = None,
        docid_texts: Mapping[str, str] | None = None,
        *,
        weights: TermWeights | None = None,
        passages: int = DEFAULT_FEEDBACK_DOCUMENTS,
        listed: int = 10,
        lead_words: int = 8,
    ) -> None:
        if not 1 <= passages <= listed:
            raise UsageError(
                f"a context quotes {passages} passages and lists {listed}", mend="Choose 1 <= passages <= listed"
            )
        if lead_words < 1:
            raise UsageError(f"lead_words is {lead_words}", mend="Choose 1 or more")
        self.retriever = retriever
        self.documents = documents
        self.docid_texts = docid_texts if docid_texts is not None else {}
        self.weights = weights if weights is not None else TermWeights()
        self.passages = passages
        self.listed = listed
        self.lead_words = lead_words

    def summarise(self, documents: Sequence[Document], words: int = DEFAULT_SUMMARY_WORDS) -> list[str]:
        """An extractive summary of each document: its most central words, in order.

        Args:
            documents: any number.
            words: at most as many; m of the paper's prompt.

        Returns:
            One summary each; the title's first words for a document without text, empty where it has neither.
        """
        _check_words(words)
        return [
            central_words(document.text, words, self.weights) or lead(document.title, words) for document in documents
        ]

    def blocks(self, queries: Sequence[Query], words: int = DEFAULT_CONTEXT_WORDS) -> list[list[ContextBlock]]:
        """The "BM25 context" of each question as blocks, best passage first.

        Args:
            queries: with ids of their own; only their texts are read.
            words: of quoted sentences in one context, at most; docid texts and the question come on top.

        Returns:
            For each query up to ``listed`` blocks, the first ``passages`` of them with sentences; none where the
            retriever finds nothing.

        Raises:
            UsageError: the writer has no retriever or no documents.
        """
        _check_words(words)
        if self.retriever is None or self.documents is None:
            raise UsageError(
                "a BM25 context needs a retriever and the documents it finds",
                mend="Pass both: OfflineWriter(retriever, documents)",
            )
        if not queries:
            return []
        # A retriever that reads connectors must not see an earlier one: round 0 depends on the question alone.
        run = self.retriever.search([query.with_connector(None) for query in queries], k=self.listed)
        contexts = []
        for query in queries:
            found = [self.documents[doc_id] for doc_id in run.doc_ids(query.id)[: self.listed]]
            contexts.append(self._blocks_of(query.text, found, words))
        return contexts

    def contextualise(self, queries: Sequence[Query], words: int = DEFAULT_CONTEXT_WORDS) -> list[Connector]:
        """The "BM25 context" of each question as text: the question, then its blocks (see `blocks`)."""
        return [
            Connector(render(blocks, query.text), f"{self.name}:bm25-context")
            for query, blocks in zip(queries, self.blocks(queries, words), strict=True)
        ]

    def answer(self, queries: Sequence[Query], documents: Sequence[Document]) -> list[str]:
        """The best answer span of each document for the query beside it: at most six words, copied from its text.

        Raises:
            UsageError: there are not as many documents as queries.
        """
        _check_lengths(queries, documents=documents)
        spans = (
            best_span(query.text, document.text, self.weights)
            for query, document in zip(queries, documents, strict=True)
        )
        return [span.text if span is not None else "" for span in spans]

    def enhance_blocks(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[Document]],
        answers: Sequence[Answer | str],
        words: int = DEFAULT_CONTEXT_WORDS,
    ) -> list[list[ContextBlock]]:
        """The next round's context as blocks: the previous answer, then the previous documents.

        Sentences are now chosen by question and answer together. No answer block where the answer is empty.

        Args:
            queries: the questions.
            documents: for each, the previous round's, best first; ``passages`` are quoted, up to ``listed`` named.
            answers: for each, that of the previous round.
            words: of quoted sentences, at most.

        Raises:
            UsageError: the three do not have the same length.
        """
        _check_words(words)
        _check_lengths(queries, documents=documents, answers=answers)
        contexts = []
        for query, found, answer in zip(queries, documents, answers, strict=True):
            text = plain(answer if isinstance(answer, str) else answer.text)
            head = [ContextBlock.of_answer(text)] if text else []
            contexts.append([*head, *self._blocks_of(f"{query.text} {text}", list(found)[: self.listed], words)])
        return contexts

    def enhance(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[Document]],
        answers: Sequence[Answer | str],
        words: int = DEFAULT_CONTEXT_WORDS,
        round: int = 1,
    ) -> list[Connector]:
        """The next round's context as text: the question, then its blocks (see `enhance_blocks`)."""
        return [
            Connector(render(blocks, query.text), f"{self.name}:enhance", round)
            for query, blocks in zip(queries, self.enhance_blocks(queries, documents, answers, words), strict=True)
        ]

    def _blocks_of(self, question: str, found: Sequence[Document], words: int) -> list[ContextBlock]:
        docid_texts = [self._docid_text(document) for document in found]
        quoted = found[: self.passages]
        sentences = quote(
            question, [document.text for document in quoted], words, self.weights, skip=docid_texts[: len(quoted)]
        )
        sentences += [()] * (len(found) - len(quoted))
        return [
            ContextBlock(document.id, docid_text, chosen)
            for document, docid_text, chosen in zip(found, docid_texts, sentences, strict=True)
        ]

    def _docid_text(self, document: Document) -> str:
        text = self.docid_texts.get(document.id) or lead(document.text, self.lead_words)
        return text or lead(document.title, self.lead_words) or document.id


def _check_words(words: int) -> None:
    if words < 1:
        raise UsageError(f"a text of {words} words was asked for", mend="Ask for 1 or more")


def _check_lengths(queries: Sequence[Query], **others: Sequence[object]) -> None:
    for what, items in others.items():
        if len(items) != len(queries):
            raise UsageError(f"there are {len(queries)} queries and {len(items)} {what}; they must pair up")
