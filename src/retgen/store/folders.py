"""Building and opening folders."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from retgen.errors import ArtefactError, LockedError, UsageError
from retgen.store.files import FULL, own_errors, resolved, siblings
from retgen.store.manifest import Manifest, check_files, read_manifest, seal
from retgen.store.placing import await_recovery, awaits_recovery, identity, locked, put_in_place, recover, remove_tree

Read = TypeVar("Read")

_BUILDING = "building"
_LOOKS = 100


@contextlib.contextmanager
def create(
    path: str | Path,
    *,
    kind: str,
    made_by: Mapping[str, object] | None = None,
    overwrite: bool = False,
    durable: bool = True,
) -> Iterator[Path]:
    """Build a folder: write into the path this yields; it becomes ``path`` when the block ends without an error.

    Args:
        path: where the folder shall stand. Missing parents are made.
        kind: what it holds; `open_folder` asks for it by this name.
        made_by: JSON values that say how it was made.
        overwrite: replace a retgen folder of the same kind. Anything else that stands there is never touched.
        durable: have the disk itself hold it before it is put in place, so that it outlives a power cut too. False is
            for temporary folders and saves most of a small one's time.

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
    target = resolved(path)
    try:
        described = json.loads(json.dumps(dict(made_by or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"what made a folder must be plain JSON values ({error})", where=target) from error
    with own_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target, patience=0.2):
        with own_errors(target):
            recover(target)
            for stale in siblings(target, _BUILDING):
                remove_tree(stale)
        _check_replaceable(target, kind, overwrite)
        staging = target.parent / f".{target.name}.{_BUILDING}-{os.getpid()}-{secrets.token_hex(4)}"
        with own_errors(target):
            staging.mkdir()
        try:
            with own_errors(target, only=FULL):
                yield staging
            with own_errors(target):
                seal(staging, kind, described, durable=durable)
                put_in_place(staging, target, durable=durable)
        finally:
            remove_tree(staging)


def open_folder(path: str | Path, *, kind: str, verify: bool = False) -> Manifest:
    """Check that a folder is whole and of this kind, and read its manifest.

    Args:
        path: the folder.
        kind: what it must hold.
        verify: also read every file and compare checksums; without it, presence and sizes are compared.

    Raises:
        ArtefactError: it is missing, torn, foreign, newer than this version, or of another kind.
    """
    target = resolved(path)
    with own_errors(target, reading=True):
        for _ in range(_LOOKS):
            await_recovery(target)
            before = identity(target)
            try:
                manifest = read_manifest(target)
                if manifest.kind != kind:
                    raise ArtefactError(
                        f"this folder holds {_one(manifest.kind)}, not {_one(kind)}",
                        where=target,
                        mend=f"Give the path of {_one(kind)}",
                    )
                check_files(manifest, contents=verify)
            except ArtefactError:
                # A builder may have put a newer folder there while this one was being read: then look again.
                if identity(target) == before and (before is not None or not awaits_recovery(target)):
                    raise
                continue
            return manifest
    raise LockedError("this folder is being replaced again and again", where=target, mend="Wait for its builder to end")


def load(path: str | Path, *, kind: str, read: Callable[[Manifest], Read], verify: bool = False) -> Read:
    """Open a folder and read its files as one: when a builder replaces it meanwhile, they are read again.

    Args:
        path: the folder.
        kind: what it must hold.
        read: gets the manifest and opens or reads whatever it needs; may be called more than once.
        verify: as in `open_folder`.

    Returns:
        What ``read`` returned, all of it from one build.

    Raises:
        ArtefactError: as in `open_folder`; and whatever ``read`` raises of its own.
    """
    target = resolved(path)
    for _ in range(_LOOKS):
        before = identity(target)
        manifest = open_folder(target, kind=kind, verify=verify)
        try:
            value = read(manifest)
        except Exception:
            if identity(target) == before:
                raise
            continue
        if identity(target) == before:
            return value
    raise LockedError("this folder is being replaced again and again", where=target, mend="Wait for its builder to end")


def verify(path: str | Path) -> Manifest:
    """Read every file of a folder of any kind and compare it with the manifest.

    Raises:
        ArtefactError: it is missing, torn, foreign or newer than this version.
    """
    target = resolved(path)
    with own_errors(target, reading=True):
        await_recovery(target)
        kind = read_manifest(target).kind
    return open_folder(target, kind=kind, verify=True)


def _check_replaceable(target: Path, kind: str, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ArtefactError("a file stands where a folder shall be made", where=target, mend="Choose another path")
    with own_errors(target):
        if not any(target.iterdir()):
            return
    try:
        found = read_manifest(target, any_version=True).kind
    except ArtefactError as error:
        raise ArtefactError(
            "a folder stands there that retgen did not make, or whose manifest is torn",
            where=target,
            mend="Choose another path, or remove that folder yourself",
        ) from error
    if found != kind:
        raise ArtefactError(
            f"{_one(found)} stands there, and {_one(kind)} shall be made", where=target, mend="Choose another path"
        )
    if not overwrite:
        raise ArtefactError(
            f"{_one(kind)} stands there already", where=target, mend="Choose another path, or ask to overwrite it"
        )


def _one(kind: str) -> str:
    """A kind with its article. That of "unigen" is by sound: you-nee."""
    return f"{'an' if kind[:1].lower() in set('aeio') else 'a'} {kind}"
