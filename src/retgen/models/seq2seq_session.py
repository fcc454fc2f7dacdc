"""Any Hugging Face encoder-decoder (T5, BART, …) as a session of the constrained search.

The encoder runs once per query. Self-attention caches follow the beams; cross-attention caches are the same for all
beams of a query, so they are laid out anew only when the number of beams changes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from retgen.errors import UsageError

if TYPE_CHECKING:
    from torch import LongTensor, Tensor
    from transformers import PreTrainedModel


class Seq2SeqSession:
    """One block of queries, encoded, being decoded by an encoder-decoder with a language model head.

    Satisfies `retgen.docids.session.DecoderSession` and `ScoringSession`. The output projection runs in fp32 whatever
    the model's own type, because bf16 logits cannot be told apart once they have been rounded.

    Args:
        model: in evaluation mode.
        encoder_states: ``(batch, length, d_model)``, the encoder's last hidden states.
        attention_mask: ``(batch, length)``, 1 where the input has a token.

    Raises:
        UsageError: the model is no encoder-decoder, has no output embeddings, or is in training mode (dropout would
            make the search random).
    """

    def __init__(self, model: PreTrainedModel, encoder_states: Tensor, attention_mask: Tensor) -> None:
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        if not getattr(model.config, "is_encoder_decoder", False) or head is None:
            raise UsageError(f"{type(model).__name__} is not an encoder-decoder with a language model head")
        if model.training:
            raise UsageError("the model is in training mode: dropout would make the search random", mend="Call .eval()")
        self.model = model
        self.batch_size = int(encoder_states.shape[0])
        self.vocab_size = int(head.weight.shape[0])
        self._head = head
        self._fp32_weight: Tensor | None = None if head.weight.dtype == torch.float32 else head.weight.detach().float()
        self._states = encoder_states
        self._mask = attention_mask.to(encoder_states.device)
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self._width = 1
        self._repeated = (self._states, self._mask)

    @classmethod
    def encode(cls, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Seq2SeqSession:
        """Run the encoder over inputs ``(batch, length)`` and open a session on its states."""
        device = model.device
        with torch.inference_mode():
            states = model.get_encoder()(
                input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), return_dict=True
            ).last_hidden_state
        return cls(model, states, attention_mask)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Logits of the next token: tokens ``(batch, m)`` → ``(batch, m, vocab_size)`` fp32."""
        if tokens.shape != (self.batch_size, self._width):
            raise UsageError(
                f"this session stands at {self._width} rows for each of {self.batch_size} queries; "
                f"got tokens of shape {tuple(tokens.shape)}"
            )
        logits = self._logits(tokens.reshape(-1, 1), *self._repeated, cache=self._cache)
        return logits.reshape(*tokens.shape, self.vocab_size)

    @torch.inference_mode()
    def reorder(self, parents: Tensor) -> None:
        """Continue, in each new row, the row of the same query that ``parents (batch, m')`` names."""
        device = self._states.device
        base = torch.arange(self.batch_size, device=device)[:, None] * self._width
        rows = cast("LongTensor", (base + parents.to(device)).reshape(-1))
        self._cache.self_attention_cache.reorder_cache(rows)
        if parents.shape[1] != self._width:
            self._cache.cross_attention_cache.reorder_cache(rows)
            self._width = int(parents.shape[1])
            self._repeated = self._repeat(self._width)

    @torch.inference_mode()
    def score(self, tokens: Tensor) -> Tensor:
        """Logits at every position: decoder inputs ``(batch, m, length)`` → ``(batch, m, length, vocab_size)`` fp32.

        Independent of `step`: the rows being decoded stay as they are.
        """
        if tokens.dim() != 3 or tokens.shape[0] != self.batch_size:
            raise UsageError(f"tokens to score must be ({self.batch_size}, m, length), not {tuple(tokens.shape)}")
        logits = self._logits(tokens.flatten(0, 1), *self._repeat(int(tokens.shape[1])), cache=None)
        return logits.reshape(*tokens.shape, self.vocab_size)

    def _repeat(self, width: int) -> tuple[Tensor, Tensor]:
        """Encoder states and mask, once per row."""
        return self._states.repeat_interleave(width, dim=0), self._mask.repeat_interleave(width, dim=0)

    def _logits(self, tokens: Tensor, states: Tensor, mask: Tensor, *, cache: EncoderDecoderCache | None) -> Tensor:
        hook = None
        if self._fp32_weight is not None:
            hook = self._head.register_forward_hook(partial(_project_in_fp32, self._fp32_weight))
        try:
            output = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=states),
                attention_mask=mask,
                decoder_input_ids=tokens.to(states.device),
                past_key_values=cache,
                use_cache=cache is not None,
                return_dict=True,
            )
        finally:
            if hook is not None:
                hook.remove()
        logits: Tensor = output.logits
        return logits.float()


def _project_in_fp32(weight: Tensor, module: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """The output of a linear layer once more, from its input and its weights in fp32."""
    bias = getattr(module, "bias", None)
    return torch.nn.functional.linear(inputs[0].float(), weight, None if bias is None else bias.float())
