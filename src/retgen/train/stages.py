"""Training in stages, as data: which pairs, for how long, with which losses; each stage begins where the last ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ConfigDict

from retgen.errors import UsageError
from retgen.generative.unigen import UniGen
from retgen.train.options import UniGenTraining
from retgen.train.pairs import Material, Pairs, mixed_examples
from retgen.train.unigen import DevSet, TrainingRecord, train_unigen

Progress = Callable[[str, int, int, str], None]
"""Called with the stage's name, its step, its steps, and what was last logged."""


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """One stage of a generative retriever's training.

    Args:
        name: for progress and checkpoints.
        pairs: that it reads.
        epochs: passes over them.
        steps: optimiser steps in place of epochs; 0 counts epochs.
        batch_size: pairs a step on each device.
        learning_rate: of weights that were trained before.
        fresh_learning_rate: of weights that start at random; 0 is the same.
        warmup_steps: of the learning rate.
        consistency: weight of R-Drop's loss.

    Raises:
        UsageError: a stage without pairs; and see `UniGenTraining`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    pairs: tuple[Pairs, ...]
    epochs: float = 1.0
    steps: int = 0
    batch_size: int = 32
    learning_rate: float = 1e-3
    fresh_learning_rate: float = 0.0
    warmup_steps: int = 0
    consistency: float = 0.0

    def __post_init__(self) -> None:
        if not self.pairs:
            raise UsageError(f"the stage {self.name!r} has no pairs to be trained on", mend="Give at least one kind")
        self.options(UniGenTraining())

    def options(self, base: UniGenTraining) -> UniGenTraining:
        """Options of its training.

        Args:
            base: what a stage does not decide: precision, seed, checkpoints, dev measures.
        """
        return replace(
            base,
            max_steps=self.steps,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            fresh_learning_rate=self.fresh_learning_rate or None,
            warmup_steps=self.warmup_steps,
            consistency=self.consistency,
        )


def train_in_stages(
    system: UniGen,
    stages: Sequence[TrainingStage],
    material: Material,
    folder: str | Path,
    *,
    base: UniGenTraining | None = None,
    dev: DevSet | None = None,
    progress: Progress | None = None,
) -> list[TrainingRecord]:
    """Train a system's model in place, stage by stage: each begins with the weights that the one before ended with.

    Stopped, it goes on where it was when it is called again with a system built alike: finished stages only give their
    weights.

    Args:
        system: with the docids that ``material.table`` has.
        stages: in order.
        material: what their pairs are made from.
        folder: keeps the checkpoints, one folder for each stage.
        base: what the stages do not decide.
        dev: asked in every stage as often as ``base.eval_steps`` says.
        progress: told of each step.

    Returns:
        What each stage did; its curve is also added to the system's history, under the stage's number.

    Raises:
        UsageError: no stages, two of one name, or no pairs of some kind.
        MismatchError: the folder keeps the checkpoints of another training.
    """
    if not stages or len({stage.name for stage in stages}) != len(stages):
        raise UsageError("a training needs stages, each with a name of its own")
    base = base or UniGenTraining()
    # Made before anything is trained: what is missing is said at once.
    examples = [mixed_examples(stage.pairs, material) for stage in stages]
    records = []
    for number, (stage, own) in enumerate(zip(stages, examples, strict=True)):
        options = stage.options(base)
        record = train_unigen(
            system,
            own,
            Path(folder) / f"{number}-{stage.name}",
            options=options if dev is not None else replace(options, eval_steps=0, keep_best=False),
            dev=dev if base.eval_steps else None,
            progress=None if progress is None else _told(progress, stage.name),
        )
        system.history += [{**row, "stage": number} for row in record.history]
        records.append(record)
    return records


def _told(progress: Progress, name: str) -> Callable[[int, int, str], None]:
    return lambda step, steps, last: progress(name, step, steps, last)
