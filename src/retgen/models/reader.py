"""What closed-book, FiD and RAG share: an unmodified encoder-decoder that reads questions and writes answers.

How passages come together is each one's own (`retgen.models.closed_book`, `retgen.models.fid`, `retgen.models.rag`);
training them is `retgen.train`'s, answering queries over a run `retgen.answer`'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from transformers import LogitsProcessor
from transformers.modeling_outputs import BaseModelOutput

from retgen.devices import length_sorted_batches
from retgen.errors import UsageError
from retgen.models.fp32_head import Fp32Head
from retgen.models.outputs import IGNORED
from retgen.models.pair_batches import padded
from retgen.models.passage_encoder import PassageStates, gathered
from retgen.models.prompt_format import end_token_id
from retgen.models.query_generator import decoder_lead
from retgen.models.query_model import position_limit
from retgen.models.query_sampling import plain_generation
from retgen.models.reader_format import ReaderFormat
from retgen.models.readings import Batch, Encoded, Reading, Written
from retgen.models.target_likelihood import target_log_likelihoods

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.utils.generic import ModelOutput

_QUESTIONS_AT_ONCE = 64


class Reader(ABC):
    """An encoder-decoder that answers questions.

    Args:
        model: any encoder-decoder with a language model head (T5, BART, `retgen.models.warm_generator`, …).
        tokenizer: the model's.
        format: how questions and passages are written; one that the model has no positions for is refused.

    Raises:
        UsageError: the model is no encoder-decoder, or reads fewer tokens than the format's.
    """

    method: ClassVar[str]
    """The name it is saved under."""
    reads_passages: ClassVar[bool] = True

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, format: ReaderFormat | None = None
    ) -> None:
        if not getattr(model.config, "is_encoder_decoder", False):
            raise UsageError(
                f"{type(model).__name__} is not an encoder-decoder", mend="Give one, such as T5, BART or warm:minilm"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.format = format or ReaderFormat()
        limit = position_limit(model.get_encoder())
        if limit is not None and self.format.max_input_tokens > limit:
            raise UsageError(
                f"this model reads at most {limit} tokens; max_input_tokens is {self.format.max_input_tokens}"
            )
        self.lead = decoder_lead(model)
        """What the decoder reads before an answer."""

    @property
    def settings(self) -> dict[str, object]:
        """What is saved with the model beside the format, as JSON values."""
        return {}

    @property
    def pad_token_id(self) -> int:
        """What inputs and targets are filled up with; masked wherever it stands."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else end_token_id(self.tokenizer)

    def input_ids(self, reading: Reading) -> list[list[int]]:
        """A question's inputs: one for each of its passages, or of the question alone.

        Raises:
            UsageError: there is no passage, and the reader reads passages.
        """
        if not self.reads_passages:
            return self.format.input_ids(self.tokenizer, reading.question, None)
        if not reading.passages:
            raise UsageError("this reader reads passages, and there are none for a question", where=reading.question)
        return self.format.input_ids(self.tokenizer, reading.question, reading.passages)

    def batch(
        self,
        readings: Sequence[Reading],
        answers: Sequence[str] | None = None,
        inputs: Sequence[Sequence[Sequence[int]]] | None = None,
    ) -> Batch:
        """Tensors on the CPU of questions, and of their answers in training.

        Args:
            readings: the questions.
            answers: one for each.
            inputs: `input_ids` of each, where they are known.

        Returns:
            ``input_ids`` and ``attention_mask`` (P, L) of all inputs, question by question; ``question`` (P,) of each;
            with answers ``labels`` and ``decoder_input_ids`` (B, T). RAG adds ``log_prior`` (P,).
        """
        inputs = [self.input_ids(reading) for reading in readings] if inputs is None else inputs
        rows = [row for question in inputs for row in question]
        ids, mask = padded(rows, self.pad_token_id, torch.device("cpu"))
        question = [number for number, question in enumerate(inputs) for _ in question]
        made = {"input_ids": ids, "attention_mask": mask, "question": torch.tensor(question)}
        if answers is not None:
            targets = self.format.answer_ids(self.tokenizer, answers)
            made["labels"], made["decoder_input_ids"] = self.targets(targets)
        return made

    def targets(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Labels and decoder inputs (R, T) of token ids, EOS included; `IGNORED` where nothing is asked for."""
        cpu = torch.device("cpu")
        asked, real = padded([[*self.lead[1:], *row] for row in rows], self.pad_token_id, cpu)
        given, _ = padded([[*self.lead, *row[:-1]] for row in rows], self.pad_token_id, cpu)
        labels = asked.masked_fill(real == 0, IGNORED)
        labels[:, : len(self.lead) - 1] = IGNORED
        return labels, given

    def encode(self, batch: Batch) -> Encoded:
        """Run the encoder over every input apart, and arrange its states for the decoder."""
        outputs = self.model.get_encoder()(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], return_dict=True
        )
        return self.arranged(outputs, batch["attention_mask"], batch["question"])

    def arranged(self, outputs: ModelOutput, mask: Tensor, question: Tensor) -> Encoded:
        """Encoder states as the decoder is to read them; each input as it is, unless the class says otherwise."""
        first = torch.searchsorted(question, question)
        place = torch.arange(len(question), device=question.device) - first
        passage = place[:, None].expand_as(mask).masked_fill(mask == 0, -1)
        return Encoded(plain_outputs(outputs), mask, question, passage)

    def loss(self, batch: Batch) -> Tensor:
        """−log p(answer) of the batch's answers, per target token: nats, ≥ 0, with gradients."""
        return -self.log_likelihoods(batch).sum() / (batch["labels"] != IGNORED).sum()

    @abstractmethod
    def log_likelihoods(self, batch: Batch) -> Tensor:
        """log p(answer | question, passages) of every question's answer: (B,) fp32, ≤ 0, with gradients."""

    @torch.inference_mode()
    def write(
        self,
        readings: Sequence[Reading],
        *,
        num_beams: int = 1,
        batch_tokens: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Written]:
        """An answer to each question. Batches hold questions of similar length; answers do not depend on them.

        Args:
            readings: each with a passage at least, where the reader reads passages.
            num_beams: 1 is greedy.
            batch_tokens: most input tokens at a time, after padding.
            progress: called with (questions done, questions).

        Raises:
            UsageError: the model is in training mode, or a number is below 1.
        """
        if self.model.training:
            raise UsageError("the model is in training mode: dropout would make answers random", mend="Call .eval()")
        device = self.model.device
        budget = (65_536 if device.type == "cuda" else 8_192) if batch_tokens is None else batch_tokens
        if num_beams < 1 or budget < 1:
            raise UsageError(f"num_beams and batch_tokens must be at least 1; got {num_beams} and {budget}")
        inputs = [self.input_ids(reading) for reading in readings]
        found: list[Written] = [Written((), 0.0, 0)] * len(readings)
        done = 0
        sizes = [len(rows) * max(map(len, rows)) for rows in inputs]
        for numbers in length_sorted_batches(sizes, budget, max_items=_QUESTIONS_AT_ONCE):
            chosen = [readings[number] for number in numbers]
            batch = self.batch(chosen, inputs=[inputs[number] for number in numbers])
            written = self._written({name: value.to(device) for name, value in batch.items()}, num_beams)
            for number, answer in zip(numbers, written, strict=True):
                found[number] = answer
            done += len(numbers)
            if progress is not None:
                progress(done, len(readings))
        return found

    @abstractmethod
    def _written(self, batch: Batch, num_beams: int) -> list[Written]:
        """An answer to each question of a batch."""

    def token_log_likelihoods(self, encoded: Encoded, rows: Tensor, labels: Tensor, given: Tensor) -> Tensor:
        """log p of every token (R, T) fp32 of targets, each read with the encoder states of row ``rows[i]``."""
        outputs, mask = encoded.outputs, encoded.mask
        if len(rows) != len(mask) or not torch.equal(rows, torch.arange(len(mask), device=rows.device)):
            outputs, mask = gathered(outputs, rows), mask.index_select(0, rows)
        return target_log_likelihoods(self.model, outputs, mask, labels, decoder_input_ids=given)

    def generate(
        self, encoded: Encoded, num_beams: int = 1, returned: int = 1, processors: Sequence[LogitsProcessor] = ()
    ) -> list[tuple[int, ...]]:
        """transformers' search over rows of encoder states: ``returned`` answers a row, EOS included where written."""
        model: Any = self.model
        # A checkpoint that forces EOS on the last token (BART's) would end answers that do not end: it gets one more.
        spare = getattr(model.generation_config, "forced_eos_token_id", None) is not None
        settings = plain_generation(
            model,
            self.format.max_answer_tokens + len(self.lead) - 1 + spare,
            self.pad_token_id,
            end_token_id(self.tokenizer),
        )
        settings.num_beams, settings.num_return_sequences = num_beams, returned
        sources = getattr(encoded.outputs, "source_ids", None)
        more = {} if sources is None else {"source_ids": sources}
        with Fp32Head(self.model).everywhere():
            made: Tensor = model.generate(
                # A copy: with beams, generate repeats what it is given in place.
                encoder_outputs=type(encoded.outputs)(**encoded.outputs),
                attention_mask=encoded.mask,
                generation_config=settings,
                logits_processor=list(processors),
                **more,
            )
        ends = frozenset(settings.eos_token_id)
        begin = len(self.lead)
        return [_cut(row[begin : begin + self.format.max_answer_tokens], ends) for row in made.tolist()]

    def without_end(self, row: Sequence[int]) -> tuple[int, ...]:
        """A generated row without the token that ended it."""
        ends = plain_generation(self.model, 1, self.pad_token_id, end_token_id(self.tokenizer)).eos_token_id
        return tuple(row[:-1]) if row and row[-1] in ends else tuple(row)


class PlainReader(Reader):
    """A reader whose decoder has one row a question: likelihoods and answers are the encoder-decoder's own."""

    def log_likelihoods(self, batch: Batch) -> Tensor:
        """See `Reader.log_likelihoods`."""
        encoded = self.encode(batch)
        labels = batch["labels"]
        rows = torch.arange(len(labels), device=labels.device)
        return self.token_log_likelihoods(encoded, rows, labels, batch["decoder_input_ids"]).sum(dim=1)

    def shares(self, encoded: Encoded, labels: Tensor, given: Tensor) -> list[tuple[float, ...]]:
        """What each question's passages had in its answer; nothing without passages."""
        return [()] * len(labels)

    def _written(self, batch: Batch, num_beams: int) -> list[Written]:
        encoded = self.encode(batch)
        rows = self.generate(encoded, num_beams)
        labels, given = (part.to(encoded.mask.device) for part in self.targets(rows))
        each = self.token_log_likelihoods(encoded, torch.arange(len(rows), device=labels.device), labels, given)
        scores = each.sum(dim=1).tolist()
        shares = self.shares(encoded, labels, given)
        return [
            Written(self.without_end(row), score, len(row), share)
            for row, score, share in zip(rows, scores, shares, strict=True)
        ]


def plain_outputs(outputs: ModelOutput) -> ModelOutput:
    """An encoder's last states alone, with the tokens they are of where a copy head reads them."""
    return outputs if isinstance(outputs, PassageStates) else BaseModelOutput(last_hidden_state=outputs[0])


def _cut(row: Sequence[int], ends: frozenset[int]) -> tuple[int, ...]:
    """A row up to the first token that ends it."""
    stop = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
    return tuple(row[:stop])
