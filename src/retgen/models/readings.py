"""What goes into a reader (`retgen.models.reader`) and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from retgen.types import Document

if TYPE_CHECKING:
    from transformers.utils.generic import ModelOutput

Batch = dict[str, Tensor]
"""What `Reader.batch` gives."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A question, and what is to be read for it.

    Args:
        question: its text.
        passages: best first; none for a closed-book reader.
        scores: the retrieval score of each; RAG's p(z|x) is their softmax.
    """

    question: str
    passages: tuple[Document, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as token ids.

    Args:
        token_ids: without EOS.
        score: log p(answer | question, passages), nats, ≤ 0: over its tokens, and EOS where it was written.
        tokens: how many of them were summed.
        shares: what each passage had in it, summing to 1: see the reader's class. Empty for a closed-book reader.
    """

    token_ids: tuple[int, ...]
    score: float
    tokens: int
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the decoder reads.

    Args:
        outputs: encoder states (R, W, d), with the tokens they are of where a copy head needs them.
        mask: (R, W), 1 for real tokens.
        question: (R,) the question of each row; rising.
        passage: (R, W) the passage of each state, from 0 for each question; −1 where there is none.
    """

    outputs: ModelOutput
    mask: Tensor
    question: Tensor
    passage: Tensor
