"""A cross-encoder's training that kills its own process at a step.

Run as ``python -m tests.train.killed_pairs FOLDER STEP THREADS``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from retgen.train.cross_encoder import train_cross_encoder
from tests.train.toy_pairs import DOCUMENTS, toy_candidates, toy_options, toy_reranker


def run(folder: Path, kill_at: int) -> None:
    def report(step: int, steps: int, last: str) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    train_cross_encoder(
        toy_reranker(), toy_candidates(), DOCUMENTS, folder, options=toy_options(negatives=3), progress=report
    )


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    run(Path(sys.argv[1]), int(sys.argv[2]))
