"""Joint fine-tuning of a cross-encoder and a query generator towards each other (JPR, §2.2), on `transformers.Trainer`.

Both models are one module (`train.joint_model`), so that several processes train them as they would one:
``torchrun --nproc-per-node 4 …``. Their learning rates and their gradient clipping are each model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback

from retgen.errors import UsageError
from retgen.models.query_generator import QueryGenerator
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.train.arguments import require_dev_for_best
from retgen.train.candidates import LabelledCandidates
from retgen.train.joint_batches import DrawnCandidates, JointCollator
from retgen.train.joint_dev import JointDev, evaluation_mode
from retgen.train.joint_model import JointModel
from retgen.train.joint_options import JointTraining
from retgen.train.resumable import Measure, Progress, ResumableTrainer, fingerprint, train_resumably, weight_shapes
from retgen.train.sampling import FollowEpochs, LengthBucketSampler

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from retgen.types import DocumentSource

_PARTS = ("retrieval", "generation", "matching")
_EVAL = "eval_"


@dataclass(frozen=True, slots=True)
class JointRecord:
    """What a joint fine-tuning did.

    Args:
        steps: optimiser steps.
        seconds: over all processes that had a part in it one after another.
        history: one dict a logging step, with ``loss``, its parts ``retrieval``, ``generation`` and ``matching``, and
            where dev questions were measured ``eval_…`` of each measure.
        before: what `JointDev.measure` found before the first step; empty without dev questions.
        after: the same of the weights that training ended with.
    """

    steps: int
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)


def train_joint(
    cross_encoder: PreTrainedModel,
    cross_encoder_tokenizer: PreTrainedTokenizerBase,
    generator: PreTrainedModel,
    generator_tokenizer: PreTrainedTokenizerBase,
    candidates: Sequence[LabelledCandidates],
    documents: DocumentSource,
    folder: str | Path,
    *,
    options: JointTraining | None = None,
    dev: Sequence[LabelledCandidates] | None = None,
    progress: Progress | None = None,
) -> JointRecord:
    """Train both models in place, minimising L_retrieval + L_generation + α · L_match.

    Args:
        cross_encoder: a sequence classifier with one output or two, best fine-tuned alone before.
        cross_encoder_tokenizer: its own.
        generator: an encoder-decoder, likewise; it is moved to the cross-encoder's device.
        generator_tokenizer: its own.
        candidates: of the training questions (`retgen.train.candidates`); those of an epoch are drawn from them.
        documents: the candidates' corpus.
        folder: keeps checkpoints and TensorBoard's logs. A folder with a finished checkpoint is resumed from it.
        options: how to train.
        dev: questions that are measured with all their candidates, before, after and in between.
        progress: called with (step, steps, what was last logged).

    Returns:
        What was done, and the dev measures before and after: ``kl`` says how far the models are apart.

    Raises:
        UsageError: nothing to train on, a question without candidates, a prompt format whose scores are sums, models
            of other kinds, or options that contradict each other.
        UnknownDocumentError: a candidate is not among the documents.
        MismatchError: the folder keeps the checkpoints of a training with other questions, options or models.

    Reference:
        "Joint Passage Re-ranking", section 2.2 and appendix C.
    """
    options = options or JointTraining()
    _check(candidates, options)
    require_dev_for_best(options, evaluates=bool(dev))
    model = JointModel(
        cross_encoder,
        generator,
        alpha=options.alpha,
        objective=options.objective,
        pairs_at_once=options.pairs_at_once,
    )
    device = cross_encoder.device
    model.to(device)
    nn.Module.float(generator)

    def rerankers() -> tuple[CrossEncoder, QueryGenerator]:
        # Made anew where they are asked: trainer may have moved the models, and each holds what it was told of them.
        with evaluation_mode(model):
            reader = CrossEncoder(
                cross_encoder,
                cross_encoder_tokenizer,
                max_length=options.max_pair_tokens,
                device=str(cross_encoder.device),
                dtype="fp32",
            )
            return reader, QueryGenerator(generator, generator_tokenizer, options.preset)

    reader, writer = rerankers()
    if writer.format.reduction != "mean":
        raise UsageError(
            f"joint fine-tuning matches log-likelihoods a token; the prompt format {writer.format.name!r} sums them",
            mend="Take a format whose reduction is mean, such as jpr or jpr-beir",
        )
    # It writes what the re-rankers read, so that what is trained is what will be asked.
    collator = JointCollator(documents, reader, writer)
    questions = JointDev(dev, documents, options.generator_weight) if dev else None
    measure = (lambda: questions.measure(*rerankers())) if questions is not None else None
    lengths = (reader.max_length, writer.format)
    fixed = (options, lengths, weight_shapes(model), getattr(documents, "fingerprint", None))
    decisive = (*fixed, dev if options.keep_best else None)

    def build(folder: Path, callbacks: list[TrainerCallback]) -> ResumableTrainer:
        return _JointTrainer(model, folder, options, device, candidates, collator, measure, callbacks)

    before = measure() if measure is not None else {}
    with _frozen(generator, options.freeze_encoder):
        record = train_resumably(
            model,
            folder,
            build,
            options=options,
            training=fingerprint(decisive, candidates),
            device=device,
            progress=progress,
            shown=("loss", *_PARTS, "score", "kl"),
        )
    return JointRecord(
        record.steps, record.seconds, record.history, before, _chosen(record.history, best=options.keep_best)
    )


def joint_parameter_groups(model: JointModel, options: JointTraining) -> list[dict[str, Any]]:
    """AdamW's groups: each model's weights at its own rate; matrices decay, the rest not. Every trained weight once."""
    groups = []
    for part, rate in (
        (model.cross_encoder, options.learning_rate),
        (model.generator, options.generator_learning_rate),
    ):
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        for decay, members in (
            (options.weight_decay, [parameter for parameter in trained if parameter.dim() > 1]),
            (0.0, [parameter for parameter in trained if parameter.dim() <= 1]),
        ):
            if members:
                groups.append({"params": members, "lr": rate, "weight_decay": decay})
    return groups


class ClipEachModel(TrainerCallback):
    """Clips each model's gradient on its own: a large one of the generator leaves the cross-encoder's as it is.

    Args:
        models: each is clipped alone.
        max_norm: of a model's gradient; 0 clips none.
    """

    def __init__(self, models: Sequence[nn.Module], max_norm: float) -> None:
        self.models = models
        self.max_norm = max_norm

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called before a step, once the gradients of all its batches and processes are in."""
        if self.max_norm > 0:
            for model in self.models:
                torch.nn.utils.clip_grad_norm_(model.parameters(), self.max_norm)


class _JointTrainer(ResumableTrainer):
    def __init__(
        self,
        model: JointModel,
        folder: Path,
        options: JointTraining,
        device: torch.device,
        candidates: Sequence[LabelledCandidates],
        collator: JointCollator,
        measure: Measure | None,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        dataset = DrawnCandidates(candidates, options)
        sampler = LengthBucketSampler(
            [min(len(question), options.candidates_per_question) for question in candidates],
            options.batch_size,
            options.seed,
        )
        super().__init__(
            model,
            folder,
            options,
            device=device,
            dataset=dataset,
            collator=collator,
            sampler=sampler,
            groups=lambda: joint_parameter_groups(model, options),
            callbacks=[
                FollowEpochs(cast(Any, dataset), sampler),
                ClipEachModel([model.cross_encoder, model.generator], options.max_grad_norm),
                *callbacks,
            ],
            measure=measure,
        )
        # Trainer would clip both models as one.
        self.args.max_grad_norm = 0.0
        # Several GPUs are for several processes: threads that split a batch would tear questions from their passages.
        self.args._n_gpu = min(1, self.args.n_gpu)
        self._train_batch_size = self.args.train_batch_size
        self._sums: dict[str, torch.Tensor] = {}
        self._batches = 0

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The joint loss; its parts are kept for the log."""
        outputs = model(**inputs)
        self._batches += 1
        for name in _PARTS:
            if name in outputs:
                self._sums[name] = self._sums.get(name, torch.zeros_like(outputs[name])) + outputs[name].detach()
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Trainer's log, with the mean of each part of the loss since the last one."""
        if "loss" in logs and self._batches:
            logs = {**logs, **{name: float(total) / self._batches for name, total in self._sums.items()}}
            self._sums, self._batches = {}, 0
        super().log(logs, *args, **kwargs)


def _check(candidates: Sequence[LabelledCandidates], options: JointTraining) -> None:
    if not candidates:
        raise UsageError("there is nothing to train on", mend="Give at least one question with candidates")
    bare = [question.query.id for question in candidates if not len(question)]
    if bare:
        raise UsageError(
            f"{len(bare)} of {len(candidates)} questions have no candidates, the first {bare[0]!r}",
            mend="Leave them out of training",
        )
    if not any(label for question in candidates for label in question.labels):
        raise UsageError(
            "no question has a relevant candidate, so there is nothing to learn",
            mend="Label candidates with retgen.train.candidates.from_qrels or from_answers",
        )


@contextmanager
def _frozen(generator: PreTrainedModel, wanted: bool) -> Iterator[None]:
    encoder = cast(nn.Module, generator.get_encoder())
    frozen = [parameter for parameter in encoder.parameters() if parameter.requires_grad] if wanted else []
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _chosen(history: Sequence[Mapping[str, float]], *, best: bool) -> dict[str, float]:
    rows = [row for row in history if f"{_EVAL}score" in row]
    if not rows:
        return {}
    # Of equal scores Trainer keeps the first.
    row = max(rows, key=lambda row: row[f"{_EVAL}score"]) if best else rows[-1]
    names = ("Success@1", "Success@5", "Success@10", "score", "kl")
    return {name: row[f"{_EVAL}{name}"] for name in names}


__all__ = ["ClipEachModel", "JointRecord", "JointTraining", "joint_parameter_groups", "train_joint"]
