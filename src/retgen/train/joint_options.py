"""Options of joint fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from retgen.errors import UsageError
from retgen.models.prompt_format import PromptFormat
from retgen.train.joint_loss import OBJECTIVES
from retgen.train.option_checks import check_options

NEGATIVES = ("random", "hardest")


@dataclass(frozen=True, slots=True)
class JointTraining:
    """Options of one joint fine-tuning. The defaults are the paper's for Natural Questions.

    Args:
        max_steps: optimiser steps; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: questions a step on each device: four of 24 candidates are the paper's batch of 96 pairs.
        learning_rate: of the cross-encoder.
        generator_learning_rate: of the generator.
        alpha: weight of the matching loss; 0 trains each model alone (5e-3 for TriviaQA).
        objective: of the cross-encoder: ``binary`` (the paper's) or ``ranking`` (softmax over the candidates).
        candidates_per_question: drawn anew for every epoch; the softmaxes are over them.
        max_positives: relevant ones among them at most, so that a question of many golds keeps negatives. The
            generator learns from these.
        negatives: the others: ``random`` ones of those given, or the ``hardest``: the first stage's best.
        generator_weight: λ of the fused order that dev questions are measured in.
        warmup_steps: linear warm-up, in steps; below 1, a share of all steps. Then the rates fall linearly to 0.
        weight_decay: of AdamW; matrices only.
        max_grad_norm: each model's gradient is clipped to this norm on its own; 0 clips neither.
        freeze_encoder: the generator's encoder keeps its weights, and so do word embeddings that it shares.
        pairs_at_once: question-passage pairs whose activations are kept in memory at once: the rest are computed again
            in the backward pass. 0 keeps all.
        preset: how passages and questions are written for the generator: a name, or a format of your own.
        max_pair_tokens: of a question with a passage for the cross-encoder; longer ones are cut.
        eval_steps: dev questions are measured every so many steps; 0 is at the end only.
        save_steps: a checkpoint every so many steps.
        keep_best: end with the checkpoint of the best dev score, not the last.
        precision: ``auto`` (bf16 where it is measured to be faster), ``fp32`` or ``bf16``.
        seed: of everything random.

    Raises:
        UsageError: an option that cannot be.

    Reference:
        "Joint Passage Re-ranking", section 2.2 and Table 4.
    """

    max_steps: int = 0
    epochs: float = 1.0
    batch_size: int = 4
    learning_rate: float = 1e-5
    generator_learning_rate: float = 2e-5
    alpha: float = 5e-4
    objective: str = "binary"
    candidates_per_question: int = 24
    max_positives: int = 16
    negatives: str = "random"
    generator_weight: float = 0.5
    warmup_steps: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    freeze_encoder: bool = False
    pairs_at_once: int = 0
    preset: str | PromptFormat = "jpr"
    max_pair_tokens: int = 512
    eval_steps: int = 0
    save_steps: int = 200
    keep_best: bool = False
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in {"objective": OBJECTIVES, "negatives": NEGATIVES}.items():
            if getattr(self, name) not in known:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}", mend=f"Choose one of {', '.join(known)}")
        check_options(
            self,
            at_least_one=("max_positives", "candidates_per_question", "max_pair_tokens"),
            not_negative=("pairs_at_once",),
        )
        for name in ("learning_rate", "generator_learning_rate", "alpha", "weight_decay", "max_grad_norm"):
            # Not a number is neither.
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} must be a number of at least 0, not {getattr(self, name)}")
        if not 0 <= self.generator_weight <= 1:
            raise UsageError(f"the generator's weight λ lies between 0 and 1, not at {self.generator_weight}")
