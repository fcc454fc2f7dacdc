"""UniGen: one shared encoder, a decoder that writes docids, a decoder that writes answers (paper, Figure 2c).

Here are the network and its losses. Its first weights come from `retgen.models.sources`; search is `retgen.docids`'
work, training `retgen.train`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.t5.modeling_t5 import T5Stack

from retgen.errors import UsageError
from retgen.models.config import UniGenConfig
from retgen.models.copying import CopyHead
from retgen.models.layout import SourceLayout, question_matches, source_layout
from retgen.models.losses import NOWHERE
from retgen.models.outputs import IGNORED, TASKS, Encoded, Task, UniGenOutput
from retgen.models.prefix_head import PrefixHead, docid_outputs
from retgen.models.stacks import build_decoder, build_encoder, run_encoder, vocabulary_logits
from retgen.models.teacher_forcing import joint_loss, read_targets
from retgen.models.token_statistics import inverse_document_frequency

if TYPE_CHECKING:
    from retgen.models.still_encoder import StillEncoder

__all__ = [
    "IGNORED",
    "TASKS",
    "Encoded",
    "Task",
    "UniGenForRetrievalAndAnswering",
    "UniGenOutput",
    "inverse_document_frequency",
]


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
        self.still: StillEncoder | None = None
        self.answer_encoder = build_encoder(config.encoder) if config.answers and not config.share_encoder else None
        self.retrieval_decoder = build_decoder(config.decoder)
        self.answer_decoder = build_decoder(config.decoder) if config.answers else None
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=config.output_bias)
        self.retrieval_copy = CopyHead(config) if config.copy_head else None
        self.answer_copy = CopyHead(config) if config.copy_head and config.answers else None
        self.prefix_head = PrefixHead(config) if config.prefix_head_layers else None
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

    def write_codes(self, *, prefix_head_layers: int = 0, only: bool = False) -> None:
        """Fit the retrieval decoder to docids that are codes, in tokens of `retgen.models.docid_tokens`.

        Args:
            prefix_head_layers: give it a prefix-aware head, whose decoder torch's generator makes.
            only: let it write nothing but these tokens.

        Raises:
            UsageError: the network has no such tokens, or a copy head.
        """
        if not self.config.docid_tokens or self.config.copy_head:
            raise UsageError(
                "only docids in tokens of their own, and without a copy head, are written so",
                mend="Name documents by a scheme of codes with alphabet='position'",
            )
        self.config.docid_outputs_only = only
        self.config.prefix_head_layers = prefix_head_layers
        self.prefix_head = PrefixHead(self.config).to(self.device) if prefix_head_layers else None

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
        if self.still is not None:
            if self.span_head is not None:
                layout = self.layout(input_ids, attention_mask)
            states = self.still(input_ids, attention_mask)
            return Encoded(input_ids, attention_mask, {"retrieval": states, "answer": states}, layout)
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

    def decoders(self, task: Task) -> list[T5Stack]:
        """What reads the tokens written for a task: its decoder, and behind it that of a prefix-aware head.

        Raises:
            UsageError: the network has no answer decoder.
        """
        if task == "answer":
            if self.answer_decoder is None:
                raise UsageError("this model finds documents and writes no answers", mend="Build it with answers=True")
            return [self.answer_decoder]
        return [self.retrieval_decoder, *([] if self.prefix_head is None else [self.prefix_head.decoder])]

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

    def logits(
        self, task: Task, hidden: Tensor, weight: Tensor | None = None, tokens: Tensor | slice | None = None
    ) -> Tensor:
        """`vocabulary_logits` of a task: with what its own heads add, and -inf for tokens that it never writes.

        Args:
            task: whose.
            hidden: (…, d), or (…, 2 d) where the task has two `decoders`: their states side by side.
            weight: see `vocabulary_logits`.
            tokens: see `vocabulary_logits`.
        """
        size = self.config.d_model
        logits = self.vocabulary_logits(hidden[..., :size], weight, tokens)
        if task == "answer":
            return logits
        if self.prefix_head is not None:
            scale = size**-0.5 if self.config.scale_decoder_outputs else 1.0
            states = hidden[..., :size] * scale
            logits = logits + self.prefix_head(states, hidden[..., size:], tokens, self.config.vocab_size)
        if self.config.docid_outputs_only:
            closed = torch.ones(self.config.vocab_size, dtype=torch.bool, device=logits.device)
            closed[docid_outputs(self.config)] = False
            logits = logits.masked_fill(closed if tokens is None else closed[tokens], float("-inf"))
        return logits

    def target_log_probabilities(self, task: Task, encoded: Encoded, labels: Tensor) -> Tensor:
        """Teacher-forced fp32 log-probability of every target token, (B, T); 0 where the label is -100."""
        return read_targets(self, task, encoded, labels)[0]

    def span_log_probabilities(self, encoded: Encoded) -> Tensor:
        """(B, L, 2) fp32 log-probabilities that an answer starts and ends (inclusive) at a position."""
        if self.span_head is None:
            raise UsageError("this model has no span head", mend="Build it with span_head=True")
        scores: Tensor = self.span_head(encoded.states["answer"]).float()
        allowed = encoded.attention_mask.bool() if encoded.layout is None else encoded.layout.copyable
        return scores.masked_fill(~allowed.unsqueeze(-1), NOWHERE).log_softmax(dim=1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        docid_labels: Tensor | None = None,
        answer_labels: Tensor | None = None,
        answer_spans: Tensor | None = None,
        consistency_weight: Tensor | float = 0.0,
        **_: Any,
    ) -> UniGenOutput:
        """The joint loss.

        Args:
            input_ids: (B, L) int64; the Q-Connector.
            attention_mask: (B, L).
            docid_labels: (B, T) int64 ending in EOS; -100 pads. A row of -100 has no docid.
            answer_labels: (B, T') int64 likewise; a model without an answer decoder does not look at them.
            answer_spans: (B, S, 2) int64 start and inclusive end positions of the answer in the input; -1 pads.
            consistency_weight: of R-Drop: docids are read twice, with other dropout each time, both readings' losses
                are averaged, and so much of the symmetric KL between what they would write is added.
        """
        return joint_loss(
            self,
            self.encode(input_ids, attention_mask),
            docid_labels=docid_labels,
            answer_labels=answer_labels,
            answer_spans=answer_spans,
            consistency_weight=consistency_weight,
        )


def _token_id(config: UniGenConfig, name: str) -> int:
    value = getattr(config, name)
    if not isinstance(value, int):
        raise UsageError(f"a UniGen configuration needs its {name}, not {value!r}")
    return value


AutoModel.register(UniGenConfig, UniGenForRetrievalAndAnswering, exist_ok=True)
