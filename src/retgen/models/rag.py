"""RAG: an answer's probability as a marginal over passages, of the sequence or of each token. The index is frozen.

With p(z|x) the softmax over the retrieval scores of the k passages that were found,

- RAG-Sequence: p(y|x) = Σ_z p(z|x) Π_t p(y_t | x, z, y_<t),
- RAG-Token:    p(y|x) = Π_t Σ_z p(z|x) p(y_t | x, z, y_<t).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LogitsProcessor

from retgen.errors import UsageError
from retgen.models.outputs import IGNORED
from retgen.models.reader import Reader
from retgen.models.reader_format import ReaderFormat
from retgen.models.readings import Batch, Encoded, Reading, Written

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEQUENCE, TOKEN = "sequence", "token"
_TARGETS_AT_ONCE = 2**26
"""Most logits held while candidates are rescored: 256 MiB in fp32."""


class RagReader(Reader):
    """Retrieval-augmented generation over any encoder-decoder and the scores of any retriever.

    RAG-Token writes from the marginal distribution of the next token. RAG-Sequence decodes thoroughly: each passage
    gives its beams as candidates, every candidate is scored under every passage, and the one of the highest marginal is
    the answer. A passage's share in an answer (`Written.shares`) is its posterior p(z | x, y); for RAG-Token, where
    each token has a passage of its own, the mean over the tokens of p(z_t | x, y_≤t).

    Args:
        model: see `Reader`.
        tokenizer: see `Reader`.
        format: see `Reader`.
        marginal: ``sequence`` or ``token``.
        temperature: the retrieval scores are divided by it before their softmax. 1 is the definition; scores of another
            scale than inner products, such as BM25's, make nearly one passage of it.

    Raises:
        UsageError: an unknown marginal, or a temperature that is not above 0.

    Reference:
        Lewis et al., "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", 2020, sections 2.1 and 2.5.

    Example:
        >>> from retgen.models.generator_sources import load_generator
        >>> reader = RagReader(*load_generator("facebook/bart-large"), marginal="token")  # doctest: +SKIP
    """

    method: ClassVar[str] = "rag"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        format: ReaderFormat | None = None,
        *,
        marginal: str = SEQUENCE,
        temperature: float = 1.0,
    ) -> None:
        if marginal not in (SEQUENCE, TOKEN):
            raise UsageError(f"unknown marginal {marginal!r}", mend=f"Choose {SEQUENCE} or {TOKEN}")
        if not temperature > 0:
            raise UsageError(f"a temperature must be above 0, not {temperature}")
        super().__init__(model, tokenizer, format)
        self.marginal = marginal
        self.temperature = temperature

    @property
    def settings(self) -> dict[str, object]:
        """See `Reader.settings`."""
        return {"marginal": self.marginal, "temperature": self.temperature}

    def batch(
        self,
        readings: Sequence[Reading],
        answers: Sequence[str] | None = None,
        inputs: Sequence[Sequence[Sequence[int]]] | None = None,
    ) -> Batch:
        """See `Reader.batch`.

        Raises:
            UsageError: a passage has no score, or one that is not finite.
        """
        for reading in readings:
            if len(reading.scores) != len(reading.passages):
                raise UsageError(
                    f"RAG weighs passages by their scores: {len(reading.passages)} passages have "
                    f"{len(reading.scores)} scores",
                    where=reading.question,
                )
        made = super().batch(readings, answers, inputs)
        made["log_prior"] = torch.cat([log_prior(reading.scores, self.temperature) for reading in readings])
        return made

    def log_likelihoods(self, batch: Batch) -> Tensor:
        """See `Reader.log_likelihoods`: the log of the marginal."""
        encoded = self.encode(batch)
        labels, given = batch["labels"][encoded.question], batch["decoder_input_ids"][encoded.question]
        rows = torch.arange(len(labels), device=labels.device)
        each = self.token_log_likelihoods(encoded, rows, labels, given)
        slots = passage_slots(encoded.question)
        return self._marginal(each, batch["log_prior"], slots).sum(dim=1)

    def _marginal(self, each: Tensor, prior: Tensor, slots: Tensor) -> Tensor:
        """Token log-likelihoods (R, T) under each passage → (B, T) for RAG-Token, (B, 1) for RAG-Sequence."""
        if self.marginal == SEQUENCE:
            each = each.sum(dim=1, keepdim=True)
        return marginalised(each, prior, slots)

    def _written(self, batch: Batch, num_beams: int) -> list[Written]:
        encoded = self.encode(batch)
        prior, slots = batch["log_prior"], passage_slots(encoded.question)
        if self.marginal == TOKEN:
            rows = self.generate(encoded, num_beams, 1, [MarginalTokens(prior, slots)])
            # The rows of a question have written the same.
            candidates = [[rows[first]] for first in slots[:, 0].tolist()]
        else:
            rows = self.generate(encoded, num_beams, num_beams)
            places = [[place for place in row if place >= 0] for row in slots.tolist()]
            candidates = [
                list(dict.fromkeys(rows[place * num_beams + beam] for place in question for beam in range(num_beams)))
                for question in places
            ]
        return self._best(encoded, prior, slots, candidates)

    def _best(
        self, encoded: Encoded, prior: Tensor, slots: Tensor, candidates: Sequence[Sequence[tuple[int, ...]]]
    ) -> list[Written]:
        """The candidate of the highest marginal for each question; of equal ones the first."""
        found = []
        for question, rows in enumerate(candidates):
            passages = slots[question][slots[question] >= 0]
            each = self._under_each(encoded, passages, rows)
            own = torch.arange(len(passages), device=passages.device).unsqueeze(0)
            values = [self._marginal(one, prior[passages], own).sum() for one in each]
            best = int(torch.stack(values).argmax())
            shares = self._posterior(each[best], prior[passages])
            row = rows[best]
            found.append(Written(self.without_end(row), float(values[best]), len(row), tuple(shares.tolist())))
        return found

    def _under_each(self, encoded: Encoded, passages: Tensor, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Token log-likelihoods (passages, T) of each candidate under each passage of a question."""
        pairs = [(row, passage) for row in range(len(rows)) for passage in passages.tolist()]
        longest = max(map(len, rows)) + len(self.lead) - 1
        vocabulary = int(self.model.get_output_embeddings().weight.shape[0])  # type: ignore[no-untyped-call]
        at_once = max(1, _TARGETS_AT_ONCE // (vocabulary * longest))
        labels, given = (part.to(passages.device) for part in self.targets(rows))
        parts = []
        for start in range(0, len(pairs), at_once):
            chosen = torch.tensor(pairs[start : start + at_once], device=passages.device)
            parts.append(self.token_log_likelihoods(encoded, chosen[:, 1], labels[chosen[:, 0]], given[chosen[:, 0]]))
        scored = torch.cat(parts).reshape(len(rows), len(passages), -1)
        # Without what is padding to this candidate: its posterior must not be averaged over it.
        return [one[:, target != IGNORED] for one, target in zip(scored, labels, strict=True)]

    def _posterior(self, each: Tensor, prior: Tensor) -> Tensor:
        if self.marginal == SEQUENCE:
            return (prior + each.sum(dim=1)).softmax(dim=0)
        return (prior.unsqueeze(1) + each).softmax(dim=0).mean(dim=1)


class MarginalTokens(LogitsProcessor):
    """The next token's distribution, marginal over a question's passages: the same for each of its rows.

    A search over a row for each passage then writes the same in all rows of a question.

    Args:
        log_prior: (R,) log p(z|x) of each row's passage.
        slots: `passage_slots` of the rows' questions.
    """

    def __init__(self, log_prior: Tensor, slots: Tensor) -> None:
        self._prior = log_prior
        self._slots = slots

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (R · beams, V) → log-probabilities of the same shape, in fp32."""
        beams = len(scores) // len(self._prior)
        each = scores.float().log_softmax(dim=-1).reshape(len(self._prior), beams, -1)
        whole = marginalised(each, self._prior, self._slots)
        counts = (self._slots >= 0).sum(dim=1)
        return whole.repeat_interleave(counts, dim=0).flatten(0, 1)


def log_prior(scores: Sequence[float], temperature: float = 1.0) -> Tensor:
    """log p(z|x): log-softmax of the retrieval scores over a question's passages, (k,) fp32.

    Args:
        scores: of its k passages.
        temperature: they are divided by it.

    Raises:
        UsageError: a score is not finite.

    Example:
        >>> log_prior([2.0, 2.0]).exp().tolist()
        [0.5, 0.5]
    """
    values = torch.tensor(list(scores), dtype=torch.float64)
    if not bool(values.isfinite().all()):
        raise UsageError("RAG needs retrieval scores that are finite numbers", mend="Search again with another index")
    return functional.log_softmax(values / temperature, dim=0).float()


def passage_slots(question: Tensor) -> Tensor:
    """(B, k) the rows of each question's passages, −1 behind the last; from (R,) the question of each row, rising."""
    counts = question.bincount()
    slots = torch.full((len(counts), int(counts.max())), -1, dtype=torch.long, device=question.device)
    rows = torch.arange(len(question), device=question.device)
    slots[question, rows - torch.searchsorted(question, question)] = rows
    return slots


def marginalised(each: Tensor, prior: Tensor, slots: Tensor) -> Tensor:
    """log Σ_z p(z|x) p(· | x, z): log-probabilities (R, …) under each row's passage → (B, …), in fp32.

    Args:
        each: (R, …).
        prior: (R,) log p(z|x).
        slots: (B, k) of `passage_slots`.
    """
    weighed = each.float() + prior.view(-1, *[1] * (each.dim() - 1))
    laid = weighed[slots.clamp(min=0)]
    absent = (slots < 0).view(*slots.shape, *[1] * (each.dim() - 1))
    return laid.masked_fill(absent, -torch.inf).logsumexp(dim=1)
