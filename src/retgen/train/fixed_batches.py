"""What trainings on sentence-transformers' trainers share: batches that a stream of ours fixes, and its own dev set.

Importing this imports neither of these trainers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from retgen.train.resumable import Measure


class Stream(Protocol):
    """Training rows whose batches are known beforehand."""

    @property
    def batches(self) -> list[list[int]]:
        """Numbers of the rows of each batch, in order."""
        ...

    def __len__(self) -> int:
        """Rows."""
        ...

    def __getitem__(self, number: int, /) -> Any:
        """One of them."""
        ...


class FixedBatches(BatchSampler):
    """A stream's batches, in its order. Several processes get equally many, all of them full."""

    def __init__(self, stream: Stream, processes: int = 1) -> None:
        batches = stream.batches
        full = max(map(len, batches))
        super().__init__(SequentialSampler(stream), full, drop_last=False)
        if processes > 1:
            batches = [batch for batch in batches if len(batch) == full]
            batches = batches[: len(batches) // processes * processes]
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class FixedBatchesTraining:
    """For a trainer class to inherit from first: reads ``batches`` of ``stream``, and evaluates by ``measure``."""

    stream: Dataset[Any]
    batches: FixedBatches
    measure: Measure | None
    args: Any
    accelerator: Any
    state: Any
    control: Any
    callback_handler: Any
    data_collator: Any

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The stream's own batches."""
        self.accelerator.even_batches = False
        loader: DataLoader[Any] = self.accelerator.prepare(
            DataLoader(
                self.stream,
                batch_sampler=self.batches,
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
            )
        )
        self._train_dataloader = loader
        return loader

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """What the dev set measures, logged."""
        assert self.measure is not None  # evaluation is off without it
        measured = {f"{metric_key_prefix}_{name}": float(value) for name, value in self.measure().items()}
        self.log(measured)  # type: ignore[attr-defined]
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measured)
        return measured

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: it would read the whole stream to describe it."""

    def _load_best_model(self) -> None:
        # The library's logs a failure and goes on with other weights.
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))  # type: ignore[attr-defined]
