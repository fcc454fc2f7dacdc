"""UniGen: one shared encoder, a decoder that writes docids, a decoder that writes answers (paper, Figure 2c).

Here are the network and its losses. Its first weights come from `retgen.models.sources`; search is `retgen.docids`'
work, training `retgen.train`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.t5.modeling_t5 import T5Stack

from retgen.errors import UsageError
from retgen.models.config import UniGenConfig
from retgen.models.copying import CopyHead, mix_targets
from retgen.models.layout import SourceLayout, prefix_matches, question_matches, source_layout
from retgen.models.outputs import IGNORED, TASKS, Encoded, Task, UniGenOutput
from retgen.models.stacks import build_decoder, build_encoder, run_encoder, vocabulary_logits
from retgen.models.token_statistics import inverse_document_frequency

__all__ = [
    "IGNORED",
    "TASKS",
    "Encoded",
    "Task",
    "UniGenForRetrievalAndAnswering",
    "UniGenOutput",
    "inverse_document_frequency",
]


_NOWHERE = -1e9
"""Score of positions that may not be chosen; finite, so that a row without any other stays free of NaN."""


class UniGenForRetrievalAndAnswering(PreTrainedModel):  # type: ignore[no-untyped-call]
    """One encoder and two decoders that share embeddings and output head.

    `forward` returns the joint loss L = λ·L_retr + (1 − λ)·L_qa (Eqs. 5–7). Build one from a T5 checkpoint
    (`from_seq2seq`), from a BERT-like encoder (`from_encoder`) or from scratch; `retgen.models.sources.load_model` does
    all three, with the tokenizer.
    """

    config: UniGenConfig
    config_class = UniGenConfig
    base_model_prefix = "unigen"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _tied_weights_keys = {"lm_head.weight": "shared.weight"}  # noqa: RUF012

    token_weights: Tensor

    def __init__(self, config: UniGenConfig) -> None:
        super().__init__(config)
        if config.encoder is None or config.decoder is None:
            raise UsageError(
                "a UniGen configuration needs its encoder's and its decoders'",
                mend="Build the model with retgen.models.sources.load_model, or load a saved one",
            )
        self.pad_token_id = _token_id(config, "pad_token_id")
        self.eos_token_id = _token_id(config, "eos_token_id")
        self.start_token_id = _token_id(config, "decoder_start_token_id")
        if config.loss_reduction not in ("sum", "token_mean"):
            raise UsageError(f"unknown loss_reduction {config.loss_reduction!r}", mend="Pass sum or token_mean")
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = build_encoder(config.encoder)
        self.answer_encoder = None if config.share_encoder else build_encoder(config.encoder)
        self.retrieval_decoder = build_decoder(config.decoder)
        self.answer_decoder = build_decoder(config.decoder)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=config.output_bias)
        self.retrieval_copy = CopyHead(config) if config.copy_head else None
        self.answer_copy = CopyHead(config) if config.copy_head else None
        self.match_features = nn.Linear(2, config.d_model, bias=False) if config.copy_head else None
        self.span_head = nn.Linear(config.d_model, 2) if config.span_head else None
        self.register_buffer("token_weights", torch.ones(config.vocab_size))
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_seq2seq(
        cls, path: str | Path, *, texts: Iterable[str] | None = None, **options: Any
    ) -> UniGenForRetrievalAndAnswering:
        """A model whose encoder and both decoders are a T5-family checkpoint's; see `warm_start.from_seq2seq`."""
        from retgen.models.warm_start import from_seq2seq

        return from_seq2seq(path, texts=texts, **options)

    @classmethod
    def from_encoder(cls, path: str | Path, *, texts: Iterable[str], **options: Any) -> UniGenForRetrievalAndAnswering:
        """A model with a BERT-like checkpoint's encoder and fresh decoders; see `warm_start.from_encoder`."""
        from retgen.models.warm_start import from_encoder

        return from_encoder(path, texts=texts, **options)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Encoders and decoders have their own. These functions leave alone what a checkpoint has filled.
        if isinstance(module, CopyHead):
            module.reset_parameters()
        elif module is self:
            nn.init.ones_(self.token_weights)
        elif self.span_head is not None and module is self.span_head:
            nn.init.normal_(self.span_head.weight, std=0.02)
            nn.init.zeros_(self.span_head.bias)
        elif self.match_features is not None and module is self.match_features:
            nn.init.zeros_(self.match_features.weight)
        elif module is self.shared and isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)
        elif module is self.lm_head and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.d_model**-0.5)
            if self.config.output_bias:
                nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding that encoder and decoders share."""
        return self.shared

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace it."""
        self.shared = value  # type: ignore[assignment]

    def get_output_embeddings(self) -> nn.Module:
        """The output head that the decoders share."""
        head: nn.Module = self.lm_head
        return head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace it."""
        self.lm_head = new_embeddings

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Make room for more tokens, or cut some; new ones have the weight 0, like special tokens."""
        embeddings: nn.Embedding = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        weights = self.token_weights.new_zeros(self.shared.num_embeddings)
        kept = min(len(weights), len(self.token_weights))
        weights[:kept] = self.token_weights[:kept]
        self.token_weights = weights
        return embeddings

    def layout(self, input_ids: Tensor, attention_mask: Tensor) -> SourceLayout:
        """Blocks and docids of inputs (B, L), from their tokens alone."""
        return source_layout(
            input_ids,
            attention_mask,
            self.token_weights,
            boundary_token_id=self.config.boundary_token_id,
            docid_end_token_id=self.config.docid_end_token_id,
            eos_token_id=self.eos_token_id,
            max_blocks=self.config.max_blocks,
        )

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        """Run the encoder once for both decoders.

        Args:
            input_ids: (B, L) int64, L ≥ 1, padded at the right.
            attention_mask: (B, L), 1 for real tokens.
        """
        layout = None
        embeddings = self.shared(input_ids)
        if self.match_features is not None or self.span_head is not None:
            layout = self.layout(input_ids, attention_mask)
        if self.match_features is not None and layout is not None:
            matches = question_matches(layout, input_ids, attention_mask, self.token_weights)
            embeddings = embeddings + self.match_features(matches.to(self.match_features.weight.dtype))
        states = run_encoder(self.encoder, embeddings, attention_mask)
        answer_states = states
        if self.answer_encoder is not None:
            answer_states = run_encoder(self.answer_encoder, embeddings, attention_mask)
        return Encoded(input_ids, attention_mask, {"retrieval": states, "answer": answer_states}, layout)

    def decoder(self, task: Task) -> T5Stack:
        """The decoder of a task."""
        return self.retrieval_decoder if task == "retrieval" else self.answer_decoder

    def copy_head(self, task: Task) -> CopyHead | None:
        """The copy head of a task, where the model has one."""
        return self.retrieval_copy if task == "retrieval" else self.answer_copy

    def vocabulary_logits(
        self, hidden: Tensor, weight: Tensor | None = None, tokens: Tensor | slice | None = None
    ) -> Tensor:
        """fp32 logits over the vocabulary, (…, V), for decoder states (…, d): the projection itself runs in fp32.

        Args:
            hidden: (…, d).
            weight: (V, d); the output head's weight in fp32, where the caller keeps it.
            tokens: (t,) int64, or a slice of the vocabulary; only the logits of these are computed, (…, t).
        """
        hidden = hidden.float()
        if self.config.scale_decoder_outputs:
            hidden = hidden * self.config.d_model**-0.5
        bias = self.lm_head.bias if self.config.output_bias else None
        weight = self.lm_head.weight if weight is None else weight
        if tokens is not None:
            weight, bias = weight[tokens], None if bias is None else bias[tokens]
        return vocabulary_logits(hidden, weight, bias)

    def target_log_probabilities(self, task: Task, encoded: Encoded, labels: Tensor) -> Tensor:
        """Teacher-forced fp32 log-probability of every target token, (B, T); 0 where the label is -100."""
        known = labels != IGNORED
        targets = labels.masked_fill(~known, self.pad_token_id)
        start = torch.full_like(targets[:, :1], self.start_token_id)
        hidden = self.decoder(task)(
            inputs_embeds=self.shared(torch.cat((start, targets[:, :-1]), dim=1)),
            encoder_hidden_states=encoded.states[task],
            encoder_attention_mask=encoded.attention_mask,
            use_cache=False,
        ).last_hidden_state
        scored = torch.zeros(targets.shape, device=targets.device)
        logits = self.vocabulary_logits(hidden[known])
        scored[known] = logits.gather(1, targets[known].unsqueeze(1)).squeeze(1) - logits.logsumexp(dim=-1)
        head = self.copy_head(task)
        if head is not None and encoded.layout is not None:
            layout = encoded.layout
            matches = prefix_matches(layout, targets[:, :-1], docids=task == "retrieval")
            attention = head.log_attention(hidden, head.keys(encoded.states[task], layout), layout, matches)
            same = layout.copy_ids.unsqueeze(1) == targets.unsqueeze(2)
            scored = mix_targets(scored, attention, head.log_gate(hidden, layout), same & layout.copyable.unsqueeze(1))
        return scored * known

    def span_log_probabilities(self, encoded: Encoded) -> Tensor:
        """(B, L, 2) fp32 log-probabilities that an answer starts and ends (inclusive) at a position."""
        if self.span_head is None:
            raise UsageError("this model has no span head", mend="Build it with span_head=True")
        scores: Tensor = self.span_head(encoded.states["answer"]).float()
        allowed = encoded.attention_mask.bool() if encoded.layout is None else encoded.layout.copyable
        return scores.masked_fill(~allowed.unsqueeze(-1), _NOWHERE).log_softmax(dim=1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        docid_labels: Tensor | None = None,
        answer_labels: Tensor | None = None,
        answer_spans: Tensor | None = None,
        **_: Any,
    ) -> UniGenOutput:
        """The joint loss.

        Args:
            input_ids: (B, L) int64; the Q-Connector.
            attention_mask: (B, L).
            docid_labels: (B, T) int64 ending in EOS; -100 pads. A row of -100 has no docid.
            answer_labels: (B, T') int64 likewise.
            answer_spans: (B, S, 2) int64 start and inclusive end positions of the answer in the input; -1 pads.
        """
        encoded = self.encode(input_ids, attention_mask)
        parts: dict[str, Tensor | None] = {"retrieval": None, "answer": None, "span": None}
        weights = {
            "retrieval": self.config.retrieval_loss_weight,
            "answer": 1 - self.config.retrieval_loss_weight,
            "span": self.config.span_loss_weight,
        }
        for task, labels in (("retrieval", docid_labels), ("answer", answer_labels)):
            if labels is not None and bool((labels != IGNORED).any()):
                log_probabilities = self.target_log_probabilities(task, encoded, labels)  # type: ignore[arg-type]
                parts[task] = self._reduce(log_probabilities, labels != IGNORED)
        if self.span_head is not None and answer_spans is not None and bool((answer_spans >= 0).any()):
            parts["span"] = self._span_loss(encoded, answer_spans)
        present = [weights[name] * part for name, part in parts.items() if part is not None]
        # A batch without any target still needs a loss that reaches the weights, so that distributed training goes on.
        loss = sum(present[1:], present[0]) if present else encoded.states["answer"].sum() * 0.0
        return UniGenOutput(
            loss=loss, retrieval_loss=parts["retrieval"], answer_loss=parts["answer"], span_loss=parts["span"]
        )

    def _reduce(self, log_probabilities: Tensor, known: Tensor) -> Tensor:
        # Examples without a target are left out of the average over the batch.
        if self.config.loss_reduction == "token_mean":
            return -log_probabilities.sum() / known.sum()
        return -log_probabilities.sum() / known.any(dim=1).sum()

    def _span_loss(self, encoded: Encoded, spans: Tensor) -> Tensor | None:
        # -log of the summed probability of all given spans: any of the answer's occurrences will do.
        log_probabilities = self.span_log_probabilities(encoded)
        where = spans.clamp(min=0)
        starts = log_probabilities[..., 0].gather(1, where[..., 0])
        ends = log_probabilities[..., 1].gather(1, where[..., 1])
        # A span outside of the context (in the question, at a mark) is none that the head could point at.
        known = (spans >= 0).all(dim=-1) & (torch.minimum(starts, ends) > _NOWHERE / 2)
        joint = (starts + ends).masked_fill(~known, _NOWHERE).logsumexp(dim=1)
        with_span = known.any(dim=1)
        if not bool(with_span.any()):
            return None
        return -joint[with_span].mean()


def _token_id(config: UniGenConfig, name: str) -> int:
    value = getattr(config, name)
    if not isinstance(value, int):
        raise UsageError(f"a UniGen configuration needs its {name}, not {value!r}")
    return value


AutoModel.register(UniGenConfig, UniGenForRetrievalAndAnswering, exist_ok=True)
