"""A joint fine-tuning as `test_joint_processes` runs it, in one process or in each of several that torchrun starts.

Run as ``python -m tests.train.joint_processes FOLDER QUESTIONS_A_STEP``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from retgen.train.joint import train_joint
from tests.train.joint_toy import DOCUMENTS, QUESTIONS, toy_options, weights

# As many candidates, golds and tokens each, so that the mean of their losses is the loss of both.
TWO = (QUESTIONS[0], replace(QUESTIONS[5], query=replace(QUESTIONS[5].query, text=QUESTIONS[0].query.text)))


def run(folder: Path, batch_size: int) -> None:
    """Train the models of the folder, and keep the weights that they end with in it."""
    models = torch.load(folder / "models.pt", weights_only=False)
    options = toy_options(max_steps=3, batch_size=batch_size, save_steps=1)
    record = train_joint(*models, TWO, DOCUMENTS, folder / f"training-{batch_size}", options=options, dev=TWO)
    rank = os.environ.get("RANK", "0")
    torch.save((weights(models[0], models[2]), dict(record.after)), folder / f"after-{batch_size}-{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]))
