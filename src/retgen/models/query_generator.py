"""An encoder-decoder as a query generator p(query | passage): scores queries, and makes them up.

Every passage is encoded once; its keys and values for the decoder's cross-attention are projected once for all queries
that are asked of it. Training is `retgen.train`'s, ranking `retgen.rerank`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from retgen.devices import length_sorted_batches, pick_device, pick_dtype
from retgen.errors import UsageError
from retgen.models.fingerprint import encoder_fingerprint
from retgen.models.fp32_head import Fp32Head, target_log_probabilities
from retgen.models.pair_batches import padded
from retgen.models.prompt_format import PromptFormat
from retgen.models.query_model import EncodedPassage, PassageGroup, QueryModel, network_config, position_limit

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from retgen.models.query_sampling import TopKDraws


class QueryGenerator(QueryModel):
    """Any encoder-decoder language model (T5, BART, `retgen.models.warm_generator`, …) over a passage's tokens.

    log p(x|z) is that of a plain forward pass with the query as labels; the output projection and the log-softmax run
    in fp32 whatever the model's type. See `QueryModel` for the arguments.

    Reference:
        JPR, section 2.2 (Eq. 3: the generator's side); UPR for the preset ``upr``.

    Example:
        >>> QueryGenerator.from_pretrained("t5-base", preset="jpr")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        preset: str | PromptFormat = "jpr",
        *,
        device: str | None = None,
        max_passage_tokens: int | None = None,
        max_query_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if not getattr(model.config, "is_encoder_decoder", False):
            raise UsageError(
                f"{type(model).__name__} is not an encoder-decoder",
                mend="Use CausalGenerator for decoder-only language models",
            )
        super().__init__(
            model,
            tokenizer,
            preset,
            device=device,
            max_passage_tokens=max_passage_tokens,
            max_query_tokens=max_query_tokens,
            batch_tokens=batch_tokens,
        )
        self.lead = decoder_lead(model)
        """What the decoder reads before a query: its start token, and a token its checkpoint forces behind it."""
        self._reads_source = bool(getattr(model, "reads_source_ids", False))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        preset: str | PromptFormat = "jpr",
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_passage_tokens: int | None = None,
        max_query_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> QueryGenerator:
        """A query generator from a hub id or folder.

        Args:
            path: of any encoder-decoder, or of a generator that retgen trained.
            preset: a `PromptFormat` or the name of one: the one the model was trained with.
            device: see `retgen.devices.pick_device`.
            dtype: ``auto`` (bf16 where it is faster), ``fp32`` or ``bf16``. Scores are fp32 with either.
            max_passage_tokens: instead of the format's.
            max_query_tokens: instead of the format's.
            batch_tokens: see `QueryModel`.

        Raises:
            FormatError: no encoder-decoder can be loaded from there.
            ArtefactError: a saved generator is torn.
        """
        from retgen.models.generator_sources import load_generator

        loaded, tokenizer = load_generator(str(path))
        chosen = pick_device(device)
        model: Any = loaded
        return cls(
            model.to(device=chosen, dtype=pick_dtype(chosen, dtype)).eval(),
            tokenizer,
            preset,
            max_passage_tokens=max_passage_tokens,
            max_query_tokens=max_query_tokens,
            batch_tokens=batch_tokens,
        )

    def encoder_fingerprint(self) -> str:
        """A hash of what encoder states depend on beside the passage: the encoder's weights, kind, shape and dtype."""
        encoder: Any = self.model.get_encoder()
        return encoder_fingerprint(encoder, network_config(encoder))

    @torch.inference_mode()
    def encode_ids(self, rows: Sequence[Sequence[int]]) -> list[EncodedPassage]:
        """Run the encoder over inputs written already, each once."""
        encoder = self.model.get_encoder()
        states: list[Tensor | None] = [None] * len(rows)
        for batch in length_sorted_batches([len(row) for row in rows], self.batch_tokens):
            ids, mask = self._padded([rows[number] for number in batch])
            output = encoder(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
            for number, row in zip(batch, output, strict=True):
                # A copy, so that the padded batch is not kept alive by its rows.
                states[number] = row[: len(rows[number])].clone()
        return [EncodedPassage(tuple(row), state) for row, state in zip(rows, states, strict=True)]

    def _group(self, passages: Sequence[EncodedPassage], head: Fp32Head) -> PassageGroup:
        return _CrossAttended(self, passages, head, reads_source=self._reads_source)

    def _written(
        self, rows: Sequence[Sequence[int]], n: int, settings: GenerationConfig, draws: TopKDraws
    ) -> list[str]:
        ids, mask = self._padded(rows)
        states = self.model.get_encoder()(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
        more = {"source_ids": ids.repeat_interleave(n, dim=0)} if self._reads_source else {}
        written: Any = self.model.generate(  # type: ignore[operator]
            encoder_outputs=BaseModelOutput(last_hidden_state=states.repeat_interleave(n, dim=0)),
            attention_mask=mask.repeat_interleave(n, dim=0),
            generation_config=settings,
            logits_processor=[draws],
            **more,
        )
        return list(self.tokenizer.batch_decode(written, skip_special_tokens=True))

    def _most_passage_tokens(self, preset: PromptFormat) -> int | None:
        return position_limit(self.model.get_encoder())

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        return padded(rows, self.pad_token_id, self.model.device)


class _CrossAttended:
    """Passages whose cross-attention keys and values are held while their queries are scored."""

    def __init__(
        self, generator: QueryGenerator, passages: Sequence[EncodedPassage], head: Fp32Head, *, reads_source: bool
    ) -> None:
        self._generator = generator
        self._head = head
        self.ids, self.mask = generator._padded([passage.token_ids for passage in passages])
        self.width = int(self.ids.shape[1])
        self.states = _stacked(passages, self.width, generator.model)
        self._reads_source = reads_source
        self._cross = self._projected()

    def score(self, rows: Sequence[int], targets: Sequence[Sequence[int]]) -> Tensor:
        """See `PassageGroup`."""
        generator, device = self._generator, self.states.device
        chosen = torch.tensor(rows, device=device)
        labels, real = padded(targets, generator.pad_token_id, device)
        keep = real.bool()
        if self._reads_source:
            return self._with_source(chosen, labels, keep)
        start = torch.tensor(generator.lead, device=device).expand(len(targets), -1)
        with self._head.over(torch.nn.functional.pad(keep, (len(generator.lead) - 1, 0))):
            logits = generator.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=self.states[chosen]),
                attention_mask=self.mask[chosen],
                decoder_input_ids=torch.cat([start, labels[:, :-1]], dim=1),
                past_key_values=_rows_of(self._cross, chosen),
                use_cache=True,
                return_dict=True,
            ).logits
        return target_log_probabilities(logits[0], labels[keep])

    def _with_source(self, rows: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
        model: Any = self._generator.model
        found: Tensor = model.target_log_probabilities(
            BaseModelOutput(last_hidden_state=self.states[rows]),
            self.mask[rows],
            labels.masked_fill(~keep, -100),
            self.ids[rows],
            _rows_of(self._cross, rows),
        )
        return found[keep]

    def _projected(self) -> EncoderDecoderCache:
        """The keys and values, made by one step of the decoder, of which nothing else is used."""
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        start = torch.full((len(self.ids), 1), self._generator.lead[0], device=self.states.device)
        first = torch.zeros_like(start, dtype=torch.bool)
        first[0] = True
        with self._head.over(first):
            self._generator.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=self.states),
                attention_mask=self.mask,
                decoder_input_ids=start,
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
                **({"source_ids": self.ids} if self._reads_source else {}),
            )
        return cache


def _stacked(passages: Sequence[EncodedPassage], width: int, model: PreTrainedModel) -> Tensor:
    parts = []
    for passage in passages:
        if passage.states is None or len(passage.states) != len(passage.token_ids):
            raise UsageError("these passages were not encoded by an encoder-decoder", mend="Use encode of this object")
        parts.append(passage.states.to(device=model.device, dtype=model.dtype))
    made = parts[0].new_zeros(len(parts), width, parts[0].shape[1])
    for row, part in zip(made, parts, strict=True):
        row[: len(part)] = part
    return made


def _rows_of(cache: EncoderDecoderCache, rows: Tensor) -> EncoderDecoderCache:
    """A cache for these rows: an empty self-attention part, and the passages' keys and values."""
    cross = DynamicCache()
    layers: Any = cache.cross_attention_cache.layers
    for number, layer in enumerate(layers):
        cross.update(layer.keys[rows], layer.values[rows], number)
    return EncoderDecoderCache(DynamicCache(), cross)


def decoder_lead(model: PreTrainedModel) -> list[int]:
    """What the decoder reads before a query: its start token, and a token its checkpoint forces behind it (BART's)."""
    start = None
    for config in (model.generation_config, model.config):
        start = getattr(config, "decoder_start_token_id", None) if start is None else start
    if not isinstance(start, int):
        raise UsageError(
            f"{type(model).__name__} has no decoder_start_token_id", mend="Set it in the model's configuration"
        )
    forced = getattr(model.generation_config, "forced_bos_token_id", None)
    return [start] if forced is None else [start, int(forced)]
