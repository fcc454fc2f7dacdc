"""Options of a training of UniGen."""

from __future__ import annotations

from dataclasses import dataclass

from retgen.errors import UsageError
from retgen.train.option_checks import check_options


@dataclass(frozen=True, slots=True)
class UniGenTraining:
    """Options of one stage. The defaults are the paper's, but for the batch, which is smaller.

    Args:
        max_steps: optimiser steps; 0 trains for ``epochs``.
        epochs: passes over the examples.
        batch_size: examples a step on each device (the paper: 128 over four).
        learning_rate: of weights that were trained before (all of a T5 checkpoint, a warm start's encoder), and of all
            but the heads of a model from scratch.
        fresh_learning_rate: of weights that start at random: a warm start's decoders, the heads. None is the same.
        prior_learning_rate: of the copy heads' few scalars, which must move by whole units.
        warmup_steps: linear warm-up; then the rate falls linearly to 0.
        weight_decay: of AdamW; matrices only.
        max_grad_norm: gradient clipping.
        frozen_layers: lowest encoder layers that keep their weights; the embeddings then do too. Where all do,
            each text is encoded once, without dropout (`retgen.models.still_encoder`).
        consistency: weight of R-Drop's loss (NCI: 0.15), for which docids are read twice; the network needs dropout.
        shuffle_passages: share of examples read with their passages in random order.
        eval_steps: dev questions are asked every so many steps; 0 is at the end only.
        save_steps: a checkpoint every so many steps.
        keep_best: end with the checkpoint of the best dev score, not the last.
        precision: ``auto`` (bf16 where it is measured to be faster), ``fp32`` or ``bf16``.
        seed: of everything random.
    """

    max_steps: int = 0
    epochs: float = 3.0
    batch_size: int = 16
    learning_rate: float = 5e-4
    fresh_learning_rate: float | None = None
    prior_learning_rate: float = 1e-2
    warmup_steps: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    frozen_layers: int = 0
    consistency: float = 0.0
    shuffle_passages: float = 0.0
    eval_steps: int = 0
    save_steps: int = 200
    keep_best: bool = False
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self, not_negative=("frozen_layers", "consistency"))
        if not 0.0 <= self.shuffle_passages <= 1.0:
            raise UsageError(f"shuffle_passages is a share of the examples, 0 to 1, not {self.shuffle_passages}")
