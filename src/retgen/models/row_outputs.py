"""What a decoder leaves behind its tokens, with the output projection still to come: computed where it is asked for.

The outputs of UniGen with a copy head are in `copy_outputs`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from retgen.docids.normaliser import target_log_probs

Projection = Callable[[Tensor, Tensor | slice | None], Tensor]
"""States (p, d), and tokens (t,), a slice of them, or None for all of the vocabulary, to fp32 logits (p, t)."""


class ProjectedOutputs:
    """Decoder states that an output projection turns into logits; a `retgen.docids.session.ListOutputs`.

    Args:
        hidden: (…, d) states, laid end to end.
        project: the output projection.
        vocab_size: tokens of the vocabulary.
    """

    def __init__(self, hidden: Tensor, project: Projection, vocab_size: int) -> None:
        self._hidden = hidden.reshape(-1, hidden.shape[-1])
        self._project, self._vocab_size = project, vocab_size

    @torch.inference_mode()
    def logits(self, places: Tensor, tokens: Tensor | None = None) -> Tensor:
        """(p, vocab_size) fp32 logits at places (p,), or (p, t) of some tokens (t,)."""
        device = self._hidden.device
        return self._project(self._hidden[places.to(device)], None if tokens is None else tokens.to(device))

    @torch.inference_mode()
    def log_probs(self, places: Tensor, tokens: Tensor) -> Tensor:
        """(p,) fp32 log-probabilities of tokens (p,), one at each of places (p,)."""
        return self.list_log_probs(places, tokens)

    @torch.inference_mode()
    def list_log_probs(self, places: Tensor, tokens: Tensor) -> Tensor:
        """(p, m) fp32 log-probabilities of tokens (p, m), m at each of places (p,)."""
        device = self._hidden.device
        hidden = self._hidden[places.to(device)]
        return target_log_probs(lambda part: self._project(hidden, part), self._vocab_size, tokens.to(device))
