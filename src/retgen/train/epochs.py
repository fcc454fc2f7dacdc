"""Examples that know in which epoch they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch.utils.data import Dataset

Example = TypeVar("Example")


class EpochDataset(Dataset[tuple[Example, int]]):
    """Examples with the number of their draw, which seeds what varies between epochs.

    Args:
        examples: read once in every epoch.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called when an epoch begins, also when training is resumed within it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> tuple[Example, int]:
        return self.examples[number], self.epoch * len(self.examples) + number
