"""Fusion-in-Decoder as an answerer: reads a run's first passages, and cites them by their share of its attention."""

from __future__ import annotations

from typing import ClassVar

from retgen.answer.reading import ReadingAnswerer
from retgen.models.fid import FiDReader
from retgen.models.reader import Reader


class FiD(ReadingAnswerer):
    """Answers with Fusion-in-Decoder over the run's first passages.

    A citation's share is the decoder's cross-attention on that passage. See `ReadingAnswerer` for arguments and
    answers, and `retgen.models.fid.FiDReader` for the model.

    Example:
        >>> fid = FiD.from_pretrained("t5-base", passages=100)  # doctest: +SKIP
        >>> run, answers = (retriever >> fid).over(index)(questions)  # doctest: +SKIP
    """

    reader_class: ClassVar[type[Reader]] = FiDReader
