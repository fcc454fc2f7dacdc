"""How far ``retgen connect`` has come: a bar on a terminal, a line every half minute in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from retgen.cli.running import messages

if TYPE_CHECKING:
    from retgen.llm.progress import Standing

_SECONDS_BETWEEN_LINES = 30.0


class StandingShown:
    """The callback of a writer: shows every standing, and keeps the last."""

    def __init__(self, show: Callable[[Standing], None]) -> None:
        self._show = show
        self._last: Standing | None = None

    def __call__(self, standing: Standing) -> None:
        """Show a standing."""
        self._last = standing
        self._show(standing)

    @property
    def sums(self) -> dict[str, object]:
        """The last standing as JSON values; nothing where no language model was asked."""
        last = self._last
        if last is None:
            return {}
        return {
            "cached": last.cached,
            "retries": last.retries,
            "prompt_tokens": last.prompt_tokens,
            "completion_tokens": last.completion_tokens,
            "cost": last.cost,
            "seconds": round(last.seconds, 3),
        }

    @property
    def sentence(self) -> str:
        """The last standing for a person, to follow other words."""
        last = self._last
        if last is None:
            return ""
        tokens = last.prompt_tokens + last.completion_tokens
        money = "" if last.cost is None else f", {last.cost:.4g} in money"
        return f"; {last.cached} from the ledger, {tokens:,} new tokens{money}, {last.retries} attempts repeated"


@contextlib.contextmanager
def standing_bar(job: str) -> Iterator[StandingShown]:
    """A callback for writers that shows how far they are, on standard error."""
    console = messages()
    if not console.is_terminal:
        lines = _Lines(job)
        yield StandingShown(lines.show)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(job, total=None, told="")
        yield StandingShown(
            lambda standing: bars.update(
                task, completed=standing.done + standing.failed, total=standing.total, told=told(standing)
            )
        )


def told(standing: Standing) -> str:
    """A standing in one line: done, cached, failed, tokens, money, time left."""
    of = "" if standing.total is None else f"/{standing.total}"
    parts = [f"{standing.done}{of} done", f"{standing.cached} cached"]
    if standing.failed:
        parts.append(f"{standing.failed} failed")
    parts.append(f"{standing.prompt_tokens + standing.completion_tokens:,} tokens")
    if standing.cost is not None:
        parts.append(f"{standing.cost:.4g} spent")
    left = standing.seconds_left
    if left is not None:
        parts.append(f"{int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left")
    return ", ".join(parts)


class _Lines:
    def __init__(self, job: str) -> None:
        self._job = job
        self._next = time.monotonic() + _SECONDS_BETWEEN_LINES

    def show(self, standing: Standing) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SECONDS_BETWEEN_LINES
            messages().print(f"{self._job}: {told(standing)}", markup=False, highlight=False)
