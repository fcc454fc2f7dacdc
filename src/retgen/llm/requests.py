"""What is asked of a language model, and the key under which its answer is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from retgen.errors import UsageError

Kind = Literal["chat", "prompt-logprobs"]
KINDS: tuple[Kind, ...] = ("chat", "prompt-logprobs")
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_new_tokens")
_UNLIMITED = 1024
_BYTES_PER_TOKEN = 4
"""Of English, about, with the common tokenizers."""
_TEMPLATE_TOKENS = 64
"""Room for what a chat template puts around a prompt."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One prompt for one model.

    Args:
        model: its name at the endpoint.
        prompt: the user's message of a chat, or a text to be read.
        parameters: sent along, e.g. ``temperature``, ``seed``, ``max_tokens``; JSON values.
        kind: ``"chat"`` writes; ``"prompt-logprobs"`` writes nothing and returns the log-probability of every token of
            the prompt.

    Raises:
        UsageError: a parameter is no JSON value, the prompt is no Unicode text, or the kind is not known.

    Example:
        >>> request = CompletionRequest("m", "Why?", {"temperature": 0, "seed": 1})
        >>> request.key == CompletionRequest("m", "Why?", {"seed": 1, "temperature": 0}).key
        True
    """

    model: str
    prompt: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    kind: Kind = "chat"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"unknown kind of request {self.kind!r}", mend=f"It is one of {', '.join(KINDS)}")
        try:
            json.dumps(dict(self.parameters), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the parameters of a request must be JSON values ({error})") from error
        try:
            self.prompt.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"this prompt is not a text that can be sent ({error})") from error

    @property
    def parameters_text(self) -> str:
        """The parameters as JSON, written in one way only."""
        return json.dumps(dict(self.parameters), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def key(self) -> str:
        """40 hexadecimal digits of model, parameters, prompt and kind; equal requests have equal keys."""
        parts = json.dumps([self.kind, self.model, self.parameters_text, self.prompt])
        return hashlib.blake2b(parts.encode(), digest_size=20).hexdigest()

    @property
    def path(self) -> str:
        """Where an OpenAI-compatible server takes it, below its base URL."""
        return "/chat/completions" if self.kind == "chat" else "/completions"

    @property
    def payload(self) -> dict[str, object]:
        """The body that is sent."""
        if self.kind == "chat":
            return {
                "model": self.model,
                "messages": [{"role": "user", "content": self.prompt}],
                **self.parameters,
            }
        return {
            "model": self.model,
            "prompt": self.prompt,
            "echo": True,
            "logprobs": 1,
            "max_tokens": 0,
            **self.parameters,
        }

    @property
    def prompt_tokens_limit(self) -> int:
        """More tokens than the prompt has: no tokenizer in use makes more than one of a byte."""
        return len(self.prompt.encode()) + _TEMPLATE_TOKENS

    @property
    def prompt_tokens_estimate(self) -> int:
        """About as many tokens as the prompt has."""
        return len(self.prompt.encode()) // _BYTES_PER_TOKEN + 8

    @property
    def completion_tokens_limit(self) -> int:
        """Most tokens that may be written; 1,024 are assumed where the parameters set no limit."""
        if self.kind == "prompt-logprobs":
            return 0
        limits = [value for name in _TOKEN_LIMITS if isinstance(value := self.parameters.get(name), int)]
        return min(limits, default=_UNLIMITED)
