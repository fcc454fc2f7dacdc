"""A reader's training that kills its own process at a step.

Run as ``python -m tests.train.killed_reader FOLDER STEP THREADS SAVED``, where SAVED is an untrained answerer's folder:
tokenizers are not trained twice alike.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from retgen.answer.folder import open_reader
from retgen.train.reader import train_reader
from tests.train.toy import CORPUS
from tests.train.toy_readers import toy_reader_examples, toy_reader_options


def run(folder: Path, kill_at: int, saved: Path) -> None:
    def report(step: int, steps: int, last: str) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    answerer = open_reader(saved, device="cpu", dtype="fp32")
    train_reader(answerer, toy_reader_examples("fid"), CORPUS, folder, options=toy_reader_options(), progress=report)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    run(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[4]))
