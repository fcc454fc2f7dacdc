"""A cross-encoder's training as `test_pair_processes` runs it, in one process or in each of several of torchrun's.

Run as ``python -m tests.train.pair_processes FOLDER PAIRS_A_STEP``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from retgen.train.cross_encoder import DevCandidates, train_cross_encoder
from tests.train.toy_pairs import DOCUMENTS, toy_candidates, toy_options, toy_reranker, weights


def run(folder: Path, batch_size: int) -> None:
    """Train for three epochs, and keep the weights and the number of steps."""
    reranker, candidates = toy_reranker(dropout=0.0), toy_candidates()
    record = train_cross_encoder(
        reranker,
        candidates,
        DOCUMENTS,
        folder / f"training-{batch_size}",
        options=toy_options(epochs=3.0, batch_size=batch_size, save_steps=1, eval_steps=1),
        dev=DevCandidates.from_candidates(candidates[:4], DOCUMENTS),
    )
    rank = os.environ.get("RANK", "0")
    torch.save((weights(reranker), record.steps), folder / f"after-{batch_size}-{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]))
