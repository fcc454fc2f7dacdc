"""Which writer the options of ``retgen connect`` name: checked before anything is read, opened when everything is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retgen.cli.connect_options import ATTEMPTS, CONCURRENCY, KEY_VARIABLE, TIMEOUT
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.connect import Writer
    from retgen.connect.local import LocalWriter
    from retgen.connect.prompted import PromptedWriter
    from retgen.corpus import Corpus
    from retgen.llm.client import EndpointClient
    from retgen.llm.progress import OnStanding

WRITERS = ("offline", "chat", "local")


@dataclass(frozen=True)
class ChatOptions:
    """Options of an endpoint, as the command line has them."""

    endpoint: str | None = None
    key_variable: str = KEY_VARIABLE
    concurrency: int = CONCURRENCY
    timeout: float = TIMEOUT
    attempts: int = ATTEMPTS
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_tokens: int | None = None
    budget_money: float | None = None
    price: tuple[float, float] | None = None
    parameters: tuple[str, ...] = ()

    def given(self) -> list[str]:
        """Those that only make sense with an endpoint."""
        options = {
            "--endpoint": self.endpoint,
            "--requests-per-minute": self.requests_per_minute,
            "--tokens-per-minute": self.tokens_per_minute,
            "--budget-tokens": self.budget_tokens,
            "--budget-money": self.budget_money,
            "--price": self.price,
            "--parameter": self.parameters or None,
        }
        return [name for name, value in options.items() if value is not None]

    def client(self, ledger: Path, on_standing: OnStanding | None) -> EndpointClient:
        """A client of the endpoint, with its ledger, limits and budget."""
        from retgen.llm import Budget, Endpoint, EndpointClient, Ledger, Price, RetryPolicy
        from retgen.llm.endpoint import OPENAI_URL

        price = None if self.price is None else Price(*self.price)
        return EndpointClient(
            Endpoint(self.endpoint or OPENAI_URL, self.key_variable, self.timeout),
            Ledger(ledger),
            concurrency=self.concurrency,
            policy=RetryPolicy(attempts=self.attempts),
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            budget=Budget(max_tokens=self.budget_tokens, max_cost=self.budget_money, price=price),
            on_standing=on_standing,
        )


@dataclass(frozen=True)
class WriterOptions:
    """Options of a writer, as the command line has them."""

    writer: str
    model: str | None
    ledger: Path
    prompts: Path | None
    temperature: float
    seed: int
    max_tokens: int | None
    device: str
    chat: ChatOptions

    def check(self, *, batch: bool) -> None:
        """Refuse options that do not fit the writer, before anything is read.

        Raises:
            UsageError: an unknown writer, or an option that is missing or of no use.
        """
        if self.writer not in WRITERS:
            raise UsageError(
                f"unknown writer {self.writer!r}", where="--writer", mend=f"Choose one of {', '.join(WRITERS)}"
            )
        prompted = self.writer != "offline"
        if prompted and self.model is None:
            raise UsageError(f"--writer {self.writer} needs --model", mend="Name the model that shall write")
        useless = [] if self.writer == "chat" else self.chat.given() + (["--batch-file"] if batch else [])
        if not prompted:
            given = {"--model": self.model, "--prompts": self.prompts, "--max-tokens": self.max_tokens}
            useless += [name for name, value in given.items() if value is not None]
        if useless:
            raise UsageError(
                f"--writer {self.writer} makes no use of {useless[0]}", mend="Leave it out, or choose another writer"
            )


def open_writer(options: WriterOptions, corpus: Corpus, on_standing: OnStanding | None) -> Writer:
    """The writer of these options, which `WriterOptions.check` has seen."""
    if options.writer == "offline":
        from retgen.connect import OfflineWriter, TermWeights
        from retgen.lexical import BM25

        return OfflineWriter(BM25.build(corpus), corpus, weights=TermWeights.from_documents(corpus))
    return open_prompted(options, on_standing)


def open_prompted(options: WriterOptions, on_standing: OnStanding | None) -> PromptedWriter:
    """The language model of these options."""
    from retgen.connect.prompted import Sampling
    from retgen.llm import read_prompts

    prompts = None if options.prompts is None else read_prompts(options.prompts)
    sampling = Sampling(options.temperature, options.seed, options.max_tokens, parameters_of(options.chat.parameters))
    if options.writer == "local":
        return local_writer(options, prompts=prompts, sampling=sampling, on_standing=on_standing)
    from retgen.connect.chat import ChatWriter

    client = options.chat.client(options.ledger, on_standing)
    return ChatWriter(client, str(options.model), prompts=prompts, sampling=sampling)


def asking_writer(
    writer: str | None,
    model: str | None,
    ledger: Path,
    prompts: Path | None,
    max_tokens: int | None,
    device: str,
    chat: ChatOptions,
    asked: Path | None,
) -> WriterOptions | None:
    """The options of ``retgen ask`` that name who writes a question's context; None where the index does.

    Raises:
        UsageError: an option that is missing or of no use.
    """
    if writer is None:
        given = [*chat.given(), *(["--writer-model"] if model is not None else [])]
        if given:
            raise UsageError(f"{given[0]} needs --writer", mend="Give --writer chat or --writer local")
        return None
    if writer == "offline" or asked is None:
        what = "the index writes a question's context itself" if asked is not None else "a writer needs a trained model"
        raise UsageError(what, where="--writer", mend="Leave --writer out, or name a --model and chat or local")
    if model is None:
        raise UsageError(f"--writer {writer} needs --writer-model", mend="Name the model that shall write")
    made = WriterOptions(writer, model, ledger, prompts, 0.0, 0, max_tokens, device, chat)
    made.check(batch=False)
    return made


def local_writer(options: WriterOptions, *, on_standing: OnStanding | None, **settings: Any) -> LocalWriter:
    """A model in this process, with the ledger of these options."""
    from retgen.connect.local import LocalWriter
    from retgen.llm import Ledger
    from retgen.models.quiet import no_progress_bars

    with no_progress_bars():
        return LocalWriter.from_pretrained(
            str(options.model),
            device=options.device,
            ledger=Ledger(options.ledger),
            on_standing=on_standing,
            **settings,
        )


def parameters_of(given: tuple[str, ...]) -> dict[str, object]:
    """``NAME=JSON`` as parameters.

    Raises:
        UsageError: one has no name, or no JSON value.

    Example:
        >>> parameters_of(("top_p=0.9", "max_tokens=null"))
        {'top_p': 0.9, 'max_tokens': None}
    """
    made: dict[str, object] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise UsageError("a parameter is NAME=JSON", where=f"--parameter {each}", mend="e.g. top_p=0.9")
        try:
            made[name] = json.loads(value)
        except ValueError as error:
            raise UsageError(f"{value!r} is not JSON", where=f"--parameter {each}") from error
    return made
