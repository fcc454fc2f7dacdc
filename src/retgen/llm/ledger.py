"""The ledger: every completion that was paid for, kept by what was asked, so that nothing is asked twice.

One SQLite file in WAL mode. Any number of threads and processes may read and write it at the same time; what was put
is there for all of them, also when the process is killed the moment after.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from retgen.errors import ArtefactError
from retgen.llm.requests import CompletionRequest, Kind

APPLICATION_ID = 0x52544C47
"""``RTLG``: how a ledger is told from other SQLite files."""
SCHEMA_VERSION = 1
IN_MEMORY = ":memory:"
_BUSY_SECONDS = 60.0
_INHERITED: list[sqlite3.Connection] = []
"""Connections of the process that this one was forked from: kept, as to drop one would be to close it here."""
_SCHEMA = """
CREATE TABLE completions (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    parameters TEXT NOT NULL,
    prompt TEXT NOT NULL,
    completion TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost REAL,
    endpoint TEXT NOT NULL,
    created REAL NOT NULL,
    seconds REAL NOT NULL,
    digest TEXT NOT NULL
)
"""
_COLUMNS = (
    "key, kind, model, parameters, prompt, completion, finish_reason, prompt_tokens, completion_tokens, cost, "
    "endpoint, created, seconds, digest"
)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One completion and what it cost.

    Args:
        request: what was asked.
        completion: what was written. Of ``prompt-logprobs`` JSON, see `retgen.llm.endpoint`.
        finish_reason: the endpoint's word for why it ended: ``stop``, ``length``, ``content_filter``, …
        prompt_tokens: as the endpoint counts them; None where it does not tell.
        completion_tokens: likewise.
        cost: in the currency of the prices that were given; None without prices.
        endpoint: base URL, or what else wrote it; never with a key.
        created: seconds since 1970, when it was received.
        seconds: that it took.
    """

    request: CompletionRequest
    completion: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    endpoint: str = ""
    created: float = 0.0
    seconds: float = 0.0

    @property
    def digest(self) -> str:
        """A checksum of the completion, by which `Ledger.verify` finds one that was changed or torn."""
        return hashlib.blake2b(self.completion.encode(), digest_size=16).hexdigest()


class Ledger:
    """Completions by request, in one SQLite file.

    The first completion of a request stays: whoever puts another gets the first one back, so that all who asked the
    same at the same time go on with the same text. A ledger may be handed to a forked process and be pickled; each
    process opens the file for itself.

    Args:
        path: of the file, made where there is none; ``":memory:"`` for one that ends with the process.
        create: False refuses a path where there is no ledger.

    Raises:
        ArtefactError: the file is something else, of a newer version, or cannot be opened or written.

    Example:
        >>> ledger = Ledger(":memory:")
        >>> request = CompletionRequest("m", "Say 1.")
        >>> ledger.get(request) is None
        True
        >>> ledger.put(LedgerEntry(request, "1")).completion, ledger.put(LedgerEntry(request, "one")).completion
        ('1', '1')
        >>> len(ledger)
        1
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = str(path)
        self._lock = threading.Lock()
        self._owner = 0
        self._connection: sqlite3.Connection | None = None
        if not create and (self.path == IN_MEMORY or not Path(self.path).is_file()):
            raise ArtefactError(
                "there is no ledger here", where=self.path, mend="Give the file that retgen connect --ledger wrote"
            )
        with self._open():
            pass

    def get(self, request: CompletionRequest) -> LedgerEntry | None:
        """The completion of this request, or None where it was never received."""
        return self.by_key(request.key)

    def by_key(self, key: str) -> LedgerEntry | None:
        """The completion under this key, or None."""
        with self._open() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM completions WHERE key = ?", (key,)).fetchone()
        return None if row is None else _entry(row)

    def put(self, entry: LedgerEntry) -> LedgerEntry:
        """Keep a completion, unless its request has one.

        Returns:
            What the ledger holds for the request now: this entry, or the one that was there first.
        """
        with self._open() as connection:
            connection.execute(
                f"INSERT INTO completions ({_COLUMNS}) VALUES ({', '.join('?' * 14)}) ON CONFLICT (key) DO NOTHING",
                _row(entry),
            )
            if connection.execute("SELECT changes()").fetchone()[0]:
                return entry
        kept = self.by_key(entry.request.key)
        return entry if kept is None else kept

    def entries(self) -> Iterator[LedgerEntry]:
        """All completions, oldest first; those that are put while this goes on may or may not be among them."""
        for row in self.rows():
            yield _entry(row)

    def rows(self) -> Iterator[tuple[object, ...]]:
        """All rows as they are stored, whole or not, oldest first."""
        last = 0
        while True:
            with self._open() as connection:
                block = connection.execute(
                    f"SELECT {_COLUMNS}, number FROM completions WHERE number > ? ORDER BY number LIMIT 1000", (last,)
                ).fetchall()
            if not block:
                return
            last = block[-1][-1]
            yield from (row[:-1] for row in block)

    def query(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Rows of a question of one's own to the table ``completions`` (or a PRAGMA)."""
        with self._open() as connection:
            return connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the file; the next call opens it again. A ledger in memory ends here."""
        with self._lock:
            self._leave_inherited()
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __len__(self) -> int:
        with self._open() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM completions").fetchone()[0])

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        if self.path == IN_MEMORY:
            raise ArtefactError("a ledger in memory belongs to one process", mend="Give the ledger a path")
        return (Ledger, (self.path,))

    def __repr__(self) -> str:
        return f"Ledger({self.path!r})"

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection of this process, for one thread at a time; SQLite's errors as ours."""
        with self._lock:
            try:
                self._leave_inherited()
                if self._connection is None:
                    self._connection = _connect(self.path)
                    self._owner = os.getpid()
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                raise _not_usable(error, self.path) from error

    def _leave_inherited(self) -> None:
        # A connection must not be used, nor closed, in a process forked from the one that opened it.
        if self._connection is not None and self._owner != os.getpid():
            _INHERITED.append(self._connection)
            self._connection = None


def cost_of(entry: LedgerEntry) -> tuple[int, int, float]:
    """Prompt tokens, completion tokens and money of an entry; what is not known counts 0."""
    return entry.prompt_tokens or 0, entry.completion_tokens or 0, entry.cost or 0.0


def _connect(path: str) -> sqlite3.Connection:
    if path != IN_MEMORY:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _set_up(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, path: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and tables:
        raise ArtefactError("this SQLite file is not a ledger", where=path, mend="Give another path")
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise ArtefactError(
                f"this ledger has version {version}, and this retgen reads up to {SCHEMA_VERSION}",
                where=path,
                mend="Update retgen",
            )
        if version == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _use_wal(connection: sqlite3.Connection) -> None:
    # To change the mode SQLite does not wait for others that open the file at the same time.
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _not_usable(error: Exception, path: str) -> ArtefactError:
    if isinstance(error, sqlite3.OperationalError) or not isinstance(error, sqlite3.DatabaseError):
        return ArtefactError(
            f"the ledger cannot be read or written ({error})",
            where=path,
            mend="Check the place, its rights and the room on the disk; what was received before is kept",
        )
    return ArtefactError(
        f"this file is not a ledger, or a broken one ({error})",
        where=path,
        mend="Give another path; of a broken ledger, `retgen ledger export` may still save what can be read",
    )


def _row(entry: LedgerEntry) -> tuple[object, ...]:
    request = entry.request
    return (
        request.key,
        request.kind,
        request.model,
        request.parameters_text,
        request.prompt,
        entry.completion,
        entry.finish_reason,
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.cost,
        entry.endpoint,
        entry.created,
        entry.seconds,
        entry.digest,
    )


def _entry(row: tuple[object, ...]) -> LedgerEntry:
    kind: Kind = "chat" if row[1] == "chat" else "prompt-logprobs"
    request = CompletionRequest(str(row[2]), str(row[4]), json.loads(str(row[3])), kind)
    return LedgerEntry(
        request,
        str(row[5]),
        str(row[6]),
        _whole(row[7]),
        _whole(row[8]),
        float(row[9]) if isinstance(row[9], (int, float)) else None,
        str(row[10]),
        float(str(row[11])),
        float(str(row[12])),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
