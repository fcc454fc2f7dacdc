"""UniGen: one shared encoder, a decoder that writes docids, a decoder that writes answers (paper, Figure 2c).

Here are the network, its losses, and its saving and loading. Search is `retgen.docids`' work, training `retgen.train`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel, T5Config
from transformers.models.t5.modeling_t5 import T5Stack
from transformers.utils import ModelOutput

from retgen.errors import UsageError
from retgen.models.config import UniGenConfig
from retgen.models.copying import CopyHead, mix_targets
from retgen.models.layout import SourceLayout, prefix_matches, source_layout

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
        layout: blocks and docids of the inputs; None without a copy head.
    """

    input_ids: Tensor
    attention_mask: Tensor
    states: dict[Task, Tensor]
    layout: SourceLayout | None


@dataclass
class UniGenOutput(ModelOutput):
    """Losses of a batch: the whole (Eq. 7 plus the span loss), and its parts; None where no example has that target."""

    loss: Tensor | None = None
    retrieval_loss: Tensor | None = None
    answer_loss: Tensor | None = None
    span_loss: Tensor | None = None


class UniGenForRetrievalAndAnswering(PreTrainedModel):  # type: ignore[no-any-unimported, misc]
    """One encoder and two decoders that share embeddings and output head.

    `forward` returns the joint loss L = λ·L_retr + (1 − λ)·L_qa (Eqs. 5–7). Build one from a T5 checkpoint, from a
    BERT-like encoder or from scratch with `retgen.models.sources.load_model`.
    """

    config_class = UniGenConfig
    base_model_prefix = "unigen"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _tied_weights_keys = {"lm_head.weight": "shared.weight"}  # noqa: RUF012

    def __init__(self, config: UniGenConfig) -> None:
        super().__init__(config)
        if config.encoder is None or config.decoder is None:
            raise UsageError(
                "a UniGen configuration needs its encoder's and its decoders'",
                mend="Build the model with retgen.models.sources.load_model, or load a saved one",
            )
        if config.loss_reduction not in ("sum", "token_mean"):
            raise UsageError(f"unknown loss_reduction {config.loss_reduction!r}", mend="Pass sum or token_mean")
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = _build_encoder(config)
        self.answer_encoder = None if config.share_encoder else _build_encoder(config)
        self.retrieval_decoder = _build_decoder(config)
        self.answer_decoder = _build_decoder(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=config.output_bias)
        self.retrieval_copy = CopyHead(config) if config.copy_head else None
        self.answer_copy = CopyHead(config) if config.copy_head else None
        self.match_features = nn.Linear(2, config.d_model, bias=False) if config.copy_head else None
        self.span_head = nn.Linear(config.d_model, 2) if config.span_head else None
        self.register_buffer("token_weights", torch.ones(config.vocab_size))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, CopyHead):
            module.reset_parameters()
        elif module is self.span_head:
            nn.init.normal_(module.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif module is self.match_features:
            nn.init.zeros_(module.weight)  # type: ignore[arg-type]
        elif module is self.shared:
            nn.init.normal_(module.weight, std=0.05)  # type: ignore[arg-type]
        elif module is self.lm_head:
            nn.init.normal_(module.weight, std=self.config.d_model**-0.5)  # type: ignore[arg-type]
            if self.lm_head.bias is not None:
                nn.init.zeros_(self.lm_head.bias)

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding that encoder and decoders share."""
        return self.shared

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace it."""
        self.shared = value

    def get_output_embeddings(self) -> nn.Linear:
        """The output head that the decoders share."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace it."""
        self.lm_head = new_embeddings

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        """Run the encoder once for both decoders.

        Args:
            input_ids: (B, L) int64, L ≥ 1.
            attention_mask: (B, L), 1 for real tokens.
        """
        layout = None
        embeddings = self.shared(input_ids)
        if self.match_features is not None:
            layout = source_layout(
                input_ids,
                attention_mask,
                self.token_weights,
                boundary_token_id=self.config.boundary_token_id,
                docid_end_token_id=self.config.docid_end_token_id,
                eos_token_id=self.config.eos_token_id,
                max_blocks=self.config.max_blocks,
            )
            embeddings = embeddings + self.match_features(self._match(input_ids, attention_mask, layout))
        states = _run_encoder(self.encoder, embeddings, attention_mask)
        answer_states = states
        if self.answer_encoder is not None:
            answer_states = _run_encoder(self.answer_encoder, embeddings, attention_mask)
        return Encoded(input_ids, attention_mask, {"retrieval": states, "answer": answer_states}, layout)

    def _match(self, input_ids: Tensor, attention_mask: Tensor, layout: SourceLayout) -> Tensor:
        # Whether a token of the context occurs in the question, plain and by its weight (DrQA's exact-match feature).
        question = (layout.block == 0) & attention_mask.bool()
        asked = input_ids.masked_fill(~question, -1)
        width = int(question.long().sum(dim=1).max())
        matched = (input_ids.unsqueeze(2) == asked[:, None, :width]).any(dim=2) & ~question
        weight = self.token_weights[input_ids]
        known = (matched & (weight > 0)).to(self.shared.weight.dtype)
        return torch.stack((known, known * weight / self.token_weights.max().clamp(min=1e-6)), dim=-1)

    def decoder(self, task: Task) -> T5Stack:
        """The decoder of a task."""
        return self.retrieval_decoder if task == "retrieval" else self.answer_decoder

    def copy_head(self, task: Task) -> CopyHead | None:
        """The copy head of a task, where the model has one."""
        return self.retrieval_copy if task == "retrieval" else self.answer_copy

    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """fp32 logits over the vocabulary, (…, V), for decoder states (…, d): the projection itself runs in fp32."""
        hidden = hidden.float()
        if self.config.scale_decoder_outputs:
            hidden = hidden * self.config.d_model**-0.5
        bias = self.lm_head.bias
        return nn.functional.linear(hidden, self.lm_head.weight.float(), None if bias is None else bias.float())

    def target_log_probabilities(self, task: Task, encoded: Encoded, labels: Tensor) -> Tensor:
        """Teacher-forced fp32 log-probability of every target token, (B, T); 0 where the label is -100."""
        known = labels != IGNORED
        targets = labels.masked_fill(~known, self.config.pad_token_id)
        start = torch.full_like(targets[:, :1], self.config.decoder_start_token_id)
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
            scored = mix_targets(scored, attention, head.log_gate(hidden), same & layout.copyable.unsqueeze(1))
        return scored * known

    def span_log_probabilities(self, encoded: Encoded) -> Tensor:
        """(B, L, 2) fp32 log-probabilities that an answer starts and ends (inclusive) at a position."""
        if self.span_head is None:
            raise UsageError("this model has no span head", mend="Build it with span_head=True")
        scores = self.span_head(encoded.states["answer"]).float()
        allowed = encoded.attention_mask.bool() if encoded.layout is None else encoded.layout.copyable
        return scores.masked_fill(~allowed.unsqueeze(-1), -1e9).log_softmax(dim=1)

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

    def _span_loss(self, encoded: Encoded, spans: Tensor) -> Tensor:
        # -log of the summed probability of all given spans: any of the answer's occurrences will do.
        log_probabilities = self.span_log_probabilities(encoded)
        known = (spans >= 0).all(dim=-1)
        where = spans.clamp(min=0)
        starts = log_probabilities[..., 0].gather(1, where[..., 0])
        ends = log_probabilities[..., 1].gather(1, where[..., 1])
        joint = (starts + ends).masked_fill(~known, -1e9).logsumexp(dim=1)
        with_span = known.any(dim=1)
        return -joint[with_span].mean()


def _build_encoder(config: UniGenConfig) -> nn.Module:
    options = dict(config.encoder or {})
    family = options.pop("model_type")
    if family == "t5":
        stack = T5Stack(T5Config(**{**options, "is_decoder": False, "use_cache": False}))
        stack.embed_tokens = None  # type: ignore[assignment]  # `shared` feeds it
        return stack
    encoder: nn.Module = AutoModel.from_config(AutoConfig.for_model(family, **options), add_pooling_layer=False)
    encoder.set_input_embeddings(None)  # type: ignore[operator]
    return encoder


def _build_decoder(config: UniGenConfig) -> T5Stack:
    options = dict(config.decoder or {})
    options.pop("model_type", None)
    options.update(is_decoder=True, is_encoder_decoder=True)
    decoder_config = T5Config(**options)
    decoder_config.num_layers = decoder_config.num_decoder_layers or decoder_config.num_layers
    stack = T5Stack(decoder_config)
    stack.embed_tokens = None  # type: ignore[assignment]
    return stack


def _run_encoder(encoder: nn.Module, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
    states: Tensor = encoder(inputs_embeds=embeddings, attention_mask=attention_mask).last_hidden_state
    return states


def inverse_document_frequency(document_counts: Tensor, documents: int) -> Tensor:
    """Token weights (V,) from how many documents hold each token: log(1 + N / n), 0 for tokens in none."""
    counts = document_counts.float()
    return torch.where(counts > 0, torch.log1p(max(documents, 1) / counts.clamp(min=1)), torch.zeros_like(counts)) / (
        math.log1p(max(documents, 1))
    )
