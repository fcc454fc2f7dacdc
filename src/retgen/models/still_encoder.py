"""An encoder that is not trained reads each text once: its states are kept in memory while decoders learn from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from retgen.models.copying import in_fp32
from retgen.models.stacks import run_encoder
from retgen.models.state_memory import StateMemory, Tokens

if TYPE_CHECKING:
    from retgen.models.unigen import UniGenForRetrievalAndAnswering

MOST_TOKENS = 2**21
"""Of all texts that are kept: 3 GiB at a width of 384 in fp32."""
_READ_AT_ONCE = 4096
"""Tokens, padding included."""


class StillEncoder:
    """What a model's encoder makes of texts, each computed once, without dropout, gradients or autocasting.

    Args:
        model: whose encoder and embeddings keep their weights.
        most_tokens: of all texts that are kept.
    """

    def __init__(self, model: UniGenForRetrievalAndAnswering, most_tokens: int = MOST_TOKENS) -> None:
        self.model = model
        self.memory = StateMemory(most_tokens)

    def read(self, texts: Iterable[Sequence[int]]) -> None:
        """Read texts that will be asked for, if there is room for all of them.

        The order and the batches depend on the texts alone, and so do the states to the last bit, whatever is asked for
        first.

        Args:
            texts: token ids, without padding.
        """
        ordered = sorted({tuple(text) for text in texts if text}, key=lambda text: (len(text), text))
        if sum(map(len, ordered)) > self.memory.most_tokens:
            return
        start = 0
        while start < len(ordered):
            stop = start + 1
            while stop < len(ordered) and len(ordered[stop]) * (stop + 1 - start) <= _READ_AT_ONCE:
                stop += 1
            self._compute(ordered[start:stop])
            start = stop

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States (B, L, d) for padded inputs (B, L); 0 at padding."""
        counts = attention_mask.sum(dim=1).tolist()
        rows = [tuple(row[:count]) for row, count in zip(input_ids.tolist(), counts, strict=True)]
        weight = self.model.shared.weight
        known = self.memory.get(rows, weight.device, weight.dtype)
        missing = sorted({row for row in rows if row and row not in known})
        if missing:
            known = known | self._compute(missing)
        states = weight.new_zeros((*input_ids.shape, weight.shape[1]))
        for number, row in enumerate(rows):
            if row:
                states[number, : len(row)] = known[row]
        return states

    def _compute(self, texts: list[Tokens]) -> dict[Tokens, Tensor]:
        model, device = self.model, self.model.shared.weight.device
        input_ids = torch.full((len(texts), max(map(len, texts))), model.pad_token_id, dtype=torch.int64)
        for row, text in zip(input_ids, texts, strict=True):
            row[: len(text)] = torch.tensor(text)
        lengths = torch.tensor([len(text) for text in texts]).unsqueeze(1)
        mask = (torch.arange(input_ids.shape[1]) < lengths).long().to(device)
        training = model.encoder.training
        model.encoder.eval()
        try:
            # In fp32 whoever asks, so that what is kept does not depend on whether it was read ahead.
            with torch.no_grad(), in_fp32(device):
                states = run_encoder(model.encoder, model.shared(input_ids.to(device)), mask)
        finally:
            model.encoder.train(training)
        # Copies, so that the padded batch is not kept alive by its rows.
        made = {text: row[: len(text)].clone() for text, row in zip(texts, states, strict=True)}
        self.memory.put(made)
        return made


@contextmanager
def still_encoder(model: UniGenForRetrievalAndAnswering) -> Iterator[StillEncoder | None]:
    """Within it, an encoder none of whose weights has a gradient reads each text once; gives None for any other.

    What a model adds to its encoder's inputs, and an encoder of its own for answers, are read anew each time.
    """
    weights = [*model.encoder.parameters(), *model.shared.parameters()]
    moving = any(weight.requires_grad for weight in weights)
    if moving or model.match_features is not None or model.answer_encoder is not None:
        yield None
        return
    model.still = StillEncoder(model)
    try:
        yield model.still
    finally:
        model.still = None
