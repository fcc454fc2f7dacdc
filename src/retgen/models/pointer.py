"""The query generator's copy head: content attention over the passage's tokens, and a gate. An option, not in JPR.

Unlike UniGen's copy head (`retgen.models.copying`), which reads the layout of a written context and starts with a
prior, this one reads plain passages and starts neutral. The mixtures are the same functions.
"""

from __future__ import annotations

import math

from torch import Tensor, einsum, nn

from retgen.models.copying import in_fp32, log_gates


class PointerHead(nn.Module):
    """A distribution over a passage's positions for every step of the decoder.

    With decoder states h and encoder states s, ``attention_t = softmax_j(W_q h_t · W_k s_j / √d)`` over the positions
    that may be copied, and ``gate_t = σ(w · h_t + b)``. A token v has the probability
    ``gate_t · Σ_{j: token_j = v} attention_t(j) + (1 − gate_t) · softmax_v(logits_t)``.

    Args:
        size: d, the width of both kinds of states.

    Reference: See et al., "Get To The Point: Summarization with Pointer-Generator Networks", 2017.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.gate = nn.Linear(size, 1)

    def reset_parameters(self) -> None:
        """Neutral: nearly uniform attention, and a gate that copies as often as it writes."""
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=0.3 / math.sqrt(layer.in_features))
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def log_attention(self, hidden: Tensor, states: Tensor, copyable: Tensor) -> Tensor:
        """(B, T, L) fp32 log-probabilities over source positions.

        Args:
            hidden: (B, T, d) decoder states.
            states: (B, L, d) encoder states.
            copyable: (B, L) bool.
        """
        # W_k goes to the query's side: there are fewer steps than positions, and steps of a generation come one by one.
        query = self.query(hidden) @ self.key.weight
        with in_fp32(hidden.device):
            scores = einsum("btd,bld->btl", query.float(), states.float()) * hidden.shape[-1] ** -0.5
            scores = scores.masked_fill(~copyable.unsqueeze(1), -1e9)
        attention: Tensor = scores.log_softmax(dim=-1)
        return attention

    def log_gate(self, hidden: Tensor, copyable: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T) fp32 of copying and of writing."""
        return log_gates(self.gate(hidden), copyable)
