"""sentence-transformers' trainer and losses over a `CrossEncoder` of ours. Importing this imports that library."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.cross_encoder import (
    CrossEncoder as LibraryCrossEncoder,
)
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, ListNetLoss
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback

from retgen.models.first_token import first_token_only
from retgen.models.quiet import no_progress_bars
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.train.arguments import TrainingOptions, training_arguments
from retgen.train.fixed_batches import FixedBatches, FixedBatchesTraining
from retgen.train.pair_stream import BINARY, PairStream
from retgen.train.resumable import Measure


class PairTrainer(FixedBatchesTraining, CrossEncoderTrainer):
    """Trains a `CrossEncoder`'s model in place, on a stream of batches. It prints nothing.

    Args:
        reranker: whose model is trained.
        stream: what on.
        folder: for checkpoints.
        options: of the training; ``max_steps`` and ``epochs`` are the stream's.
        weight_decay: of matrices.
        callbacks: `retgen.train.resumable.train_resumably`'s, and others.
        measure: of a dev set; None leaves evaluation out.
    """

    def __init__(
        self,
        reranker: CrossEncoder,
        stream: PairStream,
        folder: Path,
        options: TrainingOptions,
        *,
        weight_decay: float,
        callbacks: Sequence[TrainerCallback],
        measure: Measure | None,
    ) -> None:
        self.trained = reranker.model
        self.measure = measure
        self.stream = stream
        model = _in_library(reranker)
        args = _arguments(folder, options, reranker.device, evaluates=measure is not None)
        args.weight_decay = weight_decay
        self.batches = FixedBatches(stream, args.world_size)
        args.max_steps = len(self.batches) // args.world_size
        binary = stream.objective == BINARY
        super().__init__(
            model=model,
            args=args,
            train_dataset=stream,
            # Required where there is evaluation, and never read: `measure` has its own data.
            eval_dataset=stream if measure is not None else None,
            loss=BinaryCrossEntropyLoss(model) if binary else ListNetLoss(model, mini_batch_size=-1),
            callbacks=list(callbacks),
        )
        self.remove_callback(PrinterCallback)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # Not the library's: that builds a second model of a class of its own.
        with no_progress_bars():
            weights = type(self.trained).from_pretrained(resume_from_checkpoint)
        self.trained.load_state_dict(weights.state_dict())


class _PairModel(LibraryCrossEncoder):
    """Reads pairs as the re-ranker does (only the passage is cut), and scores with one logit, also of two outputs."""

    reranker: CrossEncoder

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        return {**self.reranker.inputs([(query, passage) for query, passage in inputs]), "modality": "text"}

    def forward(self, input: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
        with first_token_only(self.reranker.model):
            features: dict[str, Tensor] = super().forward(input, **options)
        scores = features["scores"]
        if scores.shape[-1] == 2:
            features["scores"] = scores[:, 1:] - scores[:, :1]
        return features

    @property
    def num_labels(self) -> int:
        return 1


def _in_library(reranker: CrossEncoder) -> _PairModel:
    # The library builds its modules from folders only.
    with tempfile.TemporaryDirectory() as folder:
        reranker.model.save_pretrained(folder)
        reranker.tokenizer.save_pretrained(folder)
        model: _PairModel = _PairModel(folder, device=str(reranker.device), local_files_only=True)
    model[0].model = reranker.model
    # Not as an attribute of a module: its weights would be counted twice.
    object.__setattr__(model, "reranker", reranker)
    return model


def _arguments(
    folder: Path, options: TrainingOptions, device: torch.device, *, evaluates: bool
) -> CrossEncoderTrainingArguments:
    made = training_arguments(folder, options, device, evaluates=evaluates)
    values = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.init}
    return CrossEncoderTrainingArguments(**values)
