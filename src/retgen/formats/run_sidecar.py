"""``RUN.parquet``: what a TREC run's six columns cannot hold.

Component scores by name, the corpus' fingerprint, and the queries without hits. It names the SHA-256 of the run it
belongs to, so that a run that was changed by hand is never read with another run's scores.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from retgen.errors import FormatError, MismatchError
from retgen.store import atomic_file
from retgen.types import Run

if TYPE_CHECKING:
    import pyarrow

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
    about = {
        "version": _VERSION,
        "run_sha256": _sha256(path),
        "fingerprint": run.fingerprint,
        "query_ids": list(run.query_ids),
    }
    table = pyarrow.table(columns).replace_schema_metadata({"retgen": json.dumps(about)})
    with atomic_file(sidecar_path(path)) as draft:
        parquet.write_table(table, draft)


def joined(run: Run, path: Path) -> Run:
    """The run that was read from ``path``, with what its sidecar knows; unchanged where there is none.

    Raises:
        MismatchError: the sidecar belongs to another run.
        FormatError: it is no sidecar of ours, torn, or newer than this version.
    """
    source = sidecar_path(path)
    if not source.exists():
        return run
    about, table = _read(source)
    if about["run_sha256"] != _sha256(path):
        raise MismatchError(
            f"the run has changed since its sidecar {source.name!r} was written",
            where=path,
            mend="Remove the sidecar to read the run's six columns alone, or write the run again",
        )
    names = [name for name in table.column_names if name.startswith(_PREFIX)]
    columns = {name.removeprefix(_PREFIX): table.column(name).to_pylist() for name in names}
    place = {
        pair: number
        for number, pair in enumerate(
            zip(table.column("query_id").to_pylist(), table.column("doc_id").to_pylist(), strict=True)
        )
    }
    query_ids = [str(query_id) for query_id in about["query_ids"]]  # type: ignore[attr-defined]
    doc_ids = [run.doc_ids(query_id) if query_id in run else [] for query_id in query_ids]
    try:
        rows = [[place[query_id, doc_id] for doc_id in ids] for query_id, ids in zip(query_ids, doc_ids, strict=True)]
    except KeyError as error:
        raise FormatError("this sidecar lacks hits of its run", where=source, mend=_MEND) from error
    return Run(
        query_ids,
        doc_ids,
        [list(run.scores(query_id)) if query_id in run else [] for query_id in query_ids],
        components={name: [[values[i] for i in row] for row in rows] for name, values in columns.items()},
        fingerprint=about["fingerprint"],  # type: ignore[arg-type]
        presorted=True,
    )


_MEND = "Remove it to read the run's six columns alone, or write the run again"


def _read(source: Path) -> tuple[dict[str, object], pyarrow.Table]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(source)
        about = json.loads((table.schema.metadata or {})[b"retgen"])
        if about["version"] > _VERSION:
            raise FormatError(
                "this sidecar was written by a newer retgen", where=source, mend="Update it: pip install -U retgen"
            )
        columns = {"query_id", "doc_id"} <= set(table.column_names)
        if not (columns and isinstance(about["query_ids"], list) and "fingerprint" in about and "run_sha256" in about):
            raise KeyError("query_ids")
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"this sidecar is torn or not retgen's ({error})", where=source, mend=_MEND) from error
    return about, table


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
