"""sentence-transformers' trainer and loss over a stream of batches of ours. Importing this imports that library."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from sentence_transformers.util import cos_sim, dot_score
from torch import nn
from transformers import PrinterCallback, TrainerCallback

from retgen.dense.encoder import similarity_of
from retgen.train.arguments import TrainingOptions, training_arguments
from retgen.train.bi_encoder_stream import BiEncoderStream
from retgen.train.fixed_batches import FixedBatches, FixedBatchesTraining
from retgen.train.resumable import Measure

_WEIGHTS = "model.safetensors"


class BiEncoderTrainer(FixedBatchesTraining, SentenceTransformerTrainer):
    """Trains a bi-encoder in place by in-batch and hard negatives. It prints nothing.

    Args:
        encoder: what is trained.
        stream: what on.
        folder: for checkpoints.
        options: of the training; ``max_steps`` and ``epochs`` are the stream's.
        weight_decay: of matrices.
        scale: the similarities are multiplied by it before the softmax.
        callbacks: `retgen.train.resumable.train_resumably`'s, and others.
        measure: of a dev set; None leaves evaluation out.
    """

    def __init__(
        self,
        encoder: SentenceTransformer,
        stream: BiEncoderStream,
        folder: Path,
        options: TrainingOptions,
        *,
        weight_decay: float,
        scale: float,
        callbacks: Sequence[TrainerCallback],
        measure: Measure | None,
    ) -> None:
        self.trained = encoder
        self.measure = measure
        self.stream = stream
        args = _arguments(folder, options, encoder.device, stream, encoder, evaluates=measure is not None)
        args.weight_decay = weight_decay
        self.batches = FixedBatches(stream, args.world_size)
        args.max_steps = len(self.batches) // args.world_size
        similarity = cos_sim if similarity_of(encoder) == "cosine" else dot_score
        super().__init__(
            model=encoder,
            args=args,
            train_dataset=stream,
            # Required where there is evaluation, and never read: `measure` has its own data.
            eval_dataset=stream if measure is not None else None,
            loss=MultipleNegativesRankingLoss(
                encoder, scale=scale, similarity_fct=similarity, gather_across_devices=args.world_size > 1
            ),
            callbacks=list(callbacks),
        )
        self.remove_callback(PrinterCallback)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # All weights in one file, whatever the modules: what a training goes on with, not what is used.
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.trained, str(folder / _WEIGHTS))
        torch.save(self.args, folder / "training_args.bin")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_model(self.trained, str(Path(resume_from_checkpoint) / _WEIGHTS))


def _arguments(
    folder: Path,
    options: TrainingOptions,
    device: torch.device,
    stream: BiEncoderStream,
    encoder: SentenceTransformer,
    *,
    evaluates: bool,
) -> SentenceTransformerTrainingArguments:
    made = training_arguments(folder, options, device, evaluates=evaluates)
    values = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.init}
    roles = {name: "query" if name == "query" else "document" for name in stream.column_names}
    return SentenceTransformerTrainingArguments(
        **values,
        # As `retgen.dense.encoder.encode` will ask: by role, with the model's own prompt for it.
        router_mapping=roles,
        prompts={name: text for name, role in roles.items() if (text := encoder.prompts.get(role))},
    )
