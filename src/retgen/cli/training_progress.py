"""How a training is shown on standard error: a bar on a terminal, a line every half a minute elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from retgen.cli.recipe_progress import duration

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_LINES = 30.0

Listener = Callable[[str, int, int, str], None]


@contextlib.contextmanager
def training_progress(console: Console) -> Iterator[Listener]:
    """Give a listener of (what is done, how much, of how much, what was last measured)."""
    start = time.monotonic()
    if not console.is_terminal:
        yield _lines(console, start)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {}

        def listen(what: str, done: int, total: int, text: str) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None, text="")
            bars.update(tasks[what], completed=done, total=total or None, text=text)

        yield listen


def quiet_transformers() -> None:
    """Keep transformers' own bars and hints out of standard error; its errors stay."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _lines(console: Console, start: float) -> Listener:
    shown: dict[str, float] = {}

    def listen(what: str, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        # The first and the last word of each part always, and what lies between now and then.
        ends = total > 0 and done == total
        if what in shown and not ends and now - shown[what] < _SECONDS_BETWEEN_LINES:
            return
        shown[what] = now
        counted = f" {done}/{total}" if total else ""
        told = f", {text}" if text else ""
        console.print(f"[{duration(now - start)}] {what}{counted}{told}", markup=False, highlight=False)

    return listen
