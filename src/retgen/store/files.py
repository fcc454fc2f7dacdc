"""One file at a time, whole or not at all; and operating system errors as errors a user can act on."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from retgen.errors import ArtefactError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system answers when a disk, a quota or a file's limit is reached."""

_WRITING = "writing"
_STALE_SECONDS = 24 * 3600.0


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Write one file whole or not at all: the path this yields becomes ``path`` when the block ends without an error.

    Raises:
        ArtefactError: the disk is full or the place not writable; the old file stays.
    """
    target = resolved(path)
    with own_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in siblings(target, _WRITING):
            with contextlib.suppress(OSError):
                if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
                    stale.unlink()
    draft = target.parent / f".{target.name}.{_WRITING}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with own_errors(target, only=FULL):
            yield draft
        with own_errors(target):
            sync(draft)
            draft.replace(target)
            sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write one file whole or not at all; text is written as UTF-8.

    Raises:
        ArtefactError: the disk is full or the place not writable; the old file stays.
    """
    target = resolved(path)
    with atomic_file(target) as draft, own_errors(target):
        draft.write_bytes(data.encode() if isinstance(data, str) else data)


def resolved(path: str | Path) -> Path:
    """An absolute path with symbolic links followed, so that a link to a folder is kept and its target replaced."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtefactError(f"this is not a usable path ({error})", where=str(path)) from error


@contextlib.contextmanager
def own_errors(target: Path, *, only: set[int] | None = None, reading: bool = False) -> Iterator[None]:
    """Operating system errors as artefact errors: all of them, or ``only`` those numbers."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        if error.errno in FULL:
            raise ArtefactError(
                f"the disk is full or a file grew over its limit ({error.strerror})",
                where=target,
                mend="Make room and run it again; what stood there before is untouched",
            ) from error
        verb = "read" if reading else "written"
        raise ArtefactError(f"this cannot be {verb} ({error.strerror or error})", where=target) from error


def siblings(target: Path, word: str) -> list[Path]:
    """Hidden drafts of ``target`` beside it, ``.NAME.<word>-…``."""
    prefix = f".{target.name}.{word}-"
    return [entry for entry in target.parent.iterdir() if entry.name.startswith(prefix)]


def sync(path: Path) -> None:
    """Have the system write a file or folder to the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
