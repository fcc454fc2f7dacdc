"""Where and how numbers are computed: device, dtype, and batches of similar length under a token budget."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from retgen.errors import UsageError

if TYPE_CHECKING:
    import torch


def pick_device(name: str = "auto") -> torch.device:
    """The device of this name; ``auto`` takes CUDA, then Apple's, then the CPU.

    Raises:
        UsageError: the device is not there.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"cannot use the device {name!r}: {reason}", mend="Pass cpu, cuda, cuda:N or auto") from error
    return device


@cache
def bf16_is_faster(device_type: str = "cpu") -> bool:
    """Whether bf16 matrix products beat fp32 here; measured once: without bf16 units they are many times slower."""
    import time

    import torch

    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device_type != "cpu":
        return False
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left = torch.ones(128, 256, dtype=dtype)
        right = torch.ones(256, 256, dtype=dtype)
        left @ right
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            left @ right
            best = min(best, time.perf_counter() - start)
        seconds[dtype] = best
    return seconds[torch.bfloat16] * 1.3 < seconds[torch.float32]


def pick_dtype(device: torch.device, name: str = "auto") -> torch.dtype:
    """The dtype weights and activations take: ``auto`` is bf16 where it is faster, else fp32. Scores stay fp32."""
    import torch

    known = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if name == "auto":
        return known["bf16" if bf16_is_faster(device.type) else "fp32"]
    if name not in known:
        raise UsageError(f"unknown dtype {name!r}", mend="Pass auto, fp32 or bf16")
    return known[name]


@contextlib.contextmanager
def prepared_cpu() -> Iterator[None]:
    """Settings that any training on a CPU wants, for as long as it goes on.

    Denormal numbers are flushed to zero (fresh T5 weights make many), and freed memory is kept for the next step, where
    the C library can be told so: giving pages back and faulting them in again takes a good part of a step.

    When it ends, the calling thread treats denormal numbers as it did before. Torch sets that and does not tell it, so
    it is found out by making one; other threads keep what they began with, and the C library what it was told.
    """
    import torch

    before = flushes_denormals()
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushes_denormals() -> bool:
    """Whether numbers too small to be normal become 0 in this thread."""
    import torch

    smallest = torch.full((1,), torch.finfo(torch.float32).tiny)
    return not bool(smallest * 0.5)


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@cache
def _keep_freed_memory() -> None:
    # glibc's mallopt: large blocks from the heap, not from maps of their own, and the heap never shrunk.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20)):
            mallopt(option, value)


def length_sorted_batches(lengths: Sequence[int], token_budget: int, max_items: int = 1024) -> Iterator[list[int]]:
    """Item numbers in batches of similar length, longest first, so that little is padded.

    Args:
        lengths: tokens of each item.
        token_budget: most tokens of a batch after padding; an item longer than it is a batch of its own.
        max_items: most items of a batch.

    Example:
        >>> list(length_sorted_batches([3, 9, 4, 8], token_budget=18))
        [[1, 3], [2, 0]]
    """
    if token_budget < 1 or max_items < 1:
        raise UsageError("the token budget and the number of items must be at least 1")
    order = sorted(range(len(lengths)), key=lambda item: (-lengths[item], item))
    batch: list[int] = []
    width = 0
    for item in order:
        wider = max(width, lengths[item], 1)
        if batch and (wider * (len(batch) + 1) > token_budget or len(batch) >= max_items):
            yield batch
            batch, wider = [], max(lengths[item], 1)
        batch.append(item)
        width = wider
    if batch:
        yield batch
