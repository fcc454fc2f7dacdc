"""What is in a ledger, whether it is whole, and how it moves: sums, checks, and JSON lines out and in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retgen.errors import RecordError, UsageError
from retgen.llm.ledger import Ledger, LedgerEntry
from retgen.llm.requests import CompletionRequest
from retgen.store import atomic_file

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ModelSums:
    """What one model wrote: completions, tokens, money, and the seconds that endpoints took for them."""

    model: str
    completions: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    seconds: float
    empty: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: entries that are new, entries that were there, and how many of these differ."""

    added: int
    known: int
    different: int


def stats(ledger: Ledger) -> list[ModelSums]:
    """The sums of each model, by its name; what an endpoint did not count is missing in them."""
    rows: list[Any] = ledger.query(
        "SELECT model, COUNT(*), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0), "
        "COALESCE(SUM(cost), 0.0), SUM(seconds), SUM(completion = ''), MIN(created), MAX(created) "
        "FROM completions GROUP BY model ORDER BY model"
    )
    return [ModelSums(*row) for row in rows]


def export_jsonl(ledger: Ledger, path: str | Path) -> int:
    """Write all entries as JSON lines, oldest first; the file appears whole or not at all.

    Returns:
        How many were written.
    """
    written = 0
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        for entry in ledger.entries():
            out.write(json.dumps(as_record(entry), ensure_ascii=False, allow_nan=False) + "\n")
            written += 1
    return written


def import_jsonl(ledger: Ledger, path: str | Path) -> Imported:
    """Put the entries of a file that `export_jsonl` wrote; a request that has a completion keeps it.

    Raises:
        RecordError: a line is no entry, or its key is not that of its request. What stands before it was taken.
    """
    added = known = different = 0
    for entry in _read(Path(path)):
        before = ledger.get(entry.request)
        if before is None:
            ledger.put(entry)
            added += 1
        else:
            known += 1
            different += before.completion != entry.completion
    return Imported(added, known, different)


def verify(ledger: Ledger, progress: Progress | None = None) -> list[str]:
    """Read the whole ledger and name what is wrong: SQLite's own check, every key, every completion's checksum.

    Returns:
        One sentence for each fault; none where the ledger is whole.
    """
    faults = [f"SQLite: {row[0]}" for row in ledger.query("PRAGMA integrity_check") if row[0] != "ok"]
    total = len(ledger)
    for number, row in enumerate(ledger.rows(), start=1):
        key = str(row[0])
        try:
            kind: Any = row[1]
            request = CompletionRequest(str(row[2]), str(row[4]), json.loads(str(row[3])), kind)
        except (ValueError, UsageError) as error:
            faults.append(f"{key}: its request cannot be read ({error})")
            continue
        if request.key != key:
            faults.append(f"{key}: model, parameters or prompt are not those it was kept under")
        if LedgerEntry(request, str(row[5])).digest != row[13]:
            faults.append(f"{key}: the completion is not the one that was received")
        if progress is not None:
            progress(number, total)
    return faults


def as_record(entry: LedgerEntry) -> dict[str, object]:
    """An entry as a JSON object that a person can read."""
    request = entry.request
    return {
        "key": request.key,
        "kind": request.kind,
        "model": request.model,
        "parameters": dict(request.parameters),
        "prompt": request.prompt,
        "completion": entry.completion,
        "finish_reason": entry.finish_reason,
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "cost": entry.cost,
        "endpoint": entry.endpoint,
        "created": entry.created,
        "seconds": entry.seconds,
    }


def _read(path: Path) -> Iterator[LedgerEntry]:
    try:
        # Bytes that are no UTF-8 come out as what cannot be encoded again, and so as a bad line with its number.
        lines = path.open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise RecordError(f"this file cannot be read ({error.strerror})", path=path, mend="Check the path") from error
    with lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _entry(line, path, number)


def _entry(line: str, path: Path, number: int) -> LedgerEntry:
    def bad(what: str) -> RecordError:
        return RecordError(what, path=path, line=number, mend="Give a file that retgen ledger export wrote")

    try:
        value: Any = json.loads(line)
        request = CompletionRequest(value["model"], value["prompt"], value["parameters"], value["kind"])
        entry = LedgerEntry(
            request,
            value["completion"],
            value["finish_reason"],
            value["prompt_tokens"],
            value["completion_tokens"],
            value["cost"],
            value["endpoint"],
            float(value["created"]),
            float(value["seconds"]),
        )
        key = request.key
        entry.completion.encode()
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise bad(f"this is no entry of a ledger ({type(error).__name__}: {error})") from error
    if value.get("key") != key:
        raise bad("its key is not that of its model, parameters and prompt")
    return entry
