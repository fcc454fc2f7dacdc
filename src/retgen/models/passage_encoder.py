"""The query generator's encoder: a BERT-like network behind shared embeddings, and states that carry their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import ModelOutput

from retgen.models.stacks import build_encoder, run_encoder


@dataclass
class PassageStates(ModelOutput):
    """What the encoder gives. ``source_ids`` ride along for the copy head, wherever the states are repeated.

    Args:
        last_hidden_state: (B, L, d).
        source_ids: (B, L) int64; the passages' tokens.
    """

    last_hidden_state: Tensor | None = None
    source_ids: Tensor | None = None


class PassageEncoder(nn.Module):
    """A BERT-like encoder behind word embeddings that it shares with the decoder.

    Args:
        options: its configuration as a dict.
        embeddings: the shared ones.
        pad_token_id: of the inputs, for those that come without a mask.
        frozen: run without dropout and without gradients.
    """

    main_input_name = "input_ids"

    def __init__(
        self, options: dict[str, Any] | None, embeddings: nn.Embedding, *, pad_token_id: int, frozen: bool
    ) -> None:
        super().__init__()
        self.embed_tokens = embeddings
        self.network = build_encoder(options)
        self.config = self.network.config
        self.pad_token_id = pad_token_id
        self.frozen = frozen

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> PassageStates:
        """States of passages.

        Args:
            input_ids: (B, L) int64, padded at the right.
            attention_mask: (B, L), 1 for real tokens.

        Raises:
            UsageError: the passages are longer than the encoder can read.
        """
        mask = input_ids.ne(self.pad_token_id).long() if attention_mask is None else attention_mask
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = run_encoder(self.network, self.embed_tokens(input_ids), mask)
        return PassageStates(last_hidden_state=states, source_ids=input_ids)

    def train(self, mode: bool = True) -> PassageEncoder:
        """Training or evaluation mode; what is frozen is never trained, so it never drops anything out."""
        super().train(mode and not self.frozen)
        return self


def gathered(outputs: ModelOutput, rows: Tensor) -> ModelOutput:
    """An encoder's outputs with row ``rows[i]`` at i: each passage encoded once, for all its queries.

    Args:
        outputs: of any encoder of transformers', or of ours.
        rows: (R,) int64.
    """
    kept = {name: getattr(outputs, name, None) for name in ("last_hidden_state", "source_ids")}
    taken = {name: value.index_select(0, rows) for name, value in kept.items() if isinstance(value, Tensor)}
    if isinstance(outputs, PassageStates):
        return PassageStates(**taken)
    return BaseModelOutput(last_hidden_state=taken["last_hidden_state"])
