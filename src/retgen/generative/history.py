"""What a training logged, kept in the model's folder: losses by step, and what dev questions measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from retgen import store
from retgen.errors import ArtefactError

KIND = "unigen"
"""Of the folder of a `retgen.generative.UniGen`."""
HISTORY = "history.json"


def write_history(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write a history into a folder that is being built; an empty one leaves no file."""
    if history:
        (folder / HISTORY).write_text(json.dumps(list(history)) + "\n", encoding="utf-8")


def read_history(folder: Path) -> list[dict[str, float]]:
    """The history in a folder, one row a logging step: ``step``, ``stage`` (0 pre-training, 1 fine-tuning), and what
    was logged then: ``loss``, or ``eval_MRR@10``, ``eval_EM``…. Empty where the folder keeps none.

    Raises:
        ArtefactError: it cannot be read.
    """
    path = folder / HISTORY
    if not path.exists():
        return []
    try:
        return [{str(name): float(value) for name, value in row.items()} for row in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"the history of a training cannot be read ({error})", where=path, mend="Train the model again"
        ) from error


def model_history(path: str | Path) -> list[dict[str, float]]:
    """The history of a saved model, without loading the model.

    Raises:
        ArtefactError: the folder is torn, foreign or of another kind, or its history cannot be read.
    """
    return read_history(store.open_folder(path, kind=KIND).path)
