"""Options that every training has, and Trainer's arguments made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from transformers import TrainingArguments

from retgen.devices import bf16_is_faster
from retgen.errors import UsageError

if TYPE_CHECKING:
    import torch

_NEVER = 10**9


class TrainingOptions(Protocol):
    """What the options of every training have."""

    @property
    def max_steps(self) -> int:
        """Optimiser steps; 0 trains for ``epochs``."""
        ...

    @property
    def epochs(self) -> float:
        """Passes over the examples."""
        ...

    @property
    def batch_size(self) -> int:
        """Examples a step on each device."""
        ...

    @property
    def learning_rate(self) -> float:
        """The highest."""
        ...

    @property
    def warmup_steps(self) -> float:
        """Of the learning rate; below 1, a share of all steps."""
        ...

    @property
    def max_grad_norm(self) -> float:
        """Gradient clipping."""
        ...

    @property
    def eval_steps(self) -> int:
        """Between dev measures; 0 is at the end only."""
        ...

    @property
    def save_steps(self) -> int:
        """Between checkpoints."""
        ...

    @property
    def keep_best(self) -> bool:
        """End with the checkpoint of the best dev score."""
        ...

    @property
    def precision(self) -> str:
        """``auto``, ``fp32`` or ``bf16``."""
        ...

    @property
    def seed(self) -> int:
        """Of everything random."""
        ...


def require_dev_for_best(options: TrainingOptions, *, evaluates: bool) -> None:
    """Refuse to keep the best checkpoint where nothing tells which that is.

    Raises:
        UsageError: ``keep_best`` without dev questions or ``eval_steps``.
    """
    if options.keep_best and not (evaluates and options.eval_steps):
        raise UsageError("keeping the best checkpoint needs dev questions and eval_steps")


def training_arguments(
    folder: Path, options: TrainingOptions, device: torch.device, *, evaluates: bool, accumulation_steps: int = 1
) -> TrainingArguments:
    """The options as Trainer wants them: linear warm-up and decay, two checkpoints kept, no bars.

    Args:
        folder: for checkpoints.
        options: of the training.
        device: where the model is.
        evaluates: whether a dev set is measured.
        accumulation_steps: batches that make one optimiser step.
    """
    bf16 = options.precision == "bf16" or (options.precision == "auto" and bf16_is_faster(device.type))
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=options.max_steps or -1,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=accumulation_steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=options.warmup_steps,
        max_grad_norm=options.max_grad_norm,
        logging_steps=min(50, options.eval_steps or 50),
        eval_strategy="steps" if evaluates else "no",
        # Trainer evaluates after the last step too, whatever this number.
        eval_steps=options.eval_steps or _NEVER,
        save_strategy="steps",
        save_steps=options.eval_steps if options.keep_best else options.save_steps,
        save_total_limit=2,
        load_best_model_at_end=options.keep_best,
        metric_for_best_model="eval_score" if options.keep_best else None,
        greater_is_better=True if options.keep_best else None,
        report_to=["tensorboard"] if _has_tensorboard() else [],
        bf16=bf16,
        use_cpu=device.type == "cpu",
        seed=options.seed,
        data_seed=options.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
    )


def _has_tensorboard() -> bool:
    from importlib.util import find_spec

    return find_spec("tensorboard") is not None
