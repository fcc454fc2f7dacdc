"""The output head of a language model, in fp32 whatever the model's type, and only over the positions that count.

Most of what a head computes over padded targets is thrown away, and logits in bf16 cannot be told apart: hooks narrow
its input to chosen positions and replace its product. What the model does with its logits afterwards (BART's bias, a
soft cap) is left to the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from retgen.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROWS_AT_ONCE = 256


class Fp32Head:
    """The head of one model. Make it anew when the weights have changed: it may hold a copy of them.

    Args:
        model: a language model with output embeddings.

    Raises:
        UsageError: the model has none.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._module: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        weight = getattr(self._module, "weight", None)
        if weight is None:
            raise UsageError(f"{type(model).__name__} has no language model head")
        self.vocab_size = int(weight.shape[0])
        self._copy: tuple[Tensor, Tensor | None] | None = None
        if weight.dtype != torch.float32:
            bias = getattr(self._module, "bias", None)
            self._copy = (weight.detach().float(), None if bias is None else bias.detach().float())

    @contextmanager
    def over(self, keep: Tensor) -> Iterator[None]:
        """Within this context the model's logits are ``(1, n, vocab_size)`` fp32: those of the n kept positions.

        Args:
            keep: ``(batch, length)`` bool, shaped as the model's input of the head.
        """
        kept: list[Tensor] = []

        def narrow(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            kept.append(inputs[0][keep].unsqueeze(0))
            # Where the product is replaced, the head's own need not be computed but for its shape.
            return (kept[-1] if self._copy is None else kept[-1][:, :1], *inputs[1:])

        def project(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self._copy is None:
                return None
            with torch.autocast(kept[-1].device.type, enabled=False):
                return nn.functional.linear(kept[-1].float(), *self._copy)

        handles = (self._module.register_forward_pre_hook(narrow), self._module.register_forward_hook(project))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Within this context the model's logits are fp32 at all positions, under autocast too, and gradients flow."""
        whole: list[Tensor] = []
        plain: list[torch.autocast] = []

        def hold(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            device = inputs[0].device.type
            if self._copy is not None:
                whole.append(inputs[0])
                return (inputs[0][..., :1, :], *inputs[1:])
            if not torch.is_autocast_enabled(device):
                return None
            plain.append(torch.autocast(device, enabled=False))
            plain[-1].__enter__()  # type: ignore[no-untyped-call]
            return tuple(value.float() if isinstance(value, Tensor) else value for value in inputs)

        def project(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None) -> Tensor | None:
            if plain:
                plain.pop().__exit__(None, None, None)
            if not whole or self._copy is None:
                return None
            states = whole.pop()
            with torch.autocast(states.device.type, enabled=False):
                return nn.functional.linear(states.float(), *self._copy)

        handles = (
            self._module.register_forward_pre_hook(hold),
            self._module.register_forward_hook(project, always_call=True),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def target_log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-softmax of logits ``(n, vocab_size)`` at targets ``(n,)``, in fp32: ``(n,)``.

    In slices, so that no second tensor of the logits' size is made.
    """
    logits = logits.float()
    totals = [part.logsumexp(dim=-1) for part in torch.split(logits, _ROWS_AT_ONCE)]
    chosen = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return chosen - torch.cat(totals) if totals else chosen
