"""What a folder says about itself, and whether it still says the truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from retgen import __version__
from retgen.errors import ArtefactError, UsageError
from retgen.store.files import sync

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


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


def seal(staging: Path, kind: str, made_by: Mapping[str, object], *, durable: bool = True) -> None:
    """Write the manifest of a finished folder; ``durable`` syncs every file and folder of it."""
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
        if durable:
            sync(entry)
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
    for path in (manifest, *reversed(folders)) if durable else ():
        sync(path)


def read_manifest(target: Path, *, any_version: bool = False) -> Manifest:
    """Read a manifest and check that it is whole, ours and not of a newer format (unless ``any_version``)."""
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


def check_files(manifest: Manifest, *, contents: bool) -> None:
    """Compare the files with their manifest: presence and size, and with ``contents`` every byte."""
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
