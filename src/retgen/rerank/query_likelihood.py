"""Re-ranking by query likelihood: how probable is the question, given the passage? JPR's generator side, and UPR.

Exact and frugal: the encoder sees only passages, so each is encoded once however many queries have it as a candidate.
Memory is bounded by a number of passage tokens, not by the number of queries or candidates.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from transformers import AutoConfig

from retgen.errors import UsageError
from retgen.models.causal_generator import CausalGenerator
from retgen.models.pair_batches import Pair, pairs_by_passage
from retgen.models.pretrained import model_type
from retgen.models.prompt_format import PromptFormat
from retgen.models.query_generator import QueryGenerator
from retgen.models.query_model import EncodedPassage, QueryModel
from retgen.models.warm_generator import QueryGeneratorConfig
from retgen.rerank.candidates import CandidateReranker, Candidates, Progress
from retgen.rerank.state_cache import StateCache
from retgen.types import Document, Explanation, FloatArray, Query

Text = TypeVar("Text")
_WRITTEN_AT_ONCE = 1024


class QueryLikelihood(CandidateReranker):
    """Scores a passage by log p(query | passage), in nats: the mean (or the sum) over the query's tokens and its EOS.

    Scores are ≤ 0 and raw; which of mean and sum, and how passage and query are written, is the generator's
    `PromptFormat`, and `settings` records it. Passages with the same input get the same score.

    Args:
        generator: a `QueryGenerator` or a `CausalGenerator`.
        state_cache: a folder that keeps the states of passages from one run to the next. It belongs to one encoder.
        block_tokens: most passage tokens whose states are held at a time.

    Raises:
        UsageError: a cache for a model without an encoder.
        MismatchError: the cache holds the states of another encoder.
        ArtefactError: the cache is torn, or something else stands there.

    Reference:
        JPR, section 2.2; UPR.

    Example:
        >>> from retgen.rerank.query_likelihood import QueryLikelihood
        >>> reranker = QueryLikelihood.from_pretrained("t5-base", preset="upr")  # doctest: +SKIP
        >>> run = reranker.rerank(queries, run, corpus)  # doctest: +SKIP
    """

    component = "generator"

    def __init__(
        self, generator: QueryModel, *, state_cache: str | Path | None = None, block_tokens: int = 65_536
    ) -> None:
        if block_tokens < 1:
            raise UsageError(f"block_tokens must be at least 1; got {block_tokens}")
        self.generator = generator
        self._block_tokens = block_tokens
        self._cache: StateCache | None = None
        if state_cache is not None:
            if not isinstance(generator, QueryGenerator):
                raise UsageError(
                    "only an encoder's states can be kept on disk; this model has no encoder", where=state_cache,
                    mend="Leave state_cache out",
                )  # fmt: skip
            self._cache = StateCache(state_cache, generator.encoder_fingerprint())

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        preset: str | PromptFormat | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        quantization: str | None = None,
        max_passage_tokens: int | None = None,
        max_query_tokens: int | None = None,
        batch_tokens: int | None = None,
        state_cache: str | Path | None = None,
        block_tokens: int = 65_536,
    ) -> QueryLikelihood:
        """A re-ranker from a hub id or folder of an encoder-decoder or a decoder-only language model.

        Args:
            path: the model's configuration says which of the two it is.
            preset: ``jpr`` by default; for a decoder-only model ``upr-causal``.
            device: see `retgen.devices.pick_device`.
            dtype: ``auto``, ``fp32`` or ``bf16``.
            quantization: ``int8`` or ``int4``, for decoder-only models.
            max_passage_tokens: instead of the format's.
            max_query_tokens: instead of the format's.
            batch_tokens: see `QueryModel`.
            state_cache: see `QueryLikelihood`.
            block_tokens: see `QueryLikelihood`.

        Raises:
            FormatError: no language model can be loaded from there.
            UsageError: a quantization of an encoder-decoder.
            MissingExtraError: a quantization without bitsandbytes.
        """
        options: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "max_passage_tokens": max_passage_tokens,
            "max_query_tokens": max_query_tokens,
            "batch_tokens": batch_tokens,
        }
        generator: QueryModel
        if _decoder_only(path):
            generator = CausalGenerator.from_pretrained(
                path, preset or "upr-causal", quantization=quantization, **options
            )
        elif quantization is not None:
            raise UsageError("only decoder-only models are quantized", where=path, mend="Leave quantization out")
        else:
            generator = QueryGenerator.from_pretrained(path, preset or "jpr", **options)
        return cls(generator, state_cache=state_cache, block_tokens=block_tokens)

    @property
    def settings(self) -> dict[str, object]:
        """What a result says of its making: model, dtype, the prompt format whole."""
        return self.generator.settings

    def score_pairs(self, candidates: Candidates, progress: Progress | None = None) -> FloatArray:
        """One score for each of ``candidates.pairs``: the reduced log-likelihood of the query given the passage."""
        texts = [query.text for query in candidates.queries]
        work = _Work.of(self.generator, candidates.passages, texts, candidates.pairs)
        scores = np.zeros(len(work.pairs))
        done = 0
        shares = np.bincount(work.of_pair, minlength=len(work.pairs))
        by_passage = pairs_by_passage(work.pairs)
        for block in self._blocks(work):
            states = self._states([work.passages[number] for number in block])
            placed = [(number, at) for at, passage in enumerate(block) for number in by_passage.get(passage, ())]
            chosen = [number for number, _ in placed]
            pairs = [(work.pairs[number][0], at) for number, at in placed]
            found = self.generator.score_ids(states, work.targets, pairs)
            for number, values in zip(chosen, found, strict=True):
                scores[number] = self._reduced(values.numpy())
            done += int(shares[chosen].sum())
            if progress is not None:
                progress(done, len(work.of_pair))
        made: FloatArray = scores[work.of_pair]
        return made

    def explain(self, query: Query, document: Document) -> Explanation:
        """The score, and the log-likelihood of every token of the query, in order."""
        generator = self.generator
        states = self._states(generator.passage_ids([document]))
        targets = generator.query_ids([query.text])
        (values,) = generator.score_ids(states, targets, [(0, 0)])
        names = generator.tokenizer.convert_ids_to_tokens(targets[0])
        return Explanation(
            query.id,
            document.id,
            components={self.component: self._reduced(values.numpy())},
            tokens=tuple(zip(map(str, names), map(float, values), strict=True)),
        )

    def _reduced(self, values: FloatArray) -> float:
        # A query of which nothing is left to score tells no passage from another.
        total = float(np.asarray(values, dtype=np.float64).sum())
        return total / max(len(values), 1) if self.generator.format.reduction == "mean" else total

    def _states(self, rows: Sequence[Sequence[int]]) -> list[EncodedPassage]:
        if self._cache is None:
            return self.generator.encode_ids(rows)
        inputs = [tuple(row) for row in rows]
        known = self._cache.get(inputs)
        missing = [row for row in inputs if row not in known]
        made = self.generator.encode_ids(missing)
        fresh = {passage.token_ids: passage.states for passage in made if passage.states is not None}
        self._cache.put(fresh)
        return [EncodedPassage(row, known.get(row, fresh.get(row))) for row in inputs]

    def _blocks(self, work: _Work) -> Iterator[list[int]]:
        """Passages, longest first, so many that their tokens fit; each is in one block."""
        order = sorted(range(len(work.passages)), key=lambda number: -len(work.passages[number]))
        block: list[int] = []
        tokens = 0
        for number in order:
            length = len(work.passages[number])
            if block and tokens + length > self._block_tokens:
                yield block
                block, tokens = [], 0
            block.append(number)
            tokens += length
        if block:
            yield block


def _decoder_only(path: str | Path) -> bool:
    kind = model_type(path)
    if kind == QueryGeneratorConfig.model_type:
        return False
    return not AutoConfig.from_pretrained(str(path), trust_remote_code=False).is_encoder_decoder


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be computed, nothing of it twice: distinct inputs, distinct targets, and their distinct pairs."""

    passages: list[array[int]]
    targets: list[array[int]]
    pairs: list[Pair]
    of_pair: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(
        cls, generator: QueryModel, passages: Sequence[Document], queries: Sequence[str], pairs: Sequence[Pair]
    ) -> _Work:
        inputs, input_of = _distinct(generator.passage_ids, passages)
        targets, target_of = _distinct(generator.query_ids, queries)
        numbers: dict[Pair, int] = {}
        of_pair = [numbers.setdefault((target_of[query], input_of[passage]), len(numbers)) for query, passage in pairs]
        return cls(inputs, targets, list(numbers), np.asarray(of_pair, dtype=np.int64))


def _distinct(
    write: Callable[[Sequence[Text]], list[list[int]]], texts: Sequence[Text]
) -> tuple[list[array[int]], list[int]]:
    """The distinct token ids of texts, and for each text which they are; compact, as there may be a million."""
    numbers: dict[bytes, int] = {}
    rows: list[array[int]] = []
    places = []
    for start in range(0, len(texts), _WRITTEN_AT_ONCE):
        for ids in write(texts[start : start + _WRITTEN_AT_ONCE]):
            row = array("i", ids)
            place = numbers.setdefault(row.tobytes(), len(rows))
            if place == len(rows):
                rows.append(row)
            places.append(place)
    return rows, places
