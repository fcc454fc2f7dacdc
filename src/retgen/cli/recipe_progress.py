"""How a running recipe is shown on standard error: a live list of stages on a terminal, a line per event elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from retgen.recipes.events import Event

# A recipe with seeds has more stages than a terminal has lines.
_DONE_SHOWN, _WAITING_SHOWN = 8, 5
_SIGNS = {"planned": "·", "skipped": "✓", "started": "▸", "finished": "✓", "failed": "✗"}
_WORDS = {"skipped": "done before", "started": "started", "finished": "done", "failed": "failed"}


@contextlib.contextmanager
def recipe_progress(console: Console) -> Iterator[Callable[[Event], None]]:
    """Give a listener that shows a recipe's events on this console."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    from rich.live import Live

    board = _Board()
    with Live(console=console, get_renderable=board.render, refresh_per_second=4, redirect_stdout=False) as live:

        def listen(event: Event) -> None:
            if event.state in {"message", "row"}:
                live.console.print(f"{_named(event)}: {event.text}", markup=False, highlight=False)
            else:
                board.hear(event)

        yield listen


def duration(seconds: float) -> str:
    """Seconds as people read them.

    Example:
        >>> duration(3.21), duration(75), duration(7260)
        ('3.2 s', '1:15 min', '2:01 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def _named(event: Event) -> str:
    return event.name if event.seed is None else f"{event.name} (seed {event.seed})"


@dataclass(slots=True)
class _Lines:
    """One line per event; of progress, one every half a minute."""

    console: Console
    last: float = field(default_factory=time.monotonic)

    def __call__(self, event: Event) -> None:
        if event.state == "planned":
            return
        if event.state == "progress":
            if time.monotonic() - self.last < 30:
                return
            self.last = time.monotonic()
            text = _progress(event)
        elif event.state in _WORDS:
            text = _WORDS[event.state]
            text += f" in {duration(event.seconds)}" if event.seconds else ""
            text += f": {event.text}" if event.text else ""
        else:
            text = event.text
        self.console.print(f"{_named(event)}: {text}", markup=False, highlight=False)


@dataclass(slots=True)
class _Stage:
    name: str
    state: str = "planned"
    seconds: float = 0.0
    since: float = 0.0
    text: str = ""


@dataclass(slots=True)
class _Board:
    """The stages and where each stands."""

    stages: dict[tuple[str, int | None], _Stage] = field(default_factory=dict)

    def hear(self, event: Event) -> None:
        stage = self.stages.setdefault((event.name, event.seed), _Stage(_named(event)))
        if event.state == "progress":
            stage.text = _progress(event)
            return
        stage.state, stage.text, stage.seconds = event.state, event.text, event.seconds
        if event.state == "started":
            stage.since = time.monotonic()

    def render(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        done = [stage for stage in self.stages.values() if stage.state in {"skipped", "finished"}]
        active = [stage for stage in self.stages.values() if stage.state in {"started", "failed"}]
        waiting = [stage for stage in self.stages.values() if stage.state == "planned"]
        grid = Table.grid(padding=(0, 2))
        if len(done) > _DONE_SHOWN:
            grid.add_row(_SIGNS["finished"], f"{len(done) - _DONE_SHOWN} more", "", "done")
        for stage in (*done[-_DONE_SHOWN:], *active, *waiting[:_WAITING_SHOWN]):
            running = stage.state == "started"
            seconds = time.monotonic() - stage.since if running else stage.seconds
            style = {"started": "bold", "failed": "red", "planned": "dim"}.get(stage.state, "")
            text = stage.text if running or stage.state == "failed" else _WORDS.get(stage.state, "waiting")
            cells = [_SIGNS[stage.state], stage.name, duration(seconds) if seconds else "", text]
            grid.add_row(*(Text(cell, style=style) for cell in cells))
        if len(waiting) > _WAITING_SHOWN:
            grid.add_row(_SIGNS["planned"], f"{len(waiting) - _WAITING_SHOWN} more", "", "waiting", style="dim")
        return grid


def _progress(event: Event) -> str:
    counted = f"{event.done}/{event.total}" if event.total else str(event.done)
    return f"{counted} {event.text}".strip()
