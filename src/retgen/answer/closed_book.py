"""Closed-book answers: question → answer, without a corpus."""

from __future__ import annotations

from typing import ClassVar

from retgen.answer.reading import ReadingAnswerer
from retgen.models.closed_book import ClosedBookReader
from retgen.models.reader import Reader


class ClosedBook(ReadingAnswerer):
    """Answers with an encoder-decoder that reads the question alone: T5 or BART, closed book.

    Run and documents are not looked at, and need not be given. See `ReadingAnswerer` for arguments and answers.

    Example:
        >>> answers = ClosedBook.from_pretrained("t5-base").answer(queries, None, None)  # doctest: +SKIP
    """

    reader_class: ClassVar[type[Reader]] = ClosedBookReader
