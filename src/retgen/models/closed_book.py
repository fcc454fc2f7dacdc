"""Closed book: question → answer, from what the model's weights hold. No passage is ever read."""

from __future__ import annotations

from typing import ClassVar

from retgen.models.reader import PlainReader


class ClosedBookReader(PlainReader):
    """An encoder-decoder that reads the question alone; passages that a `Reading` may carry are not looked at.

    Reference:
        Roberts et al., "How Much Knowledge Can You Pack Into the Parameters of a Language Model?", 2020.
    """

    method: ClassVar[str] = "closed-book"
    reads_passages: ClassVar[bool] = False
