"""What a training command needs to know when ``torchrun`` started it in several processes."""

from __future__ import annotations

import os


def number_of_processes() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the only one, or of several the one that writes and reports."""
    return int(os.environ.get("RANK", "0")) == 0


def own_device(name: str) -> str:
    """The device of this process: of several processes each has a GPU of its own."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or name not in ("auto", "cuda"):
        return name
    import torch

    return f"cuda:{rank}" if torch.cuda.is_available() else name


def wait_for_others() -> None:
    """Go on when every process has come here."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
