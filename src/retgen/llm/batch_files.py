"""A provider's batch endpoint: the file of requests it wants, and the file of answers it gives, into the ledger.

Batches cost about half at most providers, and take up to a day. Between the two steps the user sends the file; after
the second, the work is run as ever and finds everything in the ledger.

Reference:
    OpenAI's Batch API, whose files other providers and ``vllm run-batch`` read too.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retgen.errors import MissingExtraError, RecordError, UsageError
from retgen.llm.endpoint import read_reply
from retgen.llm.faults import AttemptFailedError
from retgen.llm.ledger import Ledger, LedgerEntry
from retgen.llm.limits import Price
from retgen.llm.requests import CompletionRequest
from retgen.store import atomic_file

MOST_REQUESTS = 50_000
"""In one file, at OpenAI."""
_BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Collected:
    """What the answers of a batch were: new in the ledger, there already, and failed (key → why)."""

    added: int
    known: int
    failed: dict[str, str]


def write_batch(
    path: str | Path, requests: Iterable[CompletionRequest], ledger: Ledger, *, most: int = MOST_REQUESTS
) -> list[tuple[Path, int]]:
    """Write the requests that the ledger lacks, as batch endpoints read them; equal ones once.

    Args:
        path: of the file; those after the first ``most`` go to ``NAME-2.jsonl`` and so on.
        requests: of the kind ``chat``.
        ledger: what it holds is left out.
        most: requests in one file.

    Returns:
        The files and the number of requests in each; none where the ledger has everything.

    Raises:
        UsageError: a request of another kind.
    """
    first = Path(path)
    lacking = _lacking(requests, ledger)
    made: list[tuple[Path, int]] = []
    request = next(lacking, None)
    while request is not None:
        target = first if not made else first.with_name(f"{first.stem}-{len(made) + 1}{first.suffix}")
        count = 0
        with atomic_file(target) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
            while request is not None and count < most:
                out.write(json.dumps(_line(request), ensure_ascii=False) + "\n")
                count += 1
                request = next(lacking, None)
        made.append((target, count))
    return made


def collect_batch(
    requests: str | Path, answers: str | Path, ledger: Ledger, *, price: Price | None = None
) -> Collected:
    """Put the answers of a batch into the ledger.

    Args:
        requests: the file that `write_batch` wrote.
        answers: the file that the provider gave back; its order does not matter.
        ledger: takes them.
        price: of a million tokens, for the ledger's sums.

    Raises:
        RecordError: a line of either file that is not what the Batch API says.
        MissingExtraError: the package ``openai`` is not installed.
    """
    asked = {}
    for number, row in _rows(requests):
        try:
            request = _request(row)
            asked[str(row["custom_id"])] = request
        except (KeyError, TypeError, IndexError, UsageError) as error:
            raise _bad(f"this is no request of a batch ({type(error).__name__}: {error})", requests, number) from error
    kind = _chat_completion()
    added = known = 0
    failed: dict[str, str] = {}
    for number, row in _rows(answers):
        key = str(row.get("custom_id"))
        if key not in asked:
            raise _bad(f"nobody asked for {key!r}", answers, number)
        response = row.get("response") or {}
        body = response.get("body") if isinstance(response, dict) else None
        if row.get("error") or not isinstance(body, dict) or response.get("status_code", 200) != 200:
            failed[key] = json.dumps(row.get("error") or body or "no answer", ensure_ascii=False)[:300]
            continue
        try:
            reply = read_reply(asked[key], kind.construct(**body))
        except AttemptFailedError as fault:
            failed[key] = fault.message
            continue
        if ledger.get(asked[key]) is not None:
            known += 1
            continue
        tokens = (reply.prompt_tokens or 0, reply.completion_tokens or 0)
        ledger.put(
            LedgerEntry(
                asked[key],
                reply.text,
                reply.finish_reason,
                reply.prompt_tokens,
                reply.completion_tokens,
                None if price is None else price.cost(*tokens),
                _BATCH,
                time.time(),
            )
        )
        added += 1
    return Collected(added, known, failed)


def _lacking(requests: Iterable[CompletionRequest], ledger: Ledger) -> Iterator[CompletionRequest]:
    written: set[str] = set()
    for request in requests:
        if request.kind != "chat":
            raise UsageError("only chats go into a batch", mend="Ask the endpoint itself")
        if request.key not in written and ledger.get(request) is None:
            written.add(request.key)
            yield request


def _line(request: CompletionRequest) -> dict[str, object]:
    return {"custom_id": request.key, "method": "POST", "url": f"/v1{request.path}", "body": request.payload}


def _request(row: dict[str, Any]) -> CompletionRequest:
    body = dict(row["body"])
    model, messages = body.pop("model"), body.pop("messages")
    request = CompletionRequest(model, messages[0]["content"], body)
    if request.key != row["custom_id"] or len(messages) != 1:
        raise UsageError("it was changed since it was written")
    return request


def _rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise RecordError(f"this file cannot be read ({error.strerror})", path=path, mend="Check the path") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise _bad(f"this is not JSON ({error})", path, number) from error
            if not isinstance(row, dict):
                raise _bad("this is not a JSON object", path, number)
            yield number, row


def _bad(what: str, path: str | Path, number: int) -> RecordError:
    return RecordError(
        what, path=path, line=number, mend="Give the file of requests as it was written, and the provider's answers"
    )


def _chat_completion() -> Any:
    try:
        return importlib.import_module("openai.types.chat").ChatCompletion
    except ImportError as error:
        raise MissingExtraError("openai", "llm") from error
