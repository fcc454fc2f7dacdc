"""Checkpoints that a killed process cannot spoil: only those that were finished are ever resumed from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_FINISHED = "finished"


class MarkFinished(TrainerCallback):
    """Marks a checkpoint once all of it is written."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called after a checkpoint was saved."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if folder.is_dir():
            (folder / _FINISHED).touch()


def last_finished(folder: Path) -> Path | None:
    """The newest finished checkpoint; unfinished ones are removed."""
    best: tuple[int, Path] | None = None
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / _FINISHED).exists():
            shutil.rmtree(checkpoint)
            continue
        step = int(checkpoint.name.rsplit("-", 1)[1])
        if best is None or step > best[0]:
            best = (step, checkpoint)
    return best[1] if best else None
