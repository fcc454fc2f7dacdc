"""Later rounds without a writer: question, previous answer and previous documents, one behind the other.

The paper's ablation "UniGen-Iter w/o Q-Connector" says what is left out, not what is read in its place; this is.
"""

from __future__ import annotations

from collections.abc import Sequence

from retgen.connect.extract import lead, plain
from retgen.errors import UsageError
from retgen.llm.prompts import DEFAULT_CONTEXT_WORDS
from retgen.types import Answer, Connector, Document, Query


class Concatenation:
    """An `Enhancer` that writes nothing of its own."""

    name = "concatenation"

    def enhance(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[Document]],
        answers: Sequence[Answer | str],
        words: int = DEFAULT_CONTEXT_WORDS,
        round: int = 1,
    ) -> list[Connector]:
        """Each question, its answer of the previous round, and the beginnings of the documents found then.

        Args:
            queries: the questions.
            documents: for each, the previous round's, best first. They share ``words`` equally.
            answers: for each, that of the previous round.
            words: of all documents of a question together, at most.
            round: the one that reads this.

        Raises:
            UsageError: the three do not have the same length, or no words are asked for.

        Example:
            >>> iron = Document("d", "Iron is a metal and an element.", "Iron")
            >>> Concatenation().enhance([Query("q", "What is iron?")], [[iron]], ["a metal"], words=4)[0].text
            'What is iron? a metal Iron is a metal'
        """
        if not len(queries) == len(documents) == len(answers):
            raise UsageError(f"{len(queries)} questions, {len(documents)} lists of documents, {len(answers)} answers")
        if words < 1:
            raise UsageError(f"a text of {words} words was asked for", mend="Ask for 1 or more")
        written = []
        for query, found, answer in zip(queries, documents, answers, strict=True):
            said = plain(answer if isinstance(answer, str) else answer.text)
            share = max(1, words // max(1, len(found)))
            texts = [lead(document.text, share) for document in found]
            text = " ".join(part for part in (query.text, said, *texts) if part)
            written.append(Connector(text, self.name, round))
        return written
