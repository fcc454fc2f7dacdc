"""One attempt at an OpenAI-compatible endpoint through the official client, and what its failures are.

The client's own retries are off: `retgen.llm.faults` decides alone. Keys are read from the environment when a
connection is opened, and are neither kept nor shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from retgen.errors import MissingExtraError, UsageError
from retgen.llm.errors import EndpointError
from retgen.llm.faults import AttemptFailedError, Cause, retry_after
from retgen.llm.requests import CompletionRequest

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"
_NO_KEY = "none"
"""What is sent to servers of one's own, which ask for no key; the client does not work without."""
_OUT_OF_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low"}
_UNKNOWN_MODEL = {"model_not_found", "model_not_available"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: its text (of ``prompt-logprobs`` JSON), why it ended, and tokens as the endpoint counts them."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


Send = Callable[[CompletionRequest], Awaitable[Reply]]
"""One attempt.

Raises:
    AttemptFailedError: it gave no completion.
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a language model is served.

    Args:
        base_url: e.g. ``http://localhost:8000/v1``; OpenAI's own by default.
        key_variable: the environment variable with the key. OpenAI needs one; servers of one's own often do not.
        timeout: seconds for one attempt, from the request to the last byte of the answer.
        connect_timeout: seconds to connect.

    Raises:
        UsageError: the URL is none, or holds a password (which would be written down), or a time is not above 0.
    """

    base_url: str = OPENAI_URL
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    connect_timeout: float = 10.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            secret = parts.username is not None or parts.password is not None or bool(parts.query)
        except ValueError:
            usable = secret = False
        if not usable:
            raise UsageError(
                f"this is not the URL of an endpoint: {self.base_url!r}", mend="Give http(s)://HOST[:PORT]/v1"
            )
        if secret:
            raise UsageError(
                "the URL of an endpoint holds a name, password or query, which would end in logs and ledgers",
                where=urlunsplit((parts.scheme, parts.hostname or "", parts.path, "", "")),
                mend=f"Put the key into the environment variable {self.key_variable}",
            )
        if not (self.timeout > 0 and self.connect_timeout > 0):
            raise UsageError(f"a timeout must be above 0; got {self.timeout} and {self.connect_timeout}")

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Send]:
        """An open client, for the running event loop.

        Raises:
            MissingExtraError: the package ``openai`` is not installed.
            EndpointError: OpenAI's endpoint without a key, or a key that cannot be sent.
        """
        client_module = _openai()
        key = os.environ.get(self.key_variable, "").strip()
        if not key and self.base_url.startswith(OPENAI_URL):
            raise EndpointError(
                f"there is no key: the environment variable {self.key_variable} is not set",
                where=self.base_url,
                mend=f"Set {self.key_variable}, or name another endpoint or variable",
            )
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(
                f"what the environment variable {self.key_variable} holds cannot be a key: no header takes its signs",
                where=self.base_url,
                mend=f"Set {self.key_variable} to the key alone",
            )
        async with client_module.AsyncOpenAI(
            api_key=key or _NO_KEY,
            base_url=self.base_url,
            max_retries=0,
            timeout=client_module.Timeout(self.timeout, connect=self.connect_timeout),
        ) as client:

            async def send(request: CompletionRequest) -> Reply:
                return await _attempt(client, request, self, key)

            yield send


async def _attempt(client: openai.AsyncOpenAI, request: CompletionRequest, endpoint: Endpoint, key: str) -> Reply:
    module = _openai()
    types = importlib.import_module("openai.types")
    chat = importlib.import_module("openai.types.chat")
    kind: Any = chat.ChatCompletion if request.kind == "chat" else types.Completion
    try:
        # The client's timeout is for each read: an answer that trickles in would never meet it.
        async with asyncio.timeout(endpoint.timeout):
            answer: Any = await client.post(request.path, cast_to=kind, body=request.payload)
    except (TimeoutError, module.APITimeoutError) as error:
        raise AttemptFailedError(Cause.TIMEOUT, f"no whole answer within {endpoint.timeout:g} s") from error
    except module.APIStatusError as error:
        raise _of_status(error, request, endpoint, key) from error
    except module.APIConnectionError as error:
        raise AttemptFailedError(Cause.CONNECTION, _without(key, _root(error))) from error
    except (module.OpenAIError, ValueError) as error:  # half a JSON, or another shape
        raise AttemptFailedError(Cause.MALFORMED, "the answer is not JSON of the expected shape") from error
    return read_reply(request, answer)


def read_reply(request: CompletionRequest, answer: Any) -> Reply:
    """What an answer says.

    Args:
        request: that it answers.
        answer: of the official client, a ``ChatCompletion`` or a ``Completion``.

    Raises:
        AttemptFailedError: it lacks something, or has no text.
    """
    return _chat_reply(answer) if request.kind == "chat" else _logprobs_reply(answer)


def _chat_reply(answer: Any) -> Reply:
    try:
        choice = answer.choices[0]
        message = choice.message
        text = message.content if message.content is not None else ""
        refused = bool(getattr(message, "refusal", None))
        reason = "refusal" if refused else str(choice.finish_reason or "stop")
        # A server may send half of a surrogate pair, which no file takes.
        text = text.encode(errors="replace").decode()
    except (AttributeError, TypeError, IndexError) as error:
        raise AttemptFailedError(Cause.MALFORMED, "the answer has no message") from error
    prompt_tokens, completion_tokens = _usage(answer)
    if not text.strip() and reason in ("stop", "length"):
        raise AttemptFailedError(
            Cause.EMPTY, "the answer has no text", tokens=(prompt_tokens or 0, completion_tokens or 0)
        )
    return Reply(text, reason, prompt_tokens, completion_tokens)


def _logprobs_reply(answer: Any) -> Reply:
    try:
        choice = answer.choices[0]
        found = choice.logprobs
        columns = {
            "tokens": [str(token) for token in found.tokens],
            "token_logprobs": [None if value is None else float(value) for value in found.token_logprobs],
            "text_offset": [int(offset) for offset in found.text_offset or ()],
        }
    except (AttributeError, TypeError, IndexError, ValueError) as error:
        raise AttemptFailedError(
            Cause.REQUEST,
            "the endpoint gave no log-probabilities of the prompt; it needs /v1/completions with echo and logprobs",
        ) from error
    prompt_tokens, completion_tokens = _usage(answer)
    text = json.dumps(columns, separators=(",", ":"))
    return Reply(text, str(choice.finish_reason or "stop"), prompt_tokens, completion_tokens)


def _usage(answer: Any) -> tuple[int | None, int | None]:
    usage = getattr(answer, "usage", None)
    counts = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
    prompt_tokens, completion_tokens = (value if isinstance(value, int) else None for value in counts)
    return prompt_tokens, completion_tokens


def _of_status(error: Any, request: CompletionRequest, endpoint: Endpoint, key: str) -> AttemptFailedError:
    status = int(error.status_code)
    said = _said(error, key)
    code = str(error.code or "")
    if status in (401, 403):
        return AttemptFailedError(
            Cause.FATAL,
            f"the endpoint refuses the key in {endpoint.key_variable} ({status}: {said})",
            mend=f"Set {endpoint.key_variable} to a key that may use {request.model!r}",
        )
    if status == 402 or code in _OUT_OF_CREDIT:
        return AttemptFailedError(
            Cause.FATAL, f"the account has no credit left ({status}: {said})", mend="Add credit, then run it again"
        )
    if status == 404 or code in _UNKNOWN_MODEL:
        return AttemptFailedError(
            Cause.FATAL,
            f"the endpoint does not know the model {request.model!r}, or has no {request.path} ({status}: {said})",
            mend=f"Check the model's name ({endpoint.base_url}/models lists them) and the URL, which ends in /v1",
        )
    if status == 429:
        return AttemptFailedError(
            Cause.REFUSED, f"too many requests (429: {said})", retry_after=retry_after(error.response.headers)
        )
    if status >= 500 or status in (408, 409, 425):
        return AttemptFailedError(
            Cause.SERVER, f"the server failed ({status}: {said})", retry_after=retry_after(error.response.headers)
        )
    return AttemptFailedError(Cause.REQUEST, f"the endpoint refuses this request ({status}: {said})")


def _said(error: Any, key: str) -> str:
    body = error.body
    inner = body.get("message") if isinstance(body, dict) else None
    text = inner if isinstance(inner, str) else body if isinstance(body, str) else str(error.message)
    line = _without(key, " ".join(text.split()))
    return line if len(line) <= 300 else line[:299] + "…"


def _root(error: BaseException) -> str:
    """What the system said of a connection, the innermost of its errors; else what the client said."""
    found: BaseException = error.__cause__ or error
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError):
            found = inner
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
    return str(found).strip() or type(found).__name__


def _without(key: str, text: str) -> str:
    return text.replace(key, "[key]") if key else text


def _openai() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError as error:
        raise MissingExtraError("openai", "llm") from error
