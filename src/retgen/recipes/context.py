"""What a stage is given to work with, and what it gives back.

A stage writes into ``context.folder`` and nowhere else; what it needs lies in the folders of other stages. Who runs it,
when, and whether at all, is `retgen.recipes.runner`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retgen.errors import RetgenError
from retgen.recipes.events import Event, Listener


class StageError(RetgenError):
    """A stage that failed; the message names it, and what to do to go on."""


Number = float | int | str | None


@dataclass(slots=True)
class StageReport:
    """What a stage found out, for the rows that need it.

    Args:
        values: column → value.
        per_question: measure → question id → value.
        statistics: corpus-level measure → question id → sufficient statistics, e.g. those of BLEU-1.
    """

    values: dict[str, Number] = field(default_factory=dict)
    per_question: dict[str, dict[str, float]] = field(default_factory=dict)
    statistics: dict[str, dict[str, list[float]]] = field(default_factory=dict)


@dataclass(slots=True)
class StageContext:
    """What a stage is given.

    Args:
        name: the stage's name in its recipe.
        folder: where it writes; becomes the stage's finished folder when it returns.
        scratch: a folder that survives an interruption and is removed when the stage is done: for checkpoints.
        cache: a folder that all stages of an output share and that may be removed at any time: no result depends on it.
        inputs: role → finished folder of a needed stage.
        data: the user's data folder, or None.
        data_files: the declared files, relative to it.
        listen: told of progress.
        seed_or_none: the seed; None where all seeds share the stage. Use `seed`.
        reported: what was reported so far.
    """

    name: str
    folder: Path
    scratch: Path
    cache: Path
    inputs: Mapping[str, Path]
    data: Path | None
    data_files: tuple[str, ...]
    listen: Listener
    seed_or_none: int | None
    reported: StageReport = field(default_factory=StageReport)

    @property
    def seed(self) -> int:
        """The seed.

        Raises:
            StageError: the stage is not seeded, so that its result is shared by all seeds.
        """
        if self.seed_or_none is None:
            raise StageError("this stage asks for a seed, but is not registered as seeded", where=self.name)
        return self.seed_or_none

    def input(self, role: str) -> Path:
        """The finished folder of the stage that plays a role.

        Raises:
            StageError: nothing plays it.
        """
        if role not in self.inputs:
            raise StageError(f"this stage asks for {role!r}, which it does not need", where=self.name)
        return self.inputs[role]

    def data_file(self, name: str | None = None) -> Path:
        """A declared file of the data folder; without a name, the only one.

        Raises:
            StageError: it is not declared under ``data``, so that the key would not notice its change.
        """
        if self.data is None or (name is None and len(self.data_files) != 1) or name not in {None, *self.data_files}:
            raise StageError(
                f"this stage reads {name or 'one data file'!r}, but declares {list(self.data_files)}",
                where=self.name,
                mend="Add it to the stage's data in the recipe",
            )
        return self.data / (name or self.data_files[0])

    def progress(self, done: int, total: int = 0, text: str = "") -> None:
        """Say how far it is; a total of 0 is one not known."""
        self.listen(Event("progress", self.name, self.seed_or_none, int(done), int(total), str(text)))

    def log(self, text: str) -> None:
        """Say something."""
        self.listen(Event("message", self.name, self.seed_or_none, text=str(text)))

    def report(
        self,
        values: Mapping[str, Number],
        *,
        per_question: Mapping[str, Mapping[str, float]] | None = None,
        statistics: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    ) -> None:
        """Give values to the rows that need this stage. May be called several times, each with new names.

        Args:
            values: column → number, text, or None where there is none.
            per_question: measure → question id → value: for tests and intervals.
            statistics: corpus-level measure → question id → sufficient statistics.

        Raises:
            StageError: a name was reported before, or a number is not finite.
        """
        reported = self.reported
        for name, value in values.items():
            self._once(name, reported.values)
            reported.values[name] = self._value(name, value)
        for name, per_id in (per_question or {}).items():
            self._once(name, reported.per_question)
            reported.per_question[name] = {str(key): self._number(name, number) for key, number in per_id.items()}
        for name, rows in (statistics or {}).items():
            self._once(name, reported.statistics)
            reported.statistics[name] = {
                str(key): [self._number(name, number) for number in row] for key, row in rows.items()
            }

    def _once(self, name: str, kept: Mapping[str, object]) -> None:
        if name in kept:
            raise StageError(f"the value {name!r} is reported twice", where=self.name)

    def _value(self, name: str, value: Any) -> Number:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return self._number(name, value)

    def _number(self, name: str, value: Any) -> float:
        number = float(value)
        if not math.isfinite(number):
            raise StageError(f"the value {name!r} is {number}, which is not a finite number", where=self.name)
        return number
