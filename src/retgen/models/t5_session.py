"""A T5 or mT5 as a session of the constrained search, as quick as its layers allow.

The encoder runs once per query, and its states are attended to once per query (`row_decoder`); queries may have unlike
numbers of rows. Other encoder-decoders are searched by `seq2seq_session`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration

from retgen.errors import UsageError
from retgen.models.row_decoder import RowDecoder
from retgen.models.row_outputs import ProjectedOutputs
from retgen.models.seq2seq_session import Seq2SeqSession
from retgen.models.stacks import vocabulary_logits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel
    from transformers.models.t5.modeling_t5 import T5Stack

    from retgen.docids.session import RowOutputs


def open_session(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> T5Session | Seq2SeqSession:
    """Run the encoder over inputs ``(batch, length)`` and open the session that suits the model best.

    Raises:
        UsageError: the model is no encoder-decoder with a language model head, or is in training mode.
    """
    if isinstance(model, T5ForConditionalGeneration | MT5ForConditionalGeneration):
        return T5Session.encode(model, input_ids, attention_mask)
    return Seq2SeqSession.encode(model, input_ids, attention_mask)


class T5Session:
    """One block of queries, encoded, being decoded row by row. Satisfies `retgen.docids.session.RowSession`.

    The output projection runs in fp32 whatever the weights' type.

    Args:
        model: a `T5ForConditionalGeneration` (T5, T5 v1.1, Flan-T5, ByT5) or `MT5ForConditionalGeneration`, in
            evaluation mode.
        encoder_states: ``(batch, length, d_model)``, the encoder's last hidden states.
        attention_mask: ``(batch, length)``, 1 where the input has a token.

    Raises:
        UsageError: the model is another, or in training mode (dropout would make the search random).
    """

    def __init__(self, model: PreTrainedModel, encoder_states: Tensor, attention_mask: Tensor) -> None:
        if not isinstance(model, T5ForConditionalGeneration | MT5ForConditionalGeneration):
            raise UsageError(
                f"{type(model).__name__} is no T5 with a language model head", mend="Use Seq2SeqSession for it"
            )
        if model.training:
            raise UsageError("the model is in training mode: dropout would make the search random", mend="Call .eval()")
        self.model = model
        self.batch_size = int(encoder_states.shape[0])
        self._device = encoder_states.device
        self._mask = attention_mask.to(self._device)
        self._scale = 1.0
        if isinstance(model, T5ForConditionalGeneration) and model.config.scale_decoder_outputs:
            self._scale = float(model.config.d_model) ** -0.5
        with torch.inference_mode():
            # Converted once: for bf16 weights this copies the whole matrix.
            self._weight = model.lm_head.weight.detach().float()
            self._open(cast("T5Stack", model.decoder), encoder_states)
        self.vocab_size = int(self._weight.shape[0])

    def _open(self, stack: T5Stack, states: Tensor) -> None:
        self._states = states
        self._decoder = RowDecoder(stack, states, self._mask)

    @classmethod
    def encode(cls, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> T5Session:
        """Run the encoder over inputs ``(batch, length)`` and open a session on its states."""
        device = model.device
        with torch.inference_mode():
            states = model.get_encoder()(
                input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), return_dict=True
            ).last_hidden_state
        return cls(model, states, attention_mask)

    @torch.inference_mode()
    def in_fp32(self) -> T5Session:
        """A session over the same states with an fp32 copy of the decoder; itself where it is fp32 already."""
        if self._states.dtype == torch.float32:
            return self
        finer = copy.copy(self)
        decoder: Any = copy.deepcopy(self.model.decoder)
        finer._open(decoder.float(), self._states.float())
        return finer

    @torch.inference_mode()
    def step_rows(
        self, parents: Tensor, tokens: Tensor, tails: tuple[Tensor, Tensor] | None = None
    ) -> tuple[RowOutputs, RowOutputs | None]:
        """One more token of rows ``(n,)``, and the rest ``(r, T)`` of rows ``(r,)`` that end; see `RowSession`."""
        rest = None if tails is None else (tails[0].to(self._device), self._embed(tails[1]))
        hidden, tail_hidden = self._decoder.step_rows(parents.to(self._device), self._embed(tokens), rest)
        ended = None if tail_hidden is None else ProjectedOutputs(tail_hidden, self._project, self.vocab_size)
        return ProjectedOutputs(hidden, self._project, self.vocab_size), ended

    @torch.inference_mode()
    def read_rows(self, queries: Tensor, tokens: Tensor) -> RowOutputs:
        """Whole texts ``(r, T)`` of queries ``(r,)``, the start token first; see `RowSession`."""
        hidden = self._decoder.read(queries.to(self._device), self._embed(tokens))
        return ProjectedOutputs(hidden, self._project, self.vocab_size)

    def _embed(self, tokens: Tensor) -> Tensor:
        embeddings: Tensor = self.model.shared(tokens.to(self._device).clamp(min=0))
        return embeddings.to(self._states.dtype)

    @torch.inference_mode()
    def _project(self, hidden: Tensor, tokens: Tensor | slice | None) -> Tensor:
        weight = self._weight if tokens is None else self._weight[tokens]
        return vocabulary_logits(hidden.float() * self._scale, weight)
