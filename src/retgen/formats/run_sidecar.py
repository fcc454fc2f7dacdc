"""``RUN.parquet``: what a TREC run's six columns cannot hold.

Component scores by name, the corpus' fingerprint, and the queries without hits. It names the SHA-256 of the run it
belongs to, so that a run that was changed by hand is never read with another run's scores.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from retgen.errors import FormatError, MismatchError
from retgen.store import atomic_file
from retgen.types import Run

_PREFIX = "component:"
_VERSION = 1


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a run lies."""
    return path.with_name(path.name + ".parquet")


def write(run: Run, path: Path) -> None:
    """Write the sidecar of a run that was just written to ``path``."""
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, object] = {
        "query_id": pyarrow.array([query_id for query_id in run for _ in run.doc_ids(query_id)], pyarrow.string()),
        "doc_id": pyarrow.array([doc_id for query_id in run for doc_id in run.doc_ids(query_id)], pyarrow.string()),
    }
    for name in run.component_names:
        values = [float(value) for query_id in run for value in run.scores(query_id, name)]
        columns[_PREFIX + name] = pyarrow.array(values, pyarrow.float64())
    about = json.dumps(
        {
            "version": _VERSION,
            "run_sha256": _sha256(path),
            "fingerprint": run.fingerprint,
            "query_ids": list(run.query_ids),
            "columns": list(columns),
        }
    ).encode()
    # Pages carry checksums of their own; this one is for what stands around them.
    metadata = {b"retgen": about, b"sha256": hashlib.sha256(about).hexdigest().encode()}
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    with atomic_file(sidecar_path(path)) as draft:
        parquet.write_table(table, draft, write_page_checksum=True)


def joined(run: Run, path: Path) -> Run:
    """The run that was read from ``path``, with what its sidecar knows; unchanged where there is none.

    Raises:
        MismatchError: the sidecar belongs to another run.
        FormatError: it is no sidecar of ours, torn, or newer than this version.
    """
    source = sidecar_path(path)
    if not source.exists():
        return run
    about, columns = _read(source)
    if about["run_sha256"] != _sha256(path):
        raise MismatchError(
            f"the run has changed since its sidecar {source.name!r} was written",
            where=path,
            mend="Remove the sidecar to read the run's six columns alone, or write the run again",
        )
    pairs = zip(columns.pop("query_id"), columns.pop("doc_id"), strict=True)
    place = {pair: number for number, pair in enumerate(pairs)}
    query_ids = about["query_ids"]
    doc_ids = [run.doc_ids(query_id) if query_id in run else [] for query_id in query_ids]
    try:
        rows = [[place[query_id, doc_id] for doc_id in ids] for query_id, ids in zip(query_ids, doc_ids, strict=True)]
    except KeyError as error:
        raise FormatError("this sidecar lacks hits of its run", where=source, mend=_MEND) from error
    return Run(
        query_ids,
        doc_ids,
        [list(run.scores(query_id)) if query_id in run else [] for query_id in query_ids],
        components={
            name.removeprefix(_PREFIX): [[values[i] for i in row] for row in rows] for name, values in columns.items()
        },
        fingerprint=about["fingerprint"],
        presorted=True,
    )


_MEND = "Remove it to read the run's six columns alone, or write the run again"


def _read(source: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(source, page_checksum_verification=True)
        metadata = table.schema.metadata or {}
        if hashlib.sha256(metadata[b"retgen"]).hexdigest().encode() != metadata[b"sha256"]:
            raise ValueError("its description has changed")
        about = json.loads(metadata[b"retgen"])
        if about["version"] > _VERSION:
            raise FormatError(
                "this sidecar was written by a newer retgen", where=source, mend="Update it: pip install -U retgen"
            )
        if table.column_names != about["columns"]:
            raise ValueError("its columns have changed")
        return about, {name: table.column(name).to_pylist() for name in table.column_names}
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"this sidecar is torn or not retgen's ({error})", where=source, mend=_MEND) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
