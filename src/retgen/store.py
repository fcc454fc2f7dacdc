"""Folders on disk: built in a sibling folder, described by a manifest, and put in place whole or not at all.

Every artefact (corpus, index, model, report) goes through `create` and `open_folder`. A process may be killed at any
moment: what opens afterwards is the old folder or the new one, never a mixture. Nothing here knows what is in a folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from retgen import __version__
from retgen.errors import ArtefactError, LockedError, UsageError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_BUILDING = "building"
_WRITING = "writing"
_STALE_SECONDS = 24 * 3600.0
_RECOVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a folder: its size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder says about itself.

    Args:
        path: the folder.
        kind: what it holds, e.g. ``"corpus"``.
        made_by: whatever its maker wrote down: command, parameters, fingerprints of its inputs.
        files: relative POSIX path → size and checksum.
        retgen_version: the version that wrote it.
        digest: SHA-256 of the manifest itself; two folders with one digest hold the same bytes.
    """

    path: Path
    kind: str
    made_by: Mapping[str, object]
    files: Mapping[str, FileEntry]
    retgen_version: str
    digest: str


@contextlib.contextmanager
def create(
    path: str | Path, *, kind: str, made_by: Mapping[str, object] | None = None, overwrite: bool = False
) -> Iterator[Path]:
    """Build a folder: write into the path this yields; it becomes ``path`` when the block ends without an error.

    Args:
        path: where the folder shall stand. Missing parents are made.
        kind: what it holds; `open_folder` asks for it by this name.
        made_by: JSON values that say how it was made.
        overwrite: replace a retgen folder of the same kind. Anything else that stands there is never touched.

    Raises:
        LockedError: another process is building this path.
        ArtefactError: something stands there that may not be replaced, or the disk is full or not writable.
        UsageError: ``made_by`` is not JSON.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     with create(Path(home) / "greeting", kind="note") as staging:
        ...         _ = (staging / "hello.txt").write_text("hello")
        ...     sorted(open_folder(Path(home) / "greeting", kind="note").files)
        ['hello.txt']
    """
    target = _resolved(path)
    try:
        described = json.loads(json.dumps(dict(made_by or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"what made a folder must be plain JSON values ({error})", where=target) from error
    with _own_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        with _own_errors(target):
            _recover(target)
            for stale in _siblings(target, _BUILDING):
                _remove_tree(stale)
        _check_replaceable(target, kind, overwrite)
        staging = target.parent / f".{target.name}.{_BUILDING}-{os.getpid()}-{secrets.token_hex(4)}"
        with _own_errors(target):
            staging.mkdir()
        try:
            with _own_errors(target, only=_FULL):
                yield staging
            with _own_errors(target):
                _seal(staging, kind, described)
                _put_in_place(staging, target)
        finally:
            _remove_tree(staging)


def open_folder(path: str | Path, *, kind: str, verify: bool = False) -> Manifest:
    """Check that a folder is whole and of this kind, and read its manifest.

    Args:
        path: the folder.
        kind: what it must hold.
        verify: also read every file and compare checksums; without it, presence and sizes are compared.

    Raises:
        ArtefactError: it is missing, torn, foreign, newer than this version, or of another kind.
    """
    target = _resolved(path)
    with _own_errors(target, reading=True):
        _await_recovery(target)
        for _ in range(100):
            manifest = _read_manifest(target)
            if manifest.kind != kind:
                raise ArtefactError(
                    f"this folder holds a {manifest.kind}, not a {kind}",
                    where=target,
                    mend=f"Give the path of a {kind}",
                )
            try:
                _check_files(manifest, contents=verify)
            except ArtefactError:
                # Replaced by a newer build between the manifest and the files: look again.
                if _read_manifest(target).digest == manifest.digest:
                    raise
                continue
            return manifest
    raise LockedError("this folder is being replaced again and again", where=target, mend="Wait for its builder to end")


def verify(path: str | Path) -> Manifest:
    """Read every file of a folder of any kind and compare it with the manifest.

    Raises:
        ArtefactError: it is missing, torn, foreign or newer than this version.
    """
    target = _resolved(path)
    with _own_errors(target, reading=True):
        _await_recovery(target)
        kind = _read_manifest(target).kind
    return open_folder(target, kind=kind, verify=True)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Write one file whole or not at all: the path this yields becomes ``path`` when the block ends without an error.

    Raises:
        ArtefactError: the disk is full or the place not writable; the old file stays.
    """
    target = _resolved(path)
    with _own_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in _siblings(target, _WRITING):
            with contextlib.suppress(OSError):
                if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
                    stale.unlink()
    draft = target.parent / f".{target.name}.{_WRITING}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with _own_errors(target, only=_FULL):
            yield draft
        with _own_errors(target):
            _sync(draft)
            draft.replace(target)
            _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write one file whole or not at all; text is written as UTF-8.

    Raises:
        ArtefactError: the disk is full or the place not writable; the old file stays.
    """
    target = _resolved(path)
    with atomic_file(target) as draft, _own_errors(target):
        draft.write_bytes(data.encode() if isinstance(data, str) else data)


def _resolved(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtefactError(f"this is not a usable path ({error})", where=str(path)) from error


@contextlib.contextmanager
def _own_errors(target: Path, *, only: set[int] | None = None, reading: bool = False) -> Iterator[None]:
    """Operating system errors as artefact errors: all of them, or ``only`` those numbers."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        if error.errno in _FULL:
            raise ArtefactError(
                f"the disk is full or a file grew over its limit ({error.strerror})",
                where=target,
                mend="Make room and run it again; what stood there before is untouched",
            ) from error
        verb = "read" if reading else "written"
        raise ArtefactError(f"this cannot be {verb} ({error.strerror or error})", where=target) from error


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = target.parent / f".{target.name}.lock"
    with _own_errors(target):
        handle = _acquire(lock)
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


def _siblings(target: Path, word: str) -> list[Path]:
    prefix = f".{target.name}.{word}-"
    return [entry for entry in target.parent.iterdir() if entry.name.startswith(prefix)]


def _previous(target: Path) -> Path:
    return target.parent / f".{target.name}.previous"


def _recover(target: Path) -> None:
    """Finish what a killed builder left between two renames. The caller holds the lock."""
    previous = _previous(target)
    if not previous.exists():
        return
    if target.exists():
        _remove_tree(previous)
    else:
        previous.rename(target)
        _sync(target.parent)


def _await_recovery(target: Path) -> None:
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while not target.exists() and _previous(target).exists():
        try:
            with _locked(target):
                _recover(target)
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _check_replaceable(target: Path, kind: str, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ArtefactError("a file stands where a folder shall be made", where=target, mend="Choose another path")
    with _own_errors(target):
        if not any(target.iterdir()):
            return
    try:
        found = _read_manifest(target, any_version=True).kind
    except ArtefactError as error:
        raise ArtefactError(
            "a folder stands there that retgen did not make, or whose manifest is torn",
            where=target,
            mend="Choose another path, or remove that folder yourself",
        ) from error
    if found != kind:
        raise ArtefactError(
            f"a {found} stands there, and a {kind} shall be made", where=target, mend="Choose another path"
        )
    if not overwrite:
        raise ArtefactError(
            f"a {kind} stands there already", where=target, mend="Choose another path, or ask to overwrite it"
        )


def _seal(staging: Path, kind: str, made_by: Mapping[str, object]) -> None:
    files: dict[str, dict[str, object]] = {}
    folders = [staging]
    for entry in sorted(staging.rglob("*")):
        name = entry.relative_to(staging).as_posix()
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise UsageError(f"only plain files can be kept in a folder, not {name!r}", where=staging)
        if entry.is_dir():
            folders.append(entry)
            continue
        if name == MANIFEST:
            raise UsageError(f"the name {MANIFEST!r} is taken by the folder's own manifest", where=staging)
        files[name] = {"size": entry.stat().st_size, "sha256": _sha256(entry)}
        _sync(entry)
    body = {
        "format": "retgen",
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "retgen_version": __version__,
        "made_by": made_by,
        "files": files,
    }
    body["digest"] = _digest(body)
    manifest = staging / MANIFEST
    manifest.write_text(json.dumps(body, indent=1, sort_keys=True), encoding="utf-8")
    _sync(manifest)
    for folder in reversed(folders):
        _sync(folder)


def _put_in_place(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
    elif not _exchange(staging, target):
        previous = _previous(target)
        target.rename(previous)
        staging.rename(target)
        _sync(target.parent)
        _remove_tree(previous)
        return
    _sync(target.parent)


def _exchange(one: Path, other: Path) -> bool:
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


def _read_manifest(target: Path, *, any_version: bool = False) -> Manifest:
    if not target.exists():
        raise ArtefactError("there is no such folder", where=target, mend="Check the path, or build it first")
    if not target.is_dir():
        raise ArtefactError("this is a file, not a retgen folder", where=target, mend="Give the folder's path")
    source = target / MANIFEST
    try:
        raw = source.read_bytes()
    except FileNotFoundError:
        raise ArtefactError(
            f"this folder has no {MANIFEST}: retgen did not make it, or it was copied in part",
            where=target,
            mend="Check the path, or build it again",
        ) from None
    torn = ArtefactError(f"its {MANIFEST} is torn", where=target, mend="Build it again, or copy it again")
    try:
        body = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise torn from error
    if not isinstance(body, dict) or body.get("format") != "retgen":
        raise ArtefactError(f"its {MANIFEST} is not retgen's", where=target, mend="Check the path")
    version = body.get("format_version")
    if not isinstance(version, int):
        raise torn
    if version > FORMAT_VERSION and not any_version:
        raise ArtefactError(
            f"this folder was written by a newer retgen ({body.get('retgen_version')}, format {version}; "
            f"this one reads up to format {FORMAT_VERSION})",
            where=target,
            mend="Update retgen: pip install -U retgen",
        )
    stated = body.pop("digest", None)
    if stated != _digest(body):
        raise torn
    try:
        return Manifest(
            path=target,
            kind=str(body["kind"]),
            made_by=dict(body["made_by"]),
            files={
                str(name): FileEntry(int(entry["size"]), str(entry["sha256"])) for name, entry in body["files"].items()
            },
            retgen_version=str(body["retgen_version"]),
            digest=str(stated),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise torn from error


def _check_files(manifest: Manifest, *, contents: bool) -> None:
    mend = "Build it again, or copy it again"
    for name, entry in manifest.files.items():
        source = manifest.path / name
        try:
            size = source.stat().st_size
            if size != entry.size:
                raise ArtefactError(f"a file has {size} bytes where {entry.size} were written", where=source, mend=mend)
            if contents and _sha256(source) != entry.sha256:
                raise ArtefactError("a file's bytes have changed since it was written", where=source, mend=mend)
        except FileNotFoundError:
            raise ArtefactError("a file is missing", where=source, mend=mend) from None


def _digest(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
