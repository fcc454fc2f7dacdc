"""Who writes a recipe's connectors: what of it is part of a stage's key, and how a stage comes by a live writer.

Model, prompts and parameters decide what is written, and are arguments of stages. Where the model is served, how fast
it may be asked and what it may cost do not: they belong to whoever runs the recipe, who opens the writer for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retgen.recipes.context import StageContext, StageError

if TYPE_CHECKING:
    from retgen.connect.prompted import PromptedWriter, Sampling
    from retgen.llm.progress import OnStanding, Standing
    from retgen.llm.prompts import Prompt

WRITTEN_KINDS = ("q-connectors", "d-connectors", "pseudo-answers", "written-iterations", "prompted-answers")
"""Kinds of stages that have a language model write; each takes an `Author` as its argument ``by``."""


class Author(BaseModel):
    """What decides what is written.

    Args:
        writer: ``chat`` (an endpoint) or ``local`` (a model in this process).
        model: its name.
        temperature: 0 for the likeliest words.
        seed: of the draws.
        max_tokens: of a completion; by default three for each word asked for.
        parameters: more of them, sent as they are.
        prompts: job → text, in the place of the paper's.
        document_words: words of a document that the model is shown.
        most_failed: share of a stage's prompts that may get no completion; what takes their place is marked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    writer: Literal["chat", "local"] = "chat"
    model: str = Field(min_length=1)
    temperature: float = Field(default=0.0, ge=0)
    seed: int | None = 0
    max_tokens: int | None = Field(default=None, ge=1)
    parameters: dict[str, Any] = {}
    prompts: dict[str, str] = {}
    document_words: int = Field(default=1500, ge=1)
    most_failed: float = Field(default=0.01, ge=0, le=1)

    def sampling(self) -> Sampling:
        """As writers take it."""
        from retgen.connect.prompted import Sampling

        return Sampling(self.temperature, self.seed, self.max_tokens, self.parameters)

    def prompt_templates(self) -> dict[str, Prompt]:
        """As writers take them."""
        from retgen.llm.prompts import Prompt

        return {job: Prompt(job, text, "the recipe's own") for job, text in self.prompts.items()}


OpenWriter = Callable[[Author, "OnStanding"], "PromptedWriter"]
"""Opens the writer that an author stands for, telling the callback how far it is; called once for every stage."""

_OPEN: ContextVar[OpenWriter | None] = ContextVar("retgen_recipe_writer", default=None)


@contextlib.contextmanager
def written_by(open_writer: OpenWriter) -> Iterator[None]:
    """Let the stages that run in this block have their connectors written so.

    Example:
        ``with written_by(lambda author, on_standing: my_writer): run_recipe(recipe, data, out)``
    """
    token = _OPEN.set(open_writer)
    try:
        yield
    finally:
        _OPEN.reset(token)


def writer_of(context: StageContext, author: Author) -> PromptedWriter:
    """The live writer of a stage.

    Raises:
        StageError: nobody opened one.
    """
    opened = _OPEN.get()
    if opened is None:
        raise StageError(
            f"these connectors are written by {author.model!r}, and nothing says where it is",
            where=context.name,
            mend=f"Run it with --writer {author.writer} --model {author.model}",
        )

    def show(standing: Standing) -> None:
        tokens = standing.prompt_tokens + standing.completion_tokens
        context.progress(standing.done, standing.total or 0, f"{standing.cached} from the ledger, {tokens:,} tokens")

    return opened(author, show)
