"""What goes into UniGen's decoders and what comes out of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from transformers.utils.generic import ModelOutput

from retgen.models.layout import SourceLayout

Task = Literal["retrieval", "answer"]
TASKS: tuple[Task, Task] = ("retrieval", "answer")
IGNORED = -100
"""Label of positions without a target."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of inputs after the encoder, ready for both decoders.

    Args:
        input_ids: (B, L) int64.
        attention_mask: (B, L) int64.
        states: task → (B, L, d); the same tensor for both tasks where the encoder is shared.
        layout: blocks and docids of the inputs; None where neither a copy head nor a span head reads it.
    """

    input_ids: Tensor
    attention_mask: Tensor
    states: dict[Task, Tensor]
    layout: SourceLayout | None


@dataclass
class UniGenOutput(ModelOutput):
    """Losses of a batch: the whole (Eq. 7, with what the options add) and its parts, None where there are none."""

    loss: Tensor | None = None
    retrieval_loss: Tensor | None = None
    answer_loss: Tensor | None = None
    span_loss: Tensor | None = None
    consistency_loss: Tensor | None = None
