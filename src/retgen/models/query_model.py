"""What encoder-decoders and decoder-only models share as query generators p(query | passage): verbs and batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedConfig

from retgen.devices import length_sorted_batches
from retgen.errors import UsageError
from retgen.models.fp32_head import Fp32Head
from retgen.models.pair_batches import Pair, pair_batches, pairs_by_passage, passage_groups
from retgen.models.prompt_format import PromptFormat, end_token_id, find_format
from retgen.models.query_sampling import TopKDraws, bare_query, check_sampling, grouped, plain_generation, streams

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from retgen.types import Document


@dataclass(frozen=True, slots=True)
class EncodedPassage:
    """A passage as a generator has read it.

    Args:
        token_ids: of its input; a copy head reads them again.
        states: ``(length, d_model)``, the encoder's last hidden states; None for a model without an encoder.
    """

    token_ids: tuple[int, ...]
    states: Tensor | None = None


class PassageGroup(Protocol):
    """Passages of similar length, with what they have in common computed, while their queries are scored."""

    width: int
    """Tokens of the longest."""

    def score(self, rows: Sequence[int], targets: Sequence[Sequence[int]]) -> Tensor:
        """Log-probabilities of all tokens of the targets, one target's after the other's.

        Args:
            rows: for each target its passage's number within the group.
            targets: not all of them empty.
        """
        ...


class QueryModel(ABC):
    """A language model that says how likely a query is, given a passage, and makes queries up.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        preset: a `PromptFormat` or the name of one.
        device: ``cpu``, ``cuda``, ``auto``, …; None leaves the model where it is.
        max_passage_tokens: instead of the format's. Without it, a model that reads less than the format's length gets
            the most it reads.
        max_query_tokens: instead of the format's.
        batch_tokens: most passage tokens computed at a time, after padding. It bounds memory; results do not depend on
            it.

    Raises:
        UsageError: the model is in training mode, or reads fewer tokens than asked for.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        preset: str | PromptFormat,
        *,
        device: str | None = None,
        max_passage_tokens: int | None = None,
        max_query_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if model.training:
            raise UsageError("the model is in training mode: dropout would make scores random", mend="Call .eval()")
        if batch_tokens is not None and batch_tokens < 1:
            raise UsageError(f"batch_tokens must be at least 1; got {batch_tokens}")
        if device is not None:
            from retgen.devices import pick_device

            model.to(pick_device(device))  # type: ignore[arg-type]
        self.model = model
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens or (65_536 if model.device.type == "cuda" else 8_192)
        self.format = self._fitting(find_format(preset), max_passage_tokens, max_query_tokens)

    @property
    def settings(self) -> dict[str, object]:
        """What a result says of how it was made: the format whole, the model's kind and its dtype."""
        return {
            "model": self.model.config.name_or_path or type(self.model).__name__,
            "model_type": self.model.config.model_type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "preset": self.format.name,
            "passage_template": self.format.passage_template,
            "query_template": self.format.query_template,
            "max_passage_tokens": self.format.max_passage_tokens,
            "max_query_tokens": self.format.max_query_tokens,
            "reduction": self.format.reduction,
            "scores_eos": self.format.append_eos,
        }

    def passage_ids(self, passages: Sequence[Document]) -> list[list[int]]:
        """Each passage's input, by the format; an input of no tokens at all becomes the token that ends a text."""
        rows = self.format.passage_ids(self.tokenizer, passages)
        return [row or [end_token_id(self.tokenizer)] for row in rows]

    def query_ids(self, queries: Sequence[str]) -> list[list[int]]:
        """Each query's target, by the format."""
        return self.format.query_ids(self.tokenizer, queries)

    def encode(self, passages: Sequence[Document]) -> list[EncodedPassage]:
        """Read passages, each once, in batches of similar length."""
        return self.encode_ids(self.passage_ids(passages))

    @abstractmethod
    def encode_ids(self, rows: Sequence[Sequence[int]]) -> list[EncodedPassage]:
        """`encode` of inputs written already."""

    def token_log_likelihoods(
        self, states: Sequence[EncodedPassage], queries: Sequence[str], pairs: Sequence[Pair]
    ) -> list[Tensor]:
        """log p(token | passage, tokens before it) of every token of a query's target, for each pair.

        Args:
            states: of `encode`.
            queries: texts.
            pairs: (query number, passage number); may be any subset, in any order.

        Returns:
            For each pair ``(T,)`` fp32 on the CPU, each ≤ 0: nats.
        """
        return self.score_ids(states, self.query_ids(queries), pairs)

    @torch.inference_mode()
    def score_ids(
        self, states: Sequence[EncodedPassage], targets: Sequence[Sequence[int]], pairs: Sequence[Pair]
    ) -> list[Tensor]:
        """`token_log_likelihoods` of targets written already."""
        found = [torch.zeros(0)] * len(pairs)
        head = Fp32Head(self.model)
        by_passage = pairs_by_passage(pairs)
        lengths = [len(targets[query]) for query, _ in pairs]
        read = [len(passage.token_ids) for passage in states]
        for numbers in passage_groups(read, by_passage, self.batch_tokens):
            group = self._group([states[passage] for passage in numbers], head)
            for batch in pair_batches(numbers, group.width, by_passage, lengths, self.batch_tokens, head.vocab_size):
                asked = [targets[pairs[number][0]] for number in batch.pairs]
                if not any(asked):
                    continue
                values = group.score(batch.rows, asked).float().cpu()
                for number, part in zip(batch.pairs, torch.split(values, [len(row) for row in asked]), strict=True):
                    found[number] = part
        return found

    @torch.inference_mode()
    def sample(
        self,
        passages: Sequence[Document],
        n: int,
        *,
        top_k: int = 10,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        seed: int = 0,
        unique: bool = False,
    ) -> list[list[str]]:
        """``n`` pseudo queries of each passage, by top-k sampling.

        Args:
            passages: titles or texts may be empty.
            n: queries of each passage.
            top_k: tokens that may be drawn at a step (DocT5Query: 10); 1 makes all ``n`` the same.
            max_new_tokens: of a query.
            temperature: the logits are divided by it; below 1 likely tokens become likelier.
            seed: a passage's queries depend on it and on the passage, not on the other passages.
            unique: keep the first of equal queries only, so that there may be fewer than ``n``.

        Raises:
            UsageError: a number is out of its range.
        """
        check_sampling(n, top_k, max_new_tokens, temperature, seed)
        rows = self.passage_ids(passages)
        found: list[list[str]] = [[] for _ in rows]
        settings = plain_generation(self.model, max_new_tokens, self.pad_token_id, end_token_id(self.tokenizer))
        for batch in length_sorted_batches([len(row) * n for row in rows], self.batch_tokens):
            chosen = [rows[number] for number in batch]
            texts = self._written(chosen, n, settings, TopKDraws(streams(chosen, n, seed), top_k, temperature))
            bare = [bare_query(text, self.format) for text in texts]
            for number, queries in zip(batch, grouped(bare, n, unique=unique), strict=True):
                found[number] = queries
        return found

    @property
    def pad_token_id(self) -> int:
        """What inputs and targets are filled up with; masked wherever it stands, so any token will do."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else end_token_id(self.tokenizer)

    @abstractmethod
    def _group(self, passages: Sequence[EncodedPassage], head: Fp32Head) -> PassageGroup:
        """Passages of similar length, made ready for their queries."""

    @abstractmethod
    def _written(
        self, rows: Sequence[Sequence[int]], n: int, settings: GenerationConfig, draws: TopKDraws
    ) -> list[str]:
        """``n`` texts for each input, one input's after the other's."""

    def _fitting(self, preset: PromptFormat, passage: int | None, query: int | None) -> PromptFormat:
        chosen = replace(
            preset,
            max_passage_tokens=preset.max_passage_tokens if passage is None else passage,
            max_query_tokens=preset.max_query_tokens if query is None else query,
        )
        limit = self._most_passage_tokens(chosen)
        if limit is None or chosen.max_passage_tokens <= limit:
            return chosen
        if passage is not None:
            raise UsageError(f"this model reads at most {limit} tokens of a passage; max_passage_tokens is {passage}")
        if limit < 1:
            raise UsageError(
                f"this model has no room for a passage beside queries of {chosen.max_query_tokens} tokens",
                mend="Pass a smaller max_query_tokens",
            )
        return replace(chosen, max_passage_tokens=limit)

    @abstractmethod
    def _most_passage_tokens(self, preset: PromptFormat) -> int | None:
        """The longest input the model can read; None if there is no limit."""


def network_config(network: Any) -> PreTrainedConfig:
    """The configuration of a network, or of the first part of it that has one."""
    return next(
        config for part in network.modules() if isinstance(config := getattr(part, "config", None), PreTrainedConfig)
    )


def position_limit(network: Any) -> int | None:
    """How many tokens a network has positions for; None if its configuration names no limit."""
    config = network_config(network)
    for name in ("max_position_embeddings", "n_positions"):
        size = getattr(config, name, None)
        if isinstance(size, int) and size > 0:
            # RoBERTa's kind numbers positions from behind its padding token's.
            starts = [
                part.padding_idx + 1
                for part in network.modules()
                if isinstance(part, nn.Embedding) and part.num_embeddings == size and part.padding_idx is not None
            ]
            return size - max(starts, default=0)
    return None
