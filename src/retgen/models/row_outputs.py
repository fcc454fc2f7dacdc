"""What a decoder leaves behind its tokens, with the output projection still to come: computed where it is asked for.

The outputs of UniGen with a copy head are in `copy_outputs`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Projection = Callable[[Tensor, Tensor | None], Tensor]
"""States (p, d), and tokens (t,) or None for the whole vocabulary, to fp32 logits (p, t) or (p, V)."""


class ProjectedOutputs:
    """Decoder states that an output projection turns into logits; a `retgen.docids.session.RowOutputs`.

    Args:
        hidden: (…, d) states, laid end to end.
        project: the output projection.
    """

    def __init__(self, hidden: Tensor, project: Projection) -> None:
        self._hidden = hidden.reshape(-1, hidden.shape[-1])
        self._project = project

    @torch.inference_mode()
    def logits(self, places: Tensor, tokens: Tensor | None = None) -> Tensor:
        """(p, vocab_size) fp32 logits at places (p,), or (p, t) of some tokens (t,)."""
        device = self._hidden.device
        return self._project(self._hidden[places.to(device)], None if tokens is None else tokens.to(device))
