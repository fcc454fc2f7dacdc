"""A query generator p(query | passage) on a BERT-like encoder: a fresh T5 decoder and, if wanted, a copy head.

To everyone else it is one more encoder-decoder with a language model head: `generate`, `save_pretrained`, caches.
`retgen.models.generator_sources` brings its first weights; asking it about passages is `retgen.models.query_generator`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    EncoderDecoderCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils.generic import ModelOutput

from retgen.errors import UsageError
from retgen.models.copying import mix_targets, mix_vocabulary
from retgen.models.outputs import IGNORED
from retgen.models.passage_encoder import PassageEncoder
from retgen.models.pointer import PointerHead
from retgen.models.stacks import build_decoder, vocabulary_logits


class QueryGeneratorConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Shape and options of `QueryGeneratorModel`.

    Args:
        encoder: the encoder's own configuration as a dict with its ``model_type``.
        decoder: a `T5Config` as a dict.
        vocab_size: of encoder and decoder alike.
        d_model: width of the states of both.
        copy_head: mix a distribution over the passage's tokens into the decoder's.
        frozen_encoder: encoder and word embeddings, and with them the output head's weight, keep their weights, and
            the encoder runs without dropout and without gradients.
        special_token_ids: tokens that are never copied.
    """

    model_type = "retgen_query_generator"

    encoder: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None
    vocab_size: int = 30522
    d_model: int = 384
    copy_head: bool = True
    frozen_encoder: bool = False
    special_token_ids: tuple[int, ...] | list[int] = ()
    tie_word_embeddings: bool = True
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | None = 102
    decoder_start_token_id: int | None = 101

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the decoder, which caches of `generate` are made for."""
        shape = self.decoder or {}
        return int(shape.get("num_decoder_layers") or shape.get("num_layers") or 0)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> QueryGeneratorConfig:
        """This configuration itself: the parts it names ``encoder`` and ``decoder`` are plain dicts."""
        return self


class QueryGeneratorModel(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """p(query | passage): BERT-like encoder, T5 decoder, output head tied to the word embeddings, copy head.

    The decoder starts with ``decoder_start_token_id`` (the tokenizer's [CLS]) and ends with ``eos_token_id`` ([SEP]).
    """

    config: QueryGeneratorConfig
    config_class = QueryGeneratorConfig
    base_model_prefix = "query_generator"
    main_input_name = "input_ids"
    reads_source_ids = True
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _tied_weights_keys = {  # noqa: RUF012
        "encoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    }

    def __init__(self, config: QueryGeneratorConfig) -> None:
        super().__init__(config)
        if config.encoder is None or config.decoder is None:
            raise UsageError(
                "a query generator's configuration needs its encoder's and its decoder's",
                mend="Build the model with retgen.models.generator_sources.load_generator, or load a saved one",
            )
        ids = (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id)
        if not all(isinstance(token, int) for token in ids):
            raise UsageError(f"a query generator needs the ids of padding, end and start, not {ids}")
        self.pad_token_id, self.start_token_id = int(ids[0] or 0), int(ids[2] or 0)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = PassageEncoder(
            config.encoder, self.shared, pad_token_id=self.pad_token_id, frozen=config.frozen_encoder
        )
        self.decoder = build_decoder(config.decoder)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=True)
        self.pointer = PointerHead(config.d_model) if config.copy_head else None
        self.post_init()  # type: ignore[no-untyped-call]
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Encoder and decoder have their own. These functions leave alone what a checkpoint has filled.
        if isinstance(module, PointerHead):
            module.reset_parameters()
        elif module is self.shared and isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)
        elif module is self.lm_head and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.d_model**-0.5)
            nn.init.zeros_(module.bias)

    def train(self, mode: bool = True) -> QueryGeneratorModel:
        """Training or evaluation mode; what is frozen stays frozen."""
        super().train(mode)
        self._freeze()
        return self

    def freeze_encoder(self, frozen: bool = True) -> None:
        """Keep the weights of encoder and word embeddings from now on, or train them again."""
        self.config.frozen_encoder = self.encoder.frozen = frozen
        for parameter in (*self.encoder.parameters(), self.lm_head.weight):
            parameter.requires_grad_(not frozen)
        self.train(self.training)

    def _freeze(self) -> None:
        if self.config.frozen_encoder:
            for parameter in (*self.encoder.parameters(), self.lm_head.weight):
                parameter.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding that encoder, decoder and output head share."""
        return self.shared

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace it."""
        self.shared = value  # type: ignore[assignment]
        self.encoder.embed_tokens = value  # type: ignore[assignment]

    def get_output_embeddings(self) -> nn.Module:
        """The output head."""
        head: nn.Module = self.lm_head
        return head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace it."""
        self.lm_head = new_embeddings

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels (B, T), -100 where there is none, shifted right behind the start token."""
        targets = labels.masked_fill(labels == IGNORED, self.pad_token_id)
        return torch.cat((torch.full_like(targets[:, :1], self.start_token_id), targets[:, :-1]), dim=1)

    def target_log_probabilities(
        self,
        encoder_outputs: ModelOutput,
        attention_mask: Tensor,
        labels: Tensor,
        source_ids: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Teacher-forced fp32 log-probability of every target token, (B, T), without a (B, T, V) mixture.

        Args:
            encoder_outputs: what the encoder gave, one row a target.
            attention_mask: (B, L) of the passages.
            labels: (B, T) int64 ending in EOS; -100 pads, and gives 0.
            source_ids: (B, L) the passages' tokens, where ``encoder_outputs`` does not carry them.
            past_key_values: with the passages' cross-attention keys and values, so that they are not made again.
        """
        states = _states(encoder_outputs)
        tokens = self.prepare_decoder_input_ids_from_labels(labels)
        cached = past_key_values is not None
        decoded = self._decode(tokens, states, attention_mask, None, past_key_values, use_cache=cached)
        return self._target_log_probabilities(
            decoded.last_hidden_state, states, attention_mask, labels, _sources(encoder_outputs, source_ids)
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: ModelOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        source_ids: Tensor | None = None,
        output_attentions: bool = False,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Log-probabilities of the next token, and the loss of targets.

        Args:
            input_ids: (B, L) int64; the passages. Or give ``encoder_outputs``.
            attention_mask: (B, L).
            decoder_input_ids: (B, T) int64, the start token first; by default the labels, shifted.
            decoder_attention_mask: (B, T); needed only where targets are padded at the left.
            encoder_outputs: what ``get_encoder()`` gave.
            past_key_values: of the steps before, which ``decoder_input_ids`` then leaves out.
            labels: (B, T) int64 ending in EOS; -100 pads.
            use_cache: keep keys and values for the next step.
            source_ids: (B, L) the passages' tokens, where ``encoder_outputs`` does not carry them.
            output_attentions: also give the decoder's ``cross_attentions``, layer by layer (B, heads, T, L); the
                attention must be the ``eager`` one.

        Returns:
            ``logits``: (B, T, V) fp32 log-probabilities of the mixture; None where a loss was asked of a model in
            training mode, which has no need of them. ``loss``: cross-entropy, the mean over all target tokens of the
            batch, as transformers' own encoder-decoders reduce it.

        Raises:
            UsageError: neither passages nor their states, or no tokens for a copy head.
        """
        if encoder_outputs is None:
            if input_ids is None:
                raise UsageError("a query generator reads passages", mend="Pass input_ids or encoder_outputs")
            encoder_outputs = self.encoder(input_ids, attention_mask)
        states, sources = _states(encoder_outputs), _sources(encoder_outputs, source_ids)
        if attention_mask is None:
            real = None if sources is None else sources.ne(self.pad_token_id).long()
            attention_mask = (
                torch.ones(states.shape[:2], dtype=torch.long, device=states.device) if real is None else real
            )
        if decoder_input_ids is None:
            if labels is None:
                raise UsageError("there is nothing to decode", mend="Pass decoder_input_ids or labels")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        decoded = self._decode(
            decoder_input_ids,
            states,
            attention_mask,
            decoder_attention_mask,
            past_key_values,
            use_cache,
            output_attentions,
        )
        hidden = decoded.last_hidden_state
        loss = logits = None
        if labels is not None:
            scored = self._target_log_probabilities(hidden, states, attention_mask, labels, sources)
            loss = -scored.sum() / (labels != IGNORED).sum()
        if labels is None or not self.training:
            logits = self._log_probabilities(hidden, states, attention_mask, sources)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=decoded.past_key_values,
            encoder_last_hidden_state=states,
            cross_attentions=decoded.cross_attentions if output_attentions else None,
        )

    def _decode(
        self,
        tokens: Tensor,
        states: Tensor,
        attention_mask: Tensor,
        decoder_attention_mask: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = False,
        output_attentions: bool = False,
    ) -> Any:
        return self.decoder(
            inputs_embeds=self.shared(tokens),
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=states,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=bool(use_cache),
            **({"output_attentions": True} if output_attentions else {}),
        )

    def _log_probabilities(
        self, hidden: Tensor, states: Tensor, attention_mask: Tensor, sources: Tensor | None
    ) -> Tensor:
        written = vocabulary_logits(hidden, self.lm_head.weight, self.lm_head.bias).log_softmax(dim=-1)
        if self.pointer is None:
            return written
        source_ids, copyable = self._copyable(sources, attention_mask)
        attention = self.pointer.log_attention(hidden, states, copyable)
        return mix_vocabulary(written, attention, self.pointer.log_gate(hidden, copyable), source_ids)

    def _target_log_probabilities(
        self, hidden: Tensor, states: Tensor, attention_mask: Tensor, labels: Tensor, sources: Tensor | None
    ) -> Tensor:
        known = labels != IGNORED
        logits = vocabulary_logits(hidden[known], self.lm_head.weight, self.lm_head.bias)
        scored = torch.zeros(labels.shape, device=labels.device)
        scored[known] = logits.gather(1, labels[known].unsqueeze(1)).squeeze(1) - logits.logsumexp(dim=-1)
        if self.pointer is not None:
            source_ids, copyable = self._copyable(sources, attention_mask)
            attention = self.pointer.log_attention(hidden, states, copyable)
            same = (source_ids.unsqueeze(1) == labels.unsqueeze(2)) & copyable.unsqueeze(1)
            scored = mix_targets(scored, attention, self.pointer.log_gate(hidden, copyable), same)
        return scored * known

    def _copyable(self, sources: Tensor | None, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        if sources is None:
            raise UsageError(
                "the copy head needs the passages' tokens", mend="Pass source_ids=, or the encoder's output"
            )
        copyable = attention_mask.bool()
        for token in self.config.special_token_ids:
            copyable = copyable & (sources != token)
        return sources, copyable


def _states(encoder_outputs: ModelOutput) -> Tensor:
    states: Tensor = encoder_outputs[0]
    return states


def _sources(encoder_outputs: ModelOutput, source_ids: Tensor | None) -> Tensor | None:
    return getattr(encoder_outputs, "source_ids", None) if source_ids is None else source_ids


AutoConfig.register(QueryGeneratorConfig.model_type, QueryGeneratorConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(QueryGeneratorConfig, QueryGeneratorModel, exist_ok=True)
