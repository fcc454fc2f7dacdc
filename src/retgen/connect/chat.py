"""A writer behind an OpenAI-compatible endpoint: hosted models, vLLM, llama.cpp, ``transformers serve``, Ollama."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from retgen.connect.prompted import PromptedWriter, Sampling
from retgen.llm.client import EndpointClient
from retgen.llm.outcomes import Outcome
from retgen.llm.prompts import Prompt
from retgen.llm.requests import CompletionRequest


class ChatWriter(PromptedWriter):
    """Writes connectors with a chat model at an endpoint, many prompts at a time; each is paid for once.

    Interrupted in any way, it goes on where it stopped: the next call with the same items asks only for what the
    client's ledger lacks.

    Args:
        client: of the endpoint, with its ledger, limits and budget.
        model: its name there.
        prompts: job → prompt, in the place of the paper's.
        sampling: of all jobs, or job → sampling; greedy with seed 0 by default.
        document_words: words of a document that the model is shown.
        most_failed: share of a job's prompts that may get no completion, see `PromptedWriter`.

    Reference:
        UniGen, "LLM-based Connectors Generation" and "Iterative Enhancement Strategy".

    Example:
        >>> from retgen.llm import Endpoint, EndpointClient, Ledger
        >>> client = EndpointClient(Endpoint("http://localhost:8000/v1"), Ledger("ledger.sqlite"))  # doctest: +SKIP
        >>> writer = ChatWriter(client, "Qwen/Qwen3-8B")  # doctest: +SKIP
        >>> writer.summarise(documents, words=30)  # doctest: +SKIP
    """

    def __init__(
        self,
        client: EndpointClient,
        model: str,
        *,
        prompts: Mapping[str, Prompt] | None = None,
        sampling: Sampling | Mapping[str, Sampling] | None = None,
        document_words: int = 1500,
        most_failed: float = 0.0,
    ) -> None:
        super().__init__(
            model, prompts=prompts, sampling=sampling, document_words=document_words, most_failed=most_failed
        )
        self.client = client
        self.ledger = client.ledger

    def complete(self, requests: Iterable[CompletionRequest], total: int) -> list[Outcome]:
        """What became of each request, see `EndpointClient.complete`."""
        return self.client.complete(requests, total)
