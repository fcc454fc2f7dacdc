"""RAG as an answerer: the retrieval scores of a run's first passages weigh what is written from each."""

from __future__ import annotations

from typing import ClassVar

from retgen.answer.reading import ReadingAnswerer
from retgen.models.rag import RagReader
from retgen.models.reader import Reader


class Rag(ReadingAnswerer):
    """Answers with RAG-Sequence or RAG-Token over the run's first passages and their scores; the index is frozen.

    A citation's share is that passage's posterior, given the answer. See `ReadingAnswerer` for arguments and answers,
    and `retgen.models.rag.RagReader` for the model and its options.

    Example:
        >>> options = {"marginal": "token"}
        >>> rag = Rag.from_pretrained("facebook/bart-large", passages=5, reader_options=options)  # doctest: +SKIP
    """

    reader_class: ClassVar[type[Reader]] = RagReader
