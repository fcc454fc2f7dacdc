"""Putting a finished folder where an old one stands, in one step where the system can, and undoing a half-made step.

Linux swaps two folders at once (renameat2). Elsewhere the old one is first moved to ``.NAME.previous``; whoever comes
next and finds only that moves it back. Builders hold a lock beside the folder meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from retgen.errors import LockedError
from retgen.store.files import own_errors, sync

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RECOVERY_SECONDS = 5.0


@contextlib.contextmanager
def locked(target: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock beside a folder, or raise `LockedError`.

    ``patience`` (seconds) outlasts a reader that holds it for the moment of a recovery.
    """
    lock = target.parent / f".{target.name}.lock"
    deadline = time.monotonic() + patience
    with own_errors(target):
        while (handle := _acquire(lock)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
    if handle is None:
        raise LockedError("another process is building this", where=target, mend="Wait until it ends, or end it")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _acquire(lock: Path) -> int | None:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
        # The last holder unlinks the file before it lets go, so a lock on an unlinked file locks nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == lock.stat().st_ino:
                return handle
        os.close(handle)


def _previous(target: Path) -> Path:
    return target.parent / f".{target.name}.previous"


def recover(target: Path) -> None:
    """Finish what a killed builder left between two renames. The caller holds the lock."""
    previous = _previous(target)
    if not previous.exists():
        return
    if target.exists():
        remove_tree(previous)
    else:
        previous.rename(target)
        sync(target.parent)


def awaits_recovery(target: Path) -> bool:
    """Whether a builder stands, or died, between its two renames."""
    return not target.exists() and _previous(target).exists()


def identity(target: Path) -> tuple[int, int, int] | None:
    """What tells a folder from another that took its place: its renaming touches the change time too."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def await_recovery(target: Path) -> None:
    """Before opening: put back what a killed builder moved aside, or wait for a living one to finish its step."""
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while awaits_recovery(target):
        try:
            with locked(target):
                recover(target)
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def put_in_place(staging: Path, target: Path, *, durable: bool = True) -> None:
    """Make a finished folder stand at ``target``; an old one ends up in ``staging`` or is removed."""
    previous = None
    if not target.exists():
        staging.rename(target)
    elif not exchange(staging, target):
        previous = _previous(target)
        target.rename(previous)
        staging.rename(target)
    if durable:
        sync(target.parent)
    if previous is not None:
        remove_tree(previous)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step where the system can (Linux), else False."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def remove_tree(path: Path) -> None:
    """Remove a folder as far as possible; what remains is hidden and goes at the next build."""
    shutil.rmtree(path, ignore_errors=True)
