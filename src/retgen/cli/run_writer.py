"""``retgen run --writer``: the language model of a recipe, one endpoint, ledger and budget for all of its stages."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retgen.cli.connect_writers import WriterOptions, local_writer, parameters_of
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.connect.local import LocalWriter
    from retgen.connect.prompted import PromptedWriter
    from retgen.llm.client import EndpointClient
    from retgen.llm.progress import OnStanding
    from retgen.recipes.writers import Author

LEDGER = Path("ledger.sqlite")
"""In the folder of a run, where no other is given."""


@dataclass
class RecipeWriter:
    """What the options of ``retgen run`` say of a language model; opens it when the first stage needs it.

    Args:
        options: as the command line has them.
    """

    options: WriterOptions
    _client: EndpointClient | None = field(default=None, init=False)
    _local: LocalWriter | None = field(default=None, init=False)

    def author(self) -> Author | None:
        """What of it decides what is written; None where no language model writes.

        Raises:
            UsageError: an unknown writer, or an option that is missing or of no use.
            FormatError: the prompts cannot be read.
        """
        from retgen.recipes.writers import Author

        options = self.options
        options.check(batch=False)
        if options.writer == "offline":
            return None
        from retgen.llm import read_prompts

        prompts = {} if options.prompts is None else read_prompts(options.prompts)
        given = {job: prompt.template for job, prompt in prompts.items() if prompt.source == str(options.prompts)}
        if not str(options.model).strip():
            raise UsageError("the model has no name", where="--model")
        return Author(
            writer="local" if options.writer == "local" else "chat",
            model=str(options.model),
            temperature=options.temperature,
            seed=options.seed,
            max_tokens=options.max_tokens,
            parameters=parameters_of(options.chat.parameters),
            prompts=given,
        )

    def opened(self) -> AbstractContextManager[None]:
        """Let the stages of a recipe write with it, as long as the block lasts.

        Raises:
            UsageError: an option of the endpoint that cannot be used; said now, not when the first stage writes.
        """
        if self.options.writer == "offline":
            return nullcontext()
        from retgen.recipes.writers import written_by

        if self.options.writer == "chat":
            self._client = self.options.chat.client(self.options.ledger, None)
        return written_by(self._open)

    def _open(self, author: Author, on_standing: OnStanding) -> PromptedWriter:
        settings: dict[str, Any] = {
            "prompts": author.prompt_templates(),
            "sampling": author.sampling(),
            "document_words": author.document_words,
            "most_failed": author.most_failed,
        }
        if author.writer == "local":
            first = self._local
            if first is None:
                self._local = local_writer(self.options, on_standing=on_standing, **settings)
                return self._local
            return type(first)(
                first.network, first.tokenizer, first.name, ledger=first.ledger, on_standing=on_standing, **settings
            )
        from retgen.connect.chat import ChatWriter

        if self._client is None:
            self._client = self.options.chat.client(self.options.ledger, on_standing)
        self._client.on_standing = on_standing
        return ChatWriter(self._client, author.model, **settings)
