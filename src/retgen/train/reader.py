"""One trainer for closed-book, FiD and RAG: −log p(answer) per token, on `transformers.Trainer`, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from retgen.answer.reading import ReadingAnswerer
from retgen.errors import UsageError
from retgen.evaluate import evaluate_answers
from retgen.models.gradient_checkpointing import enable_checkpointing
from retgen.models.reader import Reader
from retgen.models.warm_generator import QueryGeneratorModel
from retgen.train.epochs import EpochDataset
from retgen.train.option_checks import check_options
from retgen.train.parameters import decayed_groups
from retgen.train.query_generator import FRESH
from retgen.train.reader_examples import ReaderCollator, ReaderExample
from retgen.train.resumable import (
    Progress,
    ResumableTrainer,
    TrainingRecord,
    fingerprint,
    require_dev_for_best,
    train_resumably,
    weight_shapes,
)
from retgen.train.sampling import FollowEpochs, LengthBucketSampler
from retgen.types import DocumentSource, Query, Run

if TYPE_CHECKING:
    from transformers import TrainerCallback

_MODEL = "model."


@dataclass(frozen=True, slots=True)
class ReaderTraining:
    """Options of a reader's training.

    Args:
        max_steps: optimiser steps; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: questions a batch on each device.
        accumulation_steps: batches that make one optimiser step, where a step's do not fit into memory at once.
        learning_rate: of weights that were trained before.
        fresh_learning_rate: of weights that start at random beside a BERT-like encoder. None is the same.
        warmup_steps: linear warm-up, then the rate falls linearly to 0; below 1, a share of all steps.
        weight_decay: of AdamW; matrices only.
        max_grad_norm: gradient clipping.
        gradient_checkpointing: make activations anew for the backward pass: less memory, more time, same gradients.
        sample_answers: one of a question's answers at random in every epoch, else always the first.
        eval_steps: dev questions are answered every so many steps; 0 is at the end only.
        save_steps: a checkpoint every so many steps.
        keep_best: end with the checkpoint of the best dev score, not the last.
        precision: ``auto`` (bf16 where it is measured to be faster), ``fp32`` or ``bf16``.
        seed: of everything random.

    Reference: FiD's fine-tuning: batches of 64 questions, 5e-5 (its base model), 100 passages of 250 tokens, and one of
        the accepted answers at random.
    """

    max_steps: int = 0
    epochs: float = 3.0
    batch_size: int = 64
    accumulation_steps: int = 1
    learning_rate: float = 5e-5
    fresh_learning_rate: float | None = None
    warmup_steps: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    sample_answers: bool = True
    eval_steps: int = 0
    save_steps: int = 200
    keep_best: bool = False
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(
            self,
            at_least_one=("accumulation_steps",),
            not_negative=("weight_decay",),
            rates=("learning_rate", "fresh_learning_rate"),
        )


@dataclass(frozen=True, slots=True)
class ReaderDev:
    """Dev questions with their accepted answers, and what is read for them.

    Args:
        queries: to be answered.
        gold: question id → accepted answers.
        run: over the questions; None for a closed-book answerer.
        documents: of the run.
        measures: of `retgen.evaluate.evaluate_answers`; the first is the ``score`` that chooses the best checkpoint.
    """

    queries: Sequence[Query]
    gold: Mapping[str, Sequence[str]]
    run: Run | None = None
    documents: DocumentSource | None = None
    measures: tuple[str, ...] = ("EM", "F1")

    def measure(self, answerer: ReadingAnswerer) -> dict[str, float]:
        """Each measure over these questions, 0 to 1, and ``score``."""
        found = answerer.answer(self.queries, self.run, self.documents)
        gold = {query.id: self.gold[query.id] for query in self.queries}
        values = dict(evaluate_answers({a.query_id: a.text for a in found}, gold, self.measures).means)
        values["score"] = values[self.measures[0]]
        return values


def train_reader(
    answerer: ReadingAnswerer,
    examples: Sequence[ReaderExample],
    documents: DocumentSource | None,
    folder: str | Path,
    *,
    options: ReaderTraining | None = None,
    dev: ReaderDev | None = None,
    progress: Progress | None = None,
) -> TrainingRecord:
    """Train an answerer's model in place: closed book, FiD, RAG-Sequence or RAG-Token, by its own likelihood.

    The loss is −log p(answer | question, passages), summed over a batch and divided by its target tokens; see
    `retgen.models.reader.Reader.loss`. RAG's prior comes from the examples' retrieval scores and is not trained.

    Args:
        answerer: on its device, with weights in fp32.
        examples: of `retgen.train.reader_examples.reader_examples`, with as many passages as the answerer will read.
        documents: of the examples' passages; None for a closed-book answerer.
        folder: keeps checkpoints and TensorBoard's logs. A folder with a finished checkpoint is resumed from it; a
            resumed run ends with the very weights of an uninterrupted one (bitwise on a CPU with as many threads).
        options: of the training.
        dev: answered as training goes on, as a user's questions would be.
        progress: called with (step, steps, what was last logged).

    Raises:
        UsageError: there are no examples, an example has nothing to be read, weights that are not in fp32, or options
            that contradict each other.
        UnknownDocumentError: a passage is not among the documents.
        MismatchError: the folder keeps the checkpoints of a training with other examples, options or model.
    """
    options = options or ReaderTraining()
    reader = answerer.reader
    _check(reader, examples, documents)
    require_dev_for_best(options, evaluates=dev is not None)
    module = ReaderLoss(reader)

    def build(place: Path, callbacks: list[TrainerCallback]) -> ResumableTrainer:
        return _trainer(answerer, module, examples, documents, place, options, dev, callbacks)

    decisive = (
        options,
        reader.method,
        reader.format,
        sorted(reader.settings.items()),
        weight_shapes(reader.model),
        [name for name, parameter in reader.model.named_parameters() if parameter.requires_grad],
        getattr(documents, "fingerprint", None),
    )
    with _checkpointing(reader.model, options.gradient_checkpointing):
        return train_resumably(
            module,
            folder,
            build,
            options=options,
            training=fingerprint(decisive, examples),
            device=reader.model.device,
            progress=progress,
            shown=("loss", *(dev.measures if dev is not None else ())),
        )


class ReaderLoss(nn.Module):
    """A reader as a module whose forward gives its loss: one forward pass, for one wrapper for several devices.

    Args:
        reader: whose model is trained.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.model: nn.Module = reader.model
        self.reader = reader

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """``loss`` of a batch of `Reader.batch`, with answers."""
        return {"loss": self.reader.loss(batch)}


def _trainer(
    answerer: ReadingAnswerer,
    module: ReaderLoss,
    examples: Sequence[ReaderExample],
    documents: DocumentSource | None,
    folder: Path,
    options: ReaderTraining,
    dev: ReaderDev | None,
    callbacks: list[TrainerCallback],
) -> ResumableTrainer:
    reader = answerer.reader
    dataset = EpochDataset(examples)
    sampler = LengthBucketSampler(
        [_length(example, documents) for example in examples], options.batch_size, options.seed
    )
    usual = options.learning_rate
    fresh = usual if options.fresh_learning_rate is None else options.fresh_learning_rate
    beside_encoder = isinstance(reader.model, QueryGeneratorModel)

    def rate(name: str, parameter: nn.Parameter) -> float:
        return fresh if beside_encoder and name.removeprefix(_MODEL).startswith(FRESH) else usual

    return ResumableTrainer(
        module,
        folder,
        options,
        device=reader.model.device,
        dataset=dataset,
        collator=ReaderCollator(reader, documents, sample_answers=options.sample_answers, seed=options.seed),
        sampler=sampler,
        groups=lambda: decayed_groups(module, rate, options.weight_decay),
        callbacks=[FollowEpochs(dataset, sampler), *callbacks],
        measure=None if dev is None else lambda: dev.measure(answerer),
        accumulation_steps=options.accumulation_steps,
    )


def _length(example: ReaderExample, documents: DocumentSource | None) -> int:
    """Characters that are read for an example."""
    if documents is None or not example.doc_ids:
        return len(example.question)
    return sum(len(example.question) + len(documents[doc_id].contents) for doc_id in example.doc_ids)


@contextmanager
def _checkpointing(model: Any, enable: bool) -> Iterator[None]:
    if enable:
        enable_checkpointing(model)
    try:
        yield
    finally:
        if enable:
            enable_checkpointing(model, False)


def _check(reader: Reader, examples: Sequence[ReaderExample], documents: DocumentSource | None) -> None:
    if not examples:
        raise UsageError("there is nothing to train on", mend="Give at least one question with an answer")
    for example in examples:
        if not example.answers:
            raise UsageError(f"the question {example.question!r} has no answer", mend="Leave it out")
        if reader.reads_passages and not example.doc_ids:
            raise UsageError(
                f"the question {example.question!r} has no passage", mend="Leave it out, or train a closed-book model"
            )
    if reader.reads_passages and documents is None:
        raise UsageError("this reader reads passages, and there are no documents", mend="Give the corpus")
    if reader.model.dtype != torch.float32:
        held = str(reader.model.dtype).removeprefix("torch.")
        raise UsageError(
            f"a model held in {held} forgets small steps: it cannot be trained",
            mend='Load it with dtype="fp32"; precision="bf16" computes in bf16 over weights in fp32',
        )
