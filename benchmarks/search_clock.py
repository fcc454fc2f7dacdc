"""Where the time of a docid search goes: the model, the constraint (the tree), and the rest, which is bookkeeping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from retgen.docids.allowed import AllowedTree
from retgen.docids.session import RowOutputs, RowSession

Result = TypeVar("Result")


class Clock:
    """Seconds by part, and the model's passes. What is timed within another part counts for the outer one."""

    def __init__(self) -> None:
        self.seconds = {"model": 0.0, "constraint": 0.0}
        self.passes = 0
        self._inside = False

    def timed(self, part: str, work: Callable[[], Result]) -> Result:
        if self._inside:
            return work()
        self._inside = True
        start = time.perf_counter()
        try:
            return work()
        finally:
            self._inside = False
            self.seconds[part] += time.perf_counter() - start

    @contextmanager
    def normalisers(self) -> Iterator[None]:
        """Within it, the softmax's normaliser counts as the model's: a search without constraint needs it too."""
        plain = torch.logsumexp

        def clocked(*args: Any, **options: Any) -> torch.Tensor:
            return self.timed("model", lambda: plain(*args, **options))

        torch.logsumexp = clocked  # type: ignore[assignment]
        try:
            yield
        finally:
            torch.logsumexp = plain


class ClockedSession:
    """A `RowSession` whose passes and projections are timed."""

    def __init__(self, session: RowSession, clock: Clock) -> None:
        self.session, self.clock = session, clock
        self.batch_size, self.vocab_size = session.batch_size, session.vocab_size

    def step_rows(
        self, parents: torch.Tensor, tokens: torch.Tensor, tails: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[RowOutputs, RowOutputs | None]:
        self.clock.passes += 1
        outputs, ended = self.clock.timed("model", lambda: self.session.step_rows(parents, tokens, tails))
        return ClockedOutputs(outputs, self.clock), None if ended is None else ClockedOutputs(ended, self.clock)

    def read_rows(self, queries: torch.Tensor, tokens: torch.Tensor) -> RowOutputs:
        self.clock.passes += 1
        return ClockedOutputs(self.clock.timed("model", lambda: self.session.read_rows(queries, tokens)), self.clock)

    def in_fp32(self) -> RowSession:
        finer = self.session.in_fp32()
        return self if finer is self.session else ClockedSession(finer, self.clock)


class ClockedOutputs:
    def __init__(self, outputs: Any, clock: Clock) -> None:
        self._outputs, self._clock = outputs, clock

    def logits(self, places: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        return self._clock.timed("model", lambda: self._outputs.logits(places, tokens))

    def log_probs(self, places: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self._clock.timed("model", lambda: self._outputs.log_probs(places, tokens))

    def list_log_probs(self, places: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self._clock.timed("model", lambda: self._outputs.list_log_probs(places, tokens))


class ClockedTree(AllowedTree):
    """An `AllowedTree` whose look-ups are timed."""

    def __init__(self, tree: Any, clock: Clock) -> None:
        super().__init__(tree)
        self._clock = clock

    def remaining(self, *args: Any) -> Any:
        return self._clock.timed("constraint", lambda: super(ClockedTree, self).remaining(*args))

    def expand(self, *args: Any) -> Any:
        return self._clock.timed("constraint", lambda: super(ClockedTree, self).expand(*args))

    def hub(self, *args: Any) -> Any:
        return self._clock.timed("constraint", lambda: super(ClockedTree, self).hub(*args))

    def rests(self, *args: Any) -> Any:
        return self._clock.timed("constraint", lambda: super(ClockedTree, self).rests(*args))
