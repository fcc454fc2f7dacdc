"""Checkpoints that a killed process cannot spoil: only those that were finished are ever resumed from."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_FINISHED = "finished"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A finished checkpoint.

    Args:
        path: its folder.
        seconds: that training took until it was written, over all processes that had a part in it.
        training: which training it is of: the ``training`` that `MarkFinished` was given.
        last: no step is left to do.
    """

    path: Path
    seconds: float
    training: str
    last: bool


class MarkFinished(TrainerCallback):
    """Marks a checkpoint once all of it is written; the mark lists its files and their sizes.

    Args:
        training: names what is trained, so that the checkpoint of another training is known as such.
        seconds: that earlier processes have spent on this training.
    """

    def __init__(self, training: str = "", seconds: float = 0.0) -> None:
        self.training = training
        self.seconds = seconds
        self._begun = time.perf_counter()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called when training begins, or goes on."""
        self._begun = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called after a checkpoint was saved."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if not state.is_world_process_zero or not folder.is_dir():
            return
        mark = {
            "files": _sizes(folder),
            "seconds": self.seconds + time.perf_counter() - self._begun,
            "training": self.training,
            "last": state.global_step >= state.max_steps,
        }
        (folder / _FINISHED).write_text(json.dumps(mark))


def last_finished(folder: Path) -> Checkpoint | None:
    """The newest finished checkpoint; unfinished ones are removed."""
    best: tuple[int, Checkpoint] | None = None
    for path in folder.glob("checkpoint-*"):
        name = _CHECKPOINT.fullmatch(path.name)
        if name is None or not path.is_dir():
            continue
        checkpoint = _finished(path)
        if checkpoint is None:
            shutil.rmtree(path)
        elif best is None or int(name[1]) > best[0]:
            best = (int(name[1]), checkpoint)
    return best[1] if best else None


def _finished(path: Path) -> Checkpoint | None:
    try:
        mark = json.loads((path / _FINISHED).read_text())
        whole = mark["files"].items() <= _sizes(path).items()
        return Checkpoint(path, float(mark["seconds"]), str(mark["training"]), bool(mark["last"])) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # the mark is missing, or torn itself
        return None


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != _FINISHED)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
