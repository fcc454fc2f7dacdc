"""A training that kills its own process at a step: what `test_resume` begins from.

Run as ``python -m tests.train.killed FOLDER STEP THREADS``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from retgen.train.unigen import train_unigen
from tests.train.toy import toy_examples, toy_options, toy_system

OPTIONS = {"shuffle_passages": 0.5}
MODEL = {"copy_head": True, "span_head": True, "dropout": 0.1}


def run(folder: Path, kill_at: int) -> None:
    def report(step: int, steps: int, last: str) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    system = toy_system(**MODEL)
    train_unigen(system, toy_examples(system), folder, options=toy_options(**OPTIONS), progress=report)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    run(Path(sys.argv[1]), int(sys.argv[2]))
