"""What a stage costs: wall and processor time, peak memory; kept on disk meanwhile, so that a killed attempt counts."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from retgen.store import write_atomic

_HEARTBEAT_SECONDS = 2.0
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Costs:
    """What a stage cost, over all its attempts where it resumed.

    Args:
        wall_seconds: from start to end. Of an attempt that was killed, up to two seconds may be missing.
        cpu_seconds: of the process and the children it waited for; all threads.
        peak_memory_bytes: largest resident memory of the process while the stage ran; whatever the process had loaded
            before is part of it, so compare only isolated stages. None where the system cannot tell.
        memory_growth_bytes: the peak less what was resident when the stage began. None where the system cannot tell.
        peak_gpu_memory_bytes: largest sum of tensors on the CUDA devices; None without one.
        attempts: how many there were, the last included.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    memory_growth_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None
    attempts: int = 0

    def __add__(self, later: Costs) -> Costs:
        return Costs(
            self.wall_seconds + later.wall_seconds,
            self.cpu_seconds + later.cpu_seconds,
            _largest(self.peak_memory_bytes, later.peak_memory_bytes),
            _largest(self.memory_growth_bytes, later.memory_growth_bytes),
            _largest(self.peak_gpu_memory_bytes, later.peak_gpu_memory_bytes),
            self.attempts + later.attempts,
        )


class Meter:
    """Measures the block it is entered for; ``costs`` holds the sum with the earlier attempts.

    Args:
        journal: a file that is read at the start, and written then and every two seconds.
        resumes: whether the work of earlier attempts is built upon, so that their costs count.
    """

    def __init__(self, journal: Path, *, resumes: bool) -> None:
        self._journal = journal
        self._earlier = _read(journal) if resumes else Costs()
        self._final: Costs | None = None
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="retgen-meter", daemon=True)

    def __enter__(self) -> Meter:
        self._was_reset = _reset_high_water()
        self._high_water = _high_water()
        self._resident = _resident()
        _reset_gpu_peak()
        self._cpu = _cpu_seconds()
        self._wall = time.monotonic()
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._final = self._measure()
        self._ended.set()
        self._heart.join()
        self.save()

    @property
    def costs(self) -> Costs:
        """Until now, or until the block ended."""
        return self._final or self._measure()

    def save(self) -> None:
        """Write the journal."""
        write_atomic(self._journal, json.dumps(asdict(self.costs)))

    def _measure(self) -> Costs:
        peak = _high_water()
        # Without a reset, an unchanged mark was set by something earlier and says nothing of this stage.
        known = peak if peak is not None and (self._was_reset or peak != self._high_water) else None
        return self._earlier + Costs(
            time.monotonic() - self._wall,
            _cpu_seconds() - self._cpu,
            known,
            None if known is None or self._resident is None else max(0, known - self._resident),
            _gpu_peak(),
            1,
        )

    def _beat(self) -> None:
        self.save()
        while not self._ended.wait(_HEARTBEAT_SECONDS):
            self.save()


def _read(journal: Path) -> Costs:
    try:
        return Costs(**json.loads(journal.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Costs()


def _largest(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _reset_high_water() -> bool:
    """Have Linux forget the peak so far; False where that cannot be."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _high_water() -> int | None:
    """Peak resident memory in bytes: since the reset on Linux, else since the process began."""
    if _STATUS.exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _resident() -> int | None:
    return _status("VmRSS") if _STATUS.exists() else None


def _status(field: str) -> int | None:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def _reset_gpu_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def _gpu_peak() -> int | None:
    # Only looked at where the stage itself has loaded torch and used a device.
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return None
    return sum(int(torch.cuda.max_memory_allocated(device)) for device in range(torch.cuda.device_count()))
