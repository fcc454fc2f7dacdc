"""What a running recipe tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["planned", "skipped", "started", "progress", "message", "finished", "failed", "row"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Args:
        state: ``planned`` (once for each stage, before anything runs), ``skipped`` (finished earlier), ``started``,
            ``progress``, ``message``, ``finished``, ``failed``; or ``row`` when a row is written or left out.
        name: of the stage, or of the row.
        seed: None for what all seeds share.
        done: steps done, for ``progress``.
        total: steps in all; 0 where not known.
        text: a message; may be empty.
        seconds: wall time of the finished or skipped stage.
    """

    state: State
    name: str
    seed: int | None = None
    done: int = 0
    total: int = 0
    text: str = ""
    seconds: float = 0.0


Listener = Callable[[Event], None]
