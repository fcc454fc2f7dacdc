"""A decoder-only language model as a query generator p(query | passage): the prompt is read, the query is scored.

A passage's prompt is run once, and its keys and values serve all queries that are asked of it. Prompt and query are
tokenised each on its own, so that the boundary stands where it stands whatever the query is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, BitsAndBytesConfig, DynamicCache

from retgen.devices import pick_device, pick_dtype
from retgen.errors import FormatError, MissingExtraError, UsageError
from retgen.models.fp32_head import Fp32Head, target_log_probabilities
from retgen.models.pair_batches import left_padded, padded
from retgen.models.pretrained import load_tokenizer, load_weights, model_type
from retgen.models.prompt_format import PromptFormat, end_token_id
from retgen.models.query_model import EncodedPassage, PassageGroup, QueryModel, position_limit

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from retgen.models.query_sampling import TopKDraws
    from retgen.types import Document

QUANTIZATIONS = ("int8", "int4")


class CausalGenerator(QueryModel):
    """A decoder-only language model that is shown a passage and an instruction, and scored on the query behind them.

    Only the query's tokens count. `encode` merely writes the prompts: their keys and values are far larger than an
    encoder's states, so they are made for each group of passages while it is scored. See `QueryModel` for the
    arguments.

    Reference:
        UPR, and JPR's rows with a large language model.

    Example:
        >>> CausalGenerator.from_pretrained("gpt2", preset="upr-causal")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        preset: str | PromptFormat = "upr-causal",
        *,
        device: str | None = None,
        max_passage_tokens: int | None = None,
        max_query_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if getattr(model.config, "is_encoder_decoder", False):
            raise UsageError(f"{type(model).__name__} is an encoder-decoder", mend="Use QueryGenerator")
        super().__init__(
            model,
            tokenizer,
            preset,
            device=device,
            max_passage_tokens=max_passage_tokens,
            max_query_tokens=max_query_tokens,
            batch_tokens=batch_tokens,
        )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        preset: str | PromptFormat = "upr-causal",
        *,
        device: str = "auto",
        dtype: str = "auto",
        quantization: str | None = None,
        max_passage_tokens: int | None = None,
        max_query_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> CausalGenerator:
        """A decoder-only language model from a hub id or folder.

        Args:
            path: of the model and its tokenizer.
            preset: a `PromptFormat` or the name of one.
            device: see `retgen.devices.pick_device`.
            dtype: ``auto`` (bf16 where it is faster), ``fp32`` or ``bf16``. Scores are fp32 with either.
            quantization: ``int8`` or ``int4`` keeps the weights of all layers but the head so, by bitsandbytes.
            max_passage_tokens: instead of the format's.
            max_query_tokens: instead of the format's.
            batch_tokens: see `QueryModel`.

        Raises:
            FormatError: no such model can be loaded from there.
            UsageError: an unknown quantization.
            MissingExtraError: a quantization without bitsandbytes.
        """
        _require_decoder(path)
        chosen = pick_device(device)
        number_type = pick_dtype(chosen, dtype)
        model: Any
        if quantization is None:
            model = load_weights(AutoModelForCausalLM, path)
            model.to(device=chosen, dtype=number_type)
        else:
            settings = quantization_settings(quantization, number_type)
            model = load_weights(_Quantized(settings, chosen), path)
        return cls(
            model.eval(),
            load_tokenizer(path),
            preset,
            max_passage_tokens=max_passage_tokens,
            max_query_tokens=max_query_tokens,
            batch_tokens=batch_tokens,
        )

    def passage_ids(self, passages: Sequence[Document]) -> list[list[int]]:
        """Each passage's prompt, by the format, without an EOS behind it; an empty one is a text's first token."""
        end = self.tokenizer.eos_token_id
        begin = self.tokenizer.bos_token_id
        first = int(begin) if begin is not None else end_token_id(self.tokenizer)
        rows = self.format.passage_ids(self.tokenizer, passages)
        # Some tokenizers end every text with EOS; behind it the query would be another text.
        cut = [row[:-1] if len(row) > 1 and row[-1] == end else row for row in rows]
        return [row or [first] for row in cut]

    def encode_ids(self, rows: Sequence[Sequence[int]]) -> list[EncodedPassage]:
        """The prompts themselves: without an encoder there is nothing to be kept."""
        return [EncodedPassage(tuple(row)) for row in rows]

    def _group(self, passages: Sequence[EncodedPassage], head: Fp32Head) -> PassageGroup:
        return _Prompted(self, [passage.token_ids for passage in passages], head)

    def _written(
        self, rows: Sequence[Sequence[int]], n: int, settings: GenerationConfig, draws: TopKDraws
    ) -> list[str]:
        ids, mask = left_padded(rows, self.pad_token_id, self.model.device)
        written: Any = self.model.generate(  # type: ignore[operator]
            input_ids=ids.repeat_interleave(n, dim=0),
            attention_mask=mask.repeat_interleave(n, dim=0),
            generation_config=settings,
            logits_processor=[draws],
        )
        texts = self.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        # A model that was never told to stop goes on with another passage: the query is the first line.
        return [(text.strip().splitlines() or [""])[0] for text in texts]

    def _most_passage_tokens(self, preset: PromptFormat) -> int | None:
        limit = position_limit(self.model)
        return None if limit is None else limit - preset.max_query_tokens


class _Prompted:
    """Prompts that were run up to their last token, which each query's own pass begins with."""

    def __init__(self, generator: CausalGenerator, prompts: Sequence[Sequence[int]], head: Fp32Head) -> None:
        self._generator = generator
        self._head = head
        device = generator.model.device
        self.width = max(map(len, prompts))
        self.lengths = torch.tensor([len(row) for row in prompts], device=device)
        self.last = torch.tensor([row[-1] for row in prompts], device=device)
        # At the left, so that what stands side by side is side by side for windowed attention too.
        self.ids, self.mask = left_padded([row[:-1] for row in prompts], generator.pad_token_id, device)
        self._cache = self._run() if self.width > 1 else None

    def score(self, rows: Sequence[int], targets: Sequence[Sequence[int]]) -> Tensor:
        """See `PassageGroup`."""
        device = self.ids.device
        chosen = torch.tensor(rows, device=device)
        labels, real = padded(targets, self._generator.pad_token_id, device)
        keep = real.bool()
        with self._head.over(keep):
            logits = self._generator.model(
                input_ids=torch.cat([self.last[chosen].unsqueeze(1), labels[:, :-1]], dim=1),
                attention_mask=torch.cat([self.mask[chosen], real], dim=1),
                position_ids=(self.lengths[chosen] - 1).unsqueeze(1) + torch.arange(labels.shape[1], device=device),
                past_key_values=self._rows_of(chosen),
                use_cache=True,
                return_dict=True,
            ).logits
        return target_log_probabilities(logits[0], labels[keep])

    def _run(self) -> Any:
        first = torch.zeros(self.ids.shape, dtype=torch.bool, device=self.ids.device)
        first[0, 0] = True
        with self._head.over(first):
            return self._generator.model(
                input_ids=self.ids,
                attention_mask=self.mask,
                position_ids=(self.mask.cumsum(dim=1) - 1).clamp(min=0),
                past_key_values=self._empty(),
                use_cache=True,
                return_dict=True,
            ).past_key_values

    def _empty(self) -> DynamicCache:
        return DynamicCache(config=self._generator.model.config)

    def _rows_of(self, rows: Tensor) -> Any:
        if self._cache is None:
            return self._empty()
        # Layers choose rows by replacing their tensors, so copies of the layers leave those of the group alone.
        mine = copy.copy(self._cache)
        mine.layers = [copy.copy(layer) for layer in self._cache.layers]
        mine.batch_select_indices(rows)
        return mine


def quantization_settings(name: str, compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """How bitsandbytes shall load a model.

    Args:
        name: ``int8`` or ``int4`` (NF4).
        compute_dtype: of the products.

    Raises:
        UsageError: another name.
        MissingExtraError: bitsandbytes is not installed.
    """
    if name not in QUANTIZATIONS:
        raise UsageError(f"unknown quantization {name!r}", mend=f"Pass {' or '.join(QUANTIZATIONS)}")
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quantization")
    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute_dtype
    )


def _require_decoder(path: str | Path) -> None:
    # BERT-like encoders can be loaded as decoders too, and then look ahead or write nonsense.
    kind = model_type(path)
    config: Any = AutoConfig.from_pretrained(str(path), trust_remote_code=False)
    encoder = type(config) in AutoModelForMaskedLM._model_mapping and not getattr(config, "is_decoder", False)
    if encoder or type(config) not in AutoModelForCausalLM._model_mapping:
        raise FormatError(
            f"this is a model of type {kind!r}, where a decoder-only language model is needed",
            where=path,
            mend="Give a causal language model; of a BERT-like encoder, retgen train query-generator makes a generator",
        )


class _Quantized:
    """`AutoModelForCausalLM` that quantizes what it loads; `load_weights` brings the errors."""

    def __init__(self, settings: BitsAndBytesConfig, device: torch.device) -> None:
        self._options = {"quantization_config": settings, "device_map": {"": device}}

    def from_pretrained(self, path: str, **options: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(path, **options, **self._options)
