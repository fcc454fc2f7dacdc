"""The order examples are trained in: batches of similar length in random order, the same after a resume."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class FollowsEpochs(Protocol):
    """A part of the data that differs between epochs."""

    def set_epoch(self, epoch: int) -> None:
        """Called when an epoch begins, also when training is resumed within it."""
        ...


class LengthBucketSampler(Sampler[int]):
    """Shuffles, then sorts within chunks of some batches by length and shuffles the batches.

    The order follows from seed and epoch alone, never from global random state.

    Args:
        lengths: of every example, in any unit.
        batch_size: examples a batch.
        seed: of the order.
        chunk: batches that are sorted together; more pad less and mix less.
        groups: a number for every example; those of one group stand together, so that most batches hold all of a group.
            A group's examples have the same length. None groups nothing.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, chunk: int = 20, groups: Sequence[int] | None = None
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.chunk = chunk
        self.groups = groups
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader when an epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(self.seed * 1_000_003 + self.epoch)
        order = list(range(len(self.lengths)))
        chance.shuffle(order)
        group = self.groups
        if group is not None:
            first = {group[item]: place for place, item in reversed(list(enumerate(order)))}
            order.sort(key=lambda item: first[group[item]])
        size = self.batch_size * self.chunk
        batches: list[list[int]] = []
        for start in range(0, len(order), size):
            part = sorted(
                order[start : start + size],
                key=lambda item: (self.lengths[item], item if group is None else group[item], item),
            )
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        # The one short batch stays last, or the loader would cut all batches behind it differently.
        short = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        chance.shuffle(full)
        for batch in [*full, *short]:
            yield from batch


class FollowEpochs(TrainerCallback):
    """Tells parts of the data which epoch begins.

    A data loader that goes on within an epoch, or one of several processes, tells its sampler or its data set but not
    both: a resumed run would draw otherwise than an uninterrupted one.

    Args:
        parts: each with a ``set_epoch``.
    """

    def __init__(self, *parts: FollowsEpochs) -> None:
        self.parts = parts

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called before the data of an epoch, or of what is left of one, are read."""
        for part in self.parts:
            part.set_epoch(int(state.epoch or 0))
