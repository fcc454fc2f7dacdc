"""Where a number comes from: command, commit, versions and machine. No host, user or absolute path is written down."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import retgen

_PACKAGES = (
    "numpy",
    "torch",
    "transformers",
    "tokenizers",
    "bm25s",
    "PyStemmer",
    "ir-measures",
    "sentence-transformers",
    "faiss-cpu",
)


def provenance(command: str) -> dict[str, Any]:
    """Command, commit, versions and machine, as JSON values."""
    return {"command": command, "commit": commit(), "versions": versions(), "machine": machine()}


def command_line(arguments: Sequence[str]) -> str:
    """A command as it could be typed here; absolute paths are written relative to the working folder.

    Example:
        >>> command_line(["retgen", "run", "squad", "--rows", "bm25,unigen base"])
        "retgen run squad --rows 'bm25,unigen base'"
    """
    return shlex.join(os.path.relpath(part) if Path(part).is_absolute() else part for part in arguments)


@functools.cache
def commit() -> str | None:
    """The commit retgen runs from, with ``-dirty`` where files differ; None where it is not a checkout."""
    folder = Path(retgen.__file__).parent
    try:
        # The package may lie in an ignored folder of somebody else's checkout: ask for a file of ours.
        subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", "errors.py"],
            check=True,
            capture_output=True,
            timeout=20,
        )
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@functools.cache
def versions() -> dict[str, str]:
    """Of Python, retgen and the packages that can change a number, where installed."""
    found = {"python": platform.python_version(), "retgen": retgen.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, accelerators that this process has used."""
    described: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        described["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return described


@functools.cache
def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
