"""Training of a bi-encoder: each question's passage among those of the others and hard negatives, as DPR's.

The loop and the loss are sentence-transformers'; the order of the data, the dev measures and going on where a training
was stopped are ours. Negatives of the model's own search are `retgen.train.ance`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retgen.dense import DenseRetriever
from retgen.dense.encoder import similarity_of
from retgen.errors import UsageError
from retgen.evaluate import evaluate_run
from retgen.train.arguments import require_dev_for_best
from retgen.train.bi_encoder_stream import BiEncoderStream
from retgen.train.candidates import LabelledCandidates, passage_of
from retgen.train.cross_encoder import lowest_layers, require_extras
from retgen.train.freezing import frozen
from retgen.train.option_checks import check_options
from retgen.train.resumable import Progress, TrainingRecord, fingerprint, train_resumably, weight_shapes
from retgen.types import Document, DocumentSource, Query

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import TrainerCallback

MEASURES = ("Success@1", "RR@10")
SCALES: Mapping[str, float] = {"cosine": 20.0, "dot": 1.0}
"""What similarities are multiplied by before the softmax, where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class BiEncoderTraining:
    """Options of a bi-encoder's training. The defaults are DPR's.

    Args:
        max_steps: optimiser steps; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: questions a step on each device; each has one relevant passage and its hard negatives, and all the
            others' passages are negatives too.
        negatives: hard negatives of a question, drawn anew for every epoch.
        scale: of the similarities in the softmax; 0 takes 20 for cosines and 1 for inner products.
        learning_rate: of AdamW.
        warmup_steps: linear warm-up, then linear decay to 0; below 1, a share of all steps.
        weight_decay: of AdamW; matrices only.
        max_grad_norm: gradient clipping.
        frozen_layers: lowest layers that keep their weights; the embeddings then do too. Quicker, and not in the paper.
        eval_steps: the dev set is measured every so many steps; 0 is at the end only.
        save_steps: a checkpoint every so many steps.
        keep_best: end with the checkpoint of the best dev RR@10, not the last.
        precision: ``auto`` (bf16 where it is measured to be faster), ``fp32`` or ``bf16``.
        seed: of everything random.
    """

    max_steps: int = 0
    epochs: float = 40.0
    batch_size: int = 128
    negatives: int = 1
    scale: float = 0.0
    learning_rate: float = 2e-5
    warmup_steps: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 2.0
    frozen_layers: int = 0
    eval_steps: int = 0
    save_steps: int = 200
    keep_best: bool = False
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(
            self, not_negative=("frozen_layers", "weight_decay", "negatives", "scale"), rates=("learning_rate",)
        )
        if self.batch_size == 1 and not self.negatives:
            raise UsageError("one question a batch and no hard negatives leave nothing to tell apart")


@dataclass(frozen=True, slots=True)
class DevPool:
    """Dev questions and a pool of passages that they are searched in: all their candidates, one's beside the others'.

    A stand-in for the corpus, which would take long to encode again and again; its values are higher than the corpus'.

    Args:
        queries: with a relevant passage each.
        relevant: question id → its relevant passages.
        passages: the pool.
    """

    queries: Sequence[Query]
    relevant: Mapping[str, Sequence[str]]
    passages: Sequence[Document]

    @classmethod
    def of(cls, candidates: Iterable[LabelledCandidates], documents: DocumentSource) -> DevPool | None:
        """The pool of dev questions' candidates; None where there are no questions."""
        kept = list(candidates)
        names = dict.fromkeys(name for one in kept for name in one.passages)
        passages = [passage_of(documents, name) for name in names]
        relevant = {one.query.id: one.positives for one in kept}
        return cls([one.query for one in kept], relevant, passages) if kept else None

    def measure(self, encoder: SentenceTransformer) -> dict[str, float]:
        """Success@1 and RR@10 within the pool, 0 to 1; ``score``, which the best is chosen by, is RR@10."""
        run = DenseRetriever.build(self.passages, encoder).search(self.queries, 10)
        qrels = {query_id: dict.fromkeys(names, 1) for query_id, names in self.relevant.items()}
        means = evaluate_run(run, qrels, MEASURES).means
        return {**{name: means[name] for name in MEASURES}, "score": means["RR@10"]}


def train_bi_encoder(
    encoder: SentenceTransformer,
    candidates: Iterable[LabelledCandidates],
    documents: DocumentSource,
    folder: str | Path,
    *,
    options: BiEncoderTraining | None = None,
    dev: DevPool | None = None,
    progress: Progress | None = None,
) -> TrainingRecord:
    """Train a bi-encoder in place.

    Args:
        encoder: with weights in fp32, see `retgen.dense.fresh.begin_encoder`.
        candidates: of the training questions, see `retgen.train.hard_negatives`; all with a relevant passage.
        documents: gives their passages.
        folder: keeps checkpoints and TensorBoard's logs. A folder with a finished checkpoint is resumed from it; a
            resumed run ends with the very weights of an uninterrupted one (bitwise on a CPU with as many threads).
        options: of the training.
        dev: measured as training goes on.
        progress: called with (step, steps, what was last logged).

    Raises:
        UsageError: there is nothing to train on, a question without a relevant passage, or options that contradict each
            other.
        UnknownDocumentError: a passage is not among the documents.
        MismatchError: the folder keeps the checkpoints of a training with other candidates, options or model.
        MissingExtraError: sentence-transformers, datasets or accelerate is not installed.

    Reference:
        Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", 2020.
    """
    options = options or BiEncoderTraining()
    kept = list(candidates)
    _check(encoder, kept)
    require_dev_for_best(options, evaluates=dev is not None)
    require_extras()
    scale = options.scale or SCALES[similarity_of(encoder)]
    decisive = (
        options,
        scale,
        encoder.max_seq_length,
        getattr(documents, "fingerprint", None),
        weight_shapes(encoder),
    )

    def build(place: Path, callbacks: list[TrainerCallback]) -> Any:
        from retgen.train.bi_encoder_trainer import BiEncoderTrainer

        stream = BiEncoderStream(
            kept,
            documents,
            negatives=options.negatives,
            batch_size=options.batch_size,
            epochs=options.epochs,
            max_steps=options.max_steps,
            seed=options.seed,
        )
        return BiEncoderTrainer(
            encoder,
            stream,
            place,
            options,
            weight_decay=options.weight_decay,
            scale=scale,
            callbacks=callbacks,
            measure=None if dev is None else lambda: dev.measure(encoder),
        )

    with _frozen_layers(encoder, options.frozen_layers):
        return train_resumably(
            encoder,
            folder,
            build,
            options=options,
            training=fingerprint(decisive, kept),
            device=torch.device(encoder.device),
            progress=progress,
            shown=("loss", *MEASURES),
        )


def _frozen_layers(encoder: SentenceTransformer, layers: int) -> AbstractContextManager[None]:
    from transformers import PreTrainedModel

    # Two towers have two: both keep as many layers.
    models = [part for part in encoder.modules() if isinstance(part, PreTrainedModel)]
    outer = [model for model in models if not any(model is not other and _holds(other, model) for other in models)]
    return frozen([part for model in outer for part in lowest_layers(model, layers)] if layers else [])


def _holds(model: nn.Module, other: nn.Module) -> bool:
    return any(part is other for part in model.modules())


def _check(encoder: SentenceTransformer, candidates: Sequence[LabelledCandidates]) -> None:
    if not candidates:
        raise UsageError("there is nothing to train on", mend="Give at least one question with a relevant passage")
    for question in candidates:
        if not any(question.labels):
            raise UsageError(
                f"question {question.query.id!r} has no relevant passage",
                mend="Leave such questions out, as retgen.train.hard_negatives does",
            )
    dtypes = {parameter.dtype for parameter in encoder.parameters()}
    if dtypes != {torch.float32}:
        raise UsageError(
            "a model that is not held in float32 forgets small steps: it cannot be trained",
            mend='Load it in float32; precision="bf16" computes in bf16 over weights in fp32',
        )
