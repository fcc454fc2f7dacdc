"""One stage's work: the function called on its context, what it cost, and the record of both in its folder.

The same code runs in this process and, for isolated stages, in one of its own (`retgen.recipes.isolated`).
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retgen.errors import ArtefactError
from retgen.recipes.context import StageContext, StageError, StageReport
from retgen.recipes.events import Listener
from retgen.recipes.meter import Costs, Meter
from retgen.recipes.provenance import provenance
from retgen.recipes.stages import stage_kind

RECORD = "stage.json"
REPORT = "report.json"
PER_QUESTION = "per-question.json.gz"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a stage needs to run, as JSON values.

    Args:
        kind: a registered kind.
        module: that registers it.
        name: the stage's name.
        seed: None for none.
        params: its arguments.
        folder: to write into.
        scratch: that survives an interruption.
        cache: that all stages share.
        journal: of its costs so far.
        inputs: role → finished folder.
        data: the data folder, or None.
        data_files: relative path → SHA-256.
        command: that started it, for the record.
        key: of the stage.
    """

    kind: str
    module: str
    name: str
    seed: int | None
    params: Mapping[str, Any]
    folder: str
    scratch: str
    cache: str
    journal: str
    inputs: Mapping[str, str]
    data: str | None
    data_files: Mapping[str, str]
    command: str
    key: str


@dataclass(frozen=True, slots=True)
class Record:
    """How a finished stage was made.

    Args:
        name, kind, key, seed, params, data_files: as in `Job`.
        costs: what it cost.
        provenance: command, commit, versions, machine.
        finished: UTC, ISO 8601.
    """

    name: str
    kind: str
    key: str
    seed: int | None
    params: Mapping[str, Any]
    data_files: Mapping[str, str]
    costs: Costs
    provenance: Mapping[str, Any]
    finished: str


def perform(job: Job, listen: Listener) -> None:
    """Run a stage in this process, and write its report and record beside what it made.

    Raises:
        StageError: it wrote a file whose name is taken.
        Exception: whatever the stage raises.
    """
    importlib.import_module(job.module)
    kind = stage_kind(job.kind)
    arguments = kind.check_params(job.params)
    folder, scratch = Path(job.folder), Path(job.scratch)
    context = StageContext(
        name=job.name,
        folder=folder,
        scratch=scratch,
        cache=Path(job.cache),
        inputs={role: Path(path) for role, path in job.inputs.items()},
        data=None if job.data is None else Path(job.data),
        data_files=tuple(job.data_files),
        listen=listen,
        seed_or_none=job.seed,
    )
    # The result is the only thing on standard output, and trainers like to print there.
    with (
        contextlib.redirect_stdout(sys.stderr),
        Meter(Path(job.journal), resumes=any(scratch.iterdir())) as meter,
    ):
        kind.function(context, **{name: getattr(arguments, name) for name in type(arguments).model_fields})
    for name in (RECORD, REPORT, PER_QUESTION):
        if (folder / name).exists():
            raise StageError(f"the stage wrote a file called {name!r}, which is the runner's", where=job.name)
    _write_report(folder, context.reported)
    record = Record(
        name=job.name,
        kind=job.kind,
        key=job.key,
        seed=job.seed,
        params=job.params,
        data_files=job.data_files,
        costs=meter.costs,
        provenance=provenance(job.command),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False), encoding="utf-8")


def read_record(folder: Path) -> Record:
    """How a finished stage was made.

    Raises:
        ArtefactError: its record is not readable.
    """
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Record(**{**content, "costs": Costs(**content["costs"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtefactError("the record of this stage is torn", where=folder, mend="Remove the folder") from error


def read_report(folder: Path) -> StageReport:
    """What a finished stage reported."""
    report = StageReport(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    if (folder / PER_QUESTION).exists():
        content = json.loads(gzip.decompress((folder / PER_QUESTION).read_bytes()))
        report.per_question, report.statistics = content["per_question"], content["statistics"]
    return report


def pack(per_question: Mapping[str, object], statistics: Mapping[str, object]) -> bytes:
    """Values per question as compressed JSON; the same values give the same bytes."""
    content = {"per_question": per_question, "statistics": statistics}
    return gzip.compress(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)


def _write_report(folder: Path, report: StageReport) -> None:
    (folder / REPORT).write_text(json.dumps(report.values, indent=1, ensure_ascii=False), encoding="utf-8")
    if report.per_question or report.statistics:
        (folder / PER_QUESTION).write_bytes(pack(report.per_question, report.statistics))
