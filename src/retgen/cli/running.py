"""What all commands share: how errors, progress and JSON leave the program."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from retgen.errors import RetgenError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from retgen.formats import Skipped

FAILED = 1
WRONG_USAGE = 2


class CommandGroup(TyperGroup):
    """A group of commands whose named failures end in one clear block on standard error, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a RetgenError becomes an exit status."""
        try:
            return super().invoke(ctx)
        except RetgenError as error:
            show_error(error)
            raise typer.Exit(WRONG_USAGE if isinstance(error, UsageError) else FAILED) from error


def show_error(error: RetgenError) -> None:
    """What is wrong, where, and the mend, on standard error."""
    lines = [f"Error: {error.what}"]
    if error.where:
        lines.append(f"  at   {error.where}")
    if error.mend:
        lines.append(f"  mend {error.mend}")
    typer.echo("\n".join(lines), err=True)


def messages() -> Console:
    """The console on standard error: progress, logs, notes."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=not sys.stderr.isatty())


def results() -> Console:
    """The console on standard output: what was asked for."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def write_json(value: Mapping[str, object]) -> None:
    """One JSON object on one line of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def skipping(skip_bad: bool) -> Iterator[Skipped | None]:
    """What readers take as ``skipped``. What was left out is said at the end, also where that left too little."""
    if not skip_bad:
        yield None
        return
    from retgen.formats import Skipped

    skipped = Skipped()
    try:
        yield skipped
    finally:
        if skipped:
            typer.echo(str(skipped), err=True)


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun: ``1 query``, ``2 queries``."""
    return f"{number} {one if number == 1 else many}"


def set_up_logging(verbose: bool) -> None:
    """Send the library's log to standard error; warnings only, unless asked for more."""
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("retgen").setLevel(logging.INFO if verbose else logging.WARNING)


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Progress bars on standard error where that is a terminal, else nothing.

    Gives a function from a step's name to a callback of (done, total); a total of 0 is one not known.
    """
    console = messages()
    if not console.is_terminal:
        yield lambda _name: lambda _done, _total: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bars:

        def step(name: str) -> Callable[[int, int], None]:
            task = bars.add_task(name, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total or None)

        yield step
